"""A captured run, built again in a clean place: its code, its environment, the versions of data that it read.

What cannot be the same is said, not guessed: `Rebuilt.notes`.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from msgspec import Struct, field

import noria
from noria.client.capture import SOURCE_ARCHIVE, processor
from noria.client.environment import environment_of, unpack_code
from noria.client.gpus import gpus
from noria.client.packages import run_uv
from noria.kernel.environments import uv_program
from noria.kernel.errors import Invalid, NotFound
from noria.kernel.linking import CLIENT_NEEDS, link, link_packages

GIT_TIMEOUT_S = 600.0
ENVIRONMENT_TIMEOUT_S = 1800.0
_VERSION = re.compile(r"[\w.!+]+")

Say = Callable[[str], None]


class Rebuilt(Struct):
    """What there is now in the place, and how it differs from what was."""

    code: Path
    cwd: Path
    python: Path
    environment: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def rebuild(run: Mapping[str, Any], read: Callable[[str], bytes], place: Path, *, repository: Path, say: Say) -> Rebuilt:
    """Build everything that the tracking run had in `place`. `read` gives a file of the run.

    `repository`: where the commit is looked for when the run kept no archive. Raises Invalid when it cannot be built.
    """
    tags, notes = run["tags"], list[str]()
    code = place / "code"
    notes += _rebuild_code(tags, read, code, repository, say)
    captured = json.loads(_file(read, "environment/environment.json", "its environment"))
    python, more = rebuild_environment(captured, place, say)
    cwd = code / tags.get("noria.source.cwd", ".")
    if not cwd.is_dir():
        cwd = code
    notes += [*more, *_machine_notes(tags, captured)]
    return Rebuilt(code=code, cwd=cwd, python=python, environment=json.loads(environment_of(str(python))[1]), notes=notes)


def command_of(tags: Mapping[str, str], code: Path, python: Path) -> list[str]:
    """The command line as it is to be here: paths below the code's old place are below its new one."""
    try:
        argv = [str(argument) for argument in json.loads(tags.get("noria.argv", "[]"))]
    except ValueError:
        argv = []
    if not argv:
        raise Invalid("The run does not say with which command it was made (noria.argv).", where="run")
    if any("[left out]" in argument for argument in argv):
        raise Invalid(
            f"The command had a secret, which was not kept: {shlex.join(argv)}.", where="run",
            hint="Give it in a variable of the environment instead.",
        )  # fmt: skip
    root = tags.get("noria.source.root", "")
    if root:
        argv = [str(code / a.removeprefix(root).lstrip("/")) if a.startswith(root + "/") else a for a in argv]
    if re.fullmatch(r"(.*/)?python[\d.]*", argv[0]):
        argv[0] = str(python)
    return argv


# --- code -----------------------------------------------------------------------------------------------------------------


def _rebuild_code(
    tags: Mapping[str, str], read: Callable[[str], bytes], target: Path, repository: Path, say: Say
) -> list[str]:
    """The files, from the archive that the run kept, else from commit and difference. Returns what is not the same."""
    try:
        archive = read(SOURCE_ARCHIVE)
    except NotFound:
        return _from_commit(tags, read, target, repository, say)
    unpack_code(archive, target)
    say(f"Code: {sum(1 for f in target.rglob('*') if f.is_file())} files as they were.")
    return ["Files that git ignores, and files beside the code, are not part of it."]


def _from_commit(
    tags: Mapping[str, str], read: Callable[[str], bytes], target: Path, repository: Path, say: Say
) -> list[str]:
    commit = tags.get("mlflow.source.git.commit", "")
    if not commit:
        why = tags.get("noria.source.left_out") or "it was made outside of git, before Noria kept code."
        raise Invalid(f"The run kept no code: {why}", where="run")
    places = [str(repository), tags.get("mlflow.source.git.repoURL", "")]
    for place in filter(None, places):
        shutil.rmtree(target, ignore_errors=True)
        cloned = not _git(["clone", "--quiet", "--no-checkout", place, str(target)])
        if cloned and not _git(["-C", str(target), "checkout", "--quiet", commit]):
            break
    else:
        raise Invalid(
            f"The commit {commit[:12]} is not to be had from {' nor '.join(filter(None, places))}.", where="run",
            hint="Name a repository that has it: --repository FOLDER.",
        )  # fmt: skip
    notes = ["Files that were not in git are missing: the run kept the commit, not the files."]
    if tags.get("noria.source.diff_digest"):
        diff = target.parent / "uncommitted.diff"
        diff.write_bytes(_file(read, "source/uncommitted.diff", "its uncommitted changes"))
        if error := _git(["-C", str(target), "apply", "--whitespace=nowarn", str(diff.resolve())]):
            raise Invalid(f"The uncommitted changes do not apply: {error}", where="run")
    say(f"Code: commit {commit[:12]}{' and the uncommitted changes' if tags.get('noria.source.diff_digest') else ''}.")
    return notes


def _git(args: list[str]) -> str:
    """Why it failed; '' when it did not."""
    done = subprocess.run(["git", *args], capture_output=True, text=True, timeout=GIT_TIMEOUT_S, check=False)
    return "" if done.returncode == 0 else (done.stderr.strip() or f"git ended with {done.returncode}")[-500:]


def _file(read: Callable[[str], bytes], path: str, what: str) -> bytes:
    try:
        return read(path)
    except NotFound as cause:
        raise Invalid(f"The run did not keep {what} ({path}).", where="run") from cause


# --- environment ----------------------------------------------------------------------------------------------------------


def rebuild_environment(captured: Mapping[str, Any], place: Path, say: Say) -> tuple[Path, list[str]]:
    """An environment with the captured packages in `place/venv`: (its interpreter, what is not the same)."""
    lines, notes = pinned_packages(captured["packages"])
    venv = place / "venv"
    version = str(captured["python"])
    for wanted in (version, ".".join(version.split(".")[:2])):
        if not _uv(["venv", "--quiet", "--no-project", "--python", wanted, str(venv)]):
            break
    else:
        if error := _uv(["venv", "--quiet", "--no-project", "--python", sys.executable, str(venv)]):
            raise Invalid(f"No environment could be made: {error}", where="environment")
    python = venv / "bin" / "python"
    if lines:
        wanted_file = place / "requirements.txt"
        wanted_file.write_text("\n".join(lines) + "\n")
        args = ["pip", "install", "--quiet", "--no-deps", "--python", str(python), "-r", str(wanted_file)]
        if error := _uv(args):
            raise Invalid(f"The packages cannot be installed: {error}", where="environment")
    client, site = place / "client", next(venv.glob("lib/python3.*/site-packages"))
    if site.parent.name == f"python3.{sys.version_info[1]}":
        link_packages(client)
    else:
        needs = [f"{name}=={metadata.version(name)}" for name in CLIENT_NEEDS]
        if error := _uv(["pip", "install", "--quiet", "--python", str(python), "--target", str(client), *needs]):
            raise Invalid(f"Noria's client cannot be installed there: {error}", where="environment")
        for info in client.glob("*.dist-info"):
            shutil.rmtree(info)
        link(client / "noria", Path(noria.__file__).parent)
    (site / "zz_noria_client.pth").write_text(f"{client.resolve()}\n")
    say(f"Environment: Python {version}, {len(lines)} packages.")
    return python, notes


def pinned_packages(packages: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """(`name==version` of what an index has, notes about the rest)."""
    lines, notes = [], []
    for name, version in sorted(packages.items()):
        if name == "noria":
            continue  # this Noria's client is linked in
        if "+editable" in version:
            notes.append(f"The package {name} was a folder in development; it is left out.")
        elif re.search(r"\+[0-9a-f]{12}\Z", version):
            notes.append(f"The package {name} came from a repository ({version}); it is left out.")
        elif not _VERSION.fullmatch(version):
            notes.append(f"The package {name} has no version that can be asked for ({version!r}); it is left out.")
        else:
            lines.append(f"{name}=={version}")
    return lines, notes


def _uv(args: list[str]) -> str:
    """Why it failed; '' when it did not."""
    done = subprocess.run([uv_program(), *args], capture_output=True, text=True, timeout=ENVIRONMENT_TIMEOUT_S, check=False)
    return "" if done.returncode == 0 else " ".join(done.stderr.split())[-800:] or f"uv ended with {done.returncode}"


def compile_lock(packages: Mapping[str, str], python: str) -> tuple[str, list[str]]:
    """A lock with digests of captured packages, for the steps of a pipeline: (its text, what is not the same)."""
    lines, notes = pinned_packages(packages)
    args = [
        "pip",
        "compile",
        "-",
        "--no-deps",
        "--generate-hashes",
        "--python-version",
        python,
        "--no-annotate",
        "--no-header",
    ]
    text = (
        run_uv([*args, "--no-emit-index-url", "--no-emit-find-links", "--quiet"], "\n".join(lines) + "\n") if lines else "\n"
    )
    return text, notes


# --- machine --------------------------------------------------------------------------------------------------------------


def _machine_notes(tags: Mapping[str, str], captured: Mapping[str, Any]) -> list[str]:
    """How this machine differs from the one of the run."""
    import platform

    notes = []
    here = {"noria.cpu": processor(), "noria.gpu": ", ".join(gpu.name for gpu in gpus()), "noria.os": platform.platform()}
    names = {"noria.cpu": "processor", "noria.gpu": "GPU", "noria.os": "system"}
    for tag, name in names.items():
        was = tags.get(tag, "")
        if was and was != here[tag]:
            notes.append(f"Another {name}: it was {was}, here it is {here[tag] or 'none'}.")
    if captured.get("machine") and captured["machine"] != platform.machine():
        notes.append(f"Another architecture: it was {captured['machine']}, here it is {platform.machine()}.")
    if not tags.get("noria.seed"):
        notes.append("No seed was recorded: what the run drew at random may differ. noria.seed(7) sets and records one.")
    notes.append("Variables of the environment are never recorded; those of this process were given.")
    return notes
