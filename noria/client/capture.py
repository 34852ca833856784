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
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from blake3 import blake3
from msgspec import Struct

from noria.client.environment import archive_folder, environment, environment_of, git_root, git_state
from noria.kernel.errors import Invalid

SOURCE_NAME_LENGTH_MAX = 8_000
ARGV_LENGTH_MAX = 60_000  # as one tag
SOURCE_ARCHIVE = "source/code.tar.gz"


class Captured(Struct, frozen=True):
    """Tags of a run, and files to be stored with it."""

    tags: dict[str, str]
    files: dict[str, bytes]


def capture(command: Sequence[str], *, folder: Path | None = None) -> Captured:
    """What runs here: `command` in `folder` (here, when None)."""
    return _captured(command, folder, environment())


def capture_launched(command: Sequence[str]) -> Captured:
    """What is about to run in a process of its own, in the environment of the interpreter that it names."""
    return _captured(command, None, _environment(command))


def _captured(command: Sequence[str], folder: Path | None, found: tuple[str, bytes]) -> Captured:
    digest, lock = found
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


def _environment(command: Sequence[str]) -> tuple[str, bytes]:
    """That of the interpreter which a command names or is a script of, else of this one."""
    python = interpreter_of(command)
    if python is None or Path(python).parent.resolve() == Path(sys.executable).parent.resolve():
        return environment()
    try:
        return environment_of(python)
    except Invalid:  # something that is only called like it
        return environment()


def interpreter_of(command: Sequence[str]) -> str | None:
    """The Python that runs a command, where one can see it: `python …`, or a script whose first line names it."""
    program = shutil.which(command[0]) if command else None
    if program is None:
        return None
    if re.fullmatch(r"python[\d.]*", Path(program).name):
        return program
    with suppress(OSError), Path(program).open("rb") as file:
        first = file.readline(500).decode("utf-8", "replace").strip()
        if found := re.fullmatch(r"#!\s*(\S*/python[\d.]*)", first):
            return found[1]
    return None


def capture_source(command: Sequence[str], *, folder: Path | None = None) -> Captured:
    """The code itself, as one archive, and where in it the command began.

    Of a git repository all that git does not ignore, else of the folder that the command runs in when its file is below it,
    else of the file's folder. When that is too much for code, nothing is kept, and a tag says so.
    """
    here = (folder or Path.cwd()).resolve()
    root = _source_root(here, command)
    if root is None:
        return Captured({}, {})
    try:
        archive = archive_folder(root)
    except (Invalid, OSError) as error:
        return Captured({"noria.source.left_out": str(error)[:500]}, {})
    cwd = here.relative_to(root).as_posix() if here.is_relative_to(root) else "."
    tags = {"noria.source_digest": blake3(archive).hexdigest(), "noria.source.root": str(root), "noria.source.cwd": cwd}
    return Captured(tags, {SOURCE_ARCHIVE: archive})


def _source_root(here: Path, command: Sequence[str]) -> Path | None:
    """The folder whose code a command uses; None when it runs no file of ours."""
    if (found := git_root(here)) is not None:
        return found
    files = [here / argument for argument in command if argument.endswith(".py") and (here / argument).is_file()]
    if not files:
        return None
    file = files[0].resolve()
    return here if file.is_relative_to(here) and here not in (Path.home(), Path(here.anchor)) else file.parent


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
    if "-m" in sys.orig_argv[1:3] or (sys.argv and sys.argv[0].endswith(".py")):
        return ["python", *(sys.orig_argv[1:] if len(sys.orig_argv) > len(sys.argv) else sys.argv)]
    return list(sys.argv)


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
