"""What a run was, said once: commit and uncommitted changes, command line, packages, machine; as tags and files.

`noria.init()`, `noria run -- CMD` and the context that MLflow's client asks for all take it from here. Values of the process
environment are never recorded: they hold secrets; arguments are, without the values of those called token, password and the like.
"""

from __future__ import annotations

import getpass
import json
import os
import platform
import re
import shlex
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from blake3 import blake3
from msgspec import Struct

from noria.client.environment import environment, git_state

SOURCE_NAME_LENGTH_MAX = 8_000
ARGV_LENGTH_MAX = 60_000  # as one tag


class Captured(Struct, frozen=True):
    """Tags of a run, and files to be stored with it."""

    tags: dict[str, str]
    files: dict[str, bytes]


def capture(command: Sequence[str], *, folder: Path | None = None) -> Captured:
    """What is about to run, or runs: `command` in `folder` (here, when None)."""
    digest, lock = environment()
    packages = json.loads(lock)["packages"]
    files = {
        "environment/packages.txt": "".join(f"{name}=={packages[name]}\n" for name in sorted(packages)).encode(),
        "environment/environment.json": lock,
    }
    state = git_state(folder or Path.cwd())
    if state.diff:
        files["source/uncommitted.diff"] = state.diff
    tags = {
        "mlflow.user": user(), "mlflow.source.type": "LOCAL",
        "mlflow.source.name": shlex.join(without_secrets(command))[:SOURCE_NAME_LENGTH_MAX],
        **source_tags(command, folder=folder), "noria.environment_digest": digest, **machine(),
    }  # fmt: skip
    return Captured({key: value for key, value in tags.items() if value}, files)


def source_tags(command: Sequence[str], *, folder: Path | None = None) -> dict[str, str]:
    """Commit, uncommitted changes and arguments."""
    state = git_state(folder or Path.cwd())
    tags = {"noria.argv": _argv(command)}
    if state.commit:
        tags |= {
            "mlflow.source.git.commit": state.commit, "mlflow.source.git.dirty": str(state.is_dirty).lower(),
            "mlflow.source.git.branch": state.branch, "mlflow.source.git.repoURL": state.remote,
        }  # fmt: skip
        if state.diff:
            tags["noria.source.diff_digest"] = blake3(state.diff).hexdigest()
    return {key: value for key, value in tags.items() if value}


@lru_cache(maxsize=1)
def machine() -> dict[str, str]:
    """Python, system, processor, memory and GPUs."""
    import psutil

    from noria.client.gpus import gpus

    return {
        "noria.python": platform.python_version(), "noria.os": platform.platform(), "noria.host": platform.node(),
        "noria.cpu": processor(), "noria.cpu_count": str(os.cpu_count() or ""),
        "noria.memory_gb": f"{psutil.virtual_memory().total / (1 << 30):.1f}",
        "noria.gpu": ", ".join(gpu.name for gpu in gpus()),
    }  # fmt: skip


def processor() -> str:
    """The name of the processor; its kind where the system does not tell."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def this_command() -> list[str]:
    """The command line of this process, as somebody would type it."""
    return ["python", *sys.argv] if sys.argv and sys.argv[0].endswith(".py") else list(sys.argv)


def user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user has no name
        return ""


_SECRET_NAME = re.compile(r"(token|password|passwd|secret|api[-_]?key|credential)", re.IGNORECASE)
_NORIA_TOKEN = re.compile(r"nrk_[A-Za-z0-9_]+")


def without_secrets(command: Sequence[str]) -> list[str]:
    """The arguments, with the values of those that are called token, password and the like left out."""
    shown: list[str] = []
    hide_next = False
    for argument in command:
        name, equals, _ = argument.partition("=")
        if hide_next and not argument.startswith("-"):
            shown.append("[left out]")
        elif equals and _SECRET_NAME.search(name):
            shown.append(f"{name}=[left out]")
        else:
            shown.append(_NORIA_TOKEN.sub("nrk_[left out]", argument))
        hide_next = argument.startswith("-") and not equals and bool(_SECRET_NAME.search(name))
    return shown


def _argv(command: Sequence[str]) -> str:
    """The arguments as JSON, with the last ones left out when there are too many for a tag; it says so."""
    shown = without_secrets(command)
    text = json.dumps(shown)
    while len(text) > ARGV_LENGTH_MAX and len(shown) > 1:
        shown = [*shown[: len(shown) // 2], "[and more]"] if len(shown) > 2 else [shown[0][: ARGV_LENGTH_MAX // 8]]
        text = json.dumps(shown)
    return text
