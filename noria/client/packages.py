"""The packages of a step, when they are not those of the worker: `@noria.step(env=noria.uv("scikit-learn==1.7"))`.

What was asked for is resolved when the pipeline is submitted, to exact versions with their digests. The worker builds that and
nothing else. Addresses of package indexes are never part of it: each machine uses those that its `uv` is configured for.
"""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

from blake3 import blake3

from noria.kernel.environments import uv_program
from noria.kernel.errors import Invalid
from noria.pipelines.model.spec import EnvironmentSpec

RESOLVE_TIMEOUT_S = 300.0
PYTHON_LEAST = (3, 11)  # Noria's own
_QUIET = ("--no-annotate", "--no-header", "--no-progress", "--quiet")
_PYTHON = re.compile(r"^3\.(\d+)(\.\d+)?\Z")
_PINNED = re.compile(r"^[A-Za-z0-9][\w.\-]*(\[[\w,.\- ]*\])?\s*==\s*[^*\s;\\]+")
_INDEX = re.compile(r"^\s*(-i|-f|--index-url|--extra-index-url|--find-links|--trusted-host|--no-index)\b")


class Uv:
    """Packages for a step, as somebody asked for them."""

    def __init__(self, packages: tuple[str, ...], requirements: str, lock: str, project: str, python: str) -> None:
        self.packages, self.requirements, self.lock, self.project = packages, requirements, lock, project
        self.python = python or f"3.{sys.version_info[1]}"

    def __repr__(self) -> str:
        return f"noria.uv({', '.join(map(repr, self.asked()))})"

    def asked(self) -> list[str]:
        """What was asked for, in one line each."""
        files = [("-r", self.requirements), ("lock", self.lock), ("project", self.project)]
        return [*self.packages, *(f"{mark} {path}" for mark, path in files if path)]

    def resolved(self, folder: Path) -> tuple[EnvironmentSpec, bytes]:
        """Exact versions, and the lock that lists them. Relative paths start at `folder`. Raises Invalid."""
        if self.lock:
            text = _locked(_text(folder / self.lock), self.lock)
        elif self.project:
            text = _exported(folder / self.project)
        else:
            text = _compiled(self._wanted(folder), self.python)
        body = text.encode()
        digest = blake3(body).hexdigest()
        return EnvironmentSpec(lock_digest=digest, python=self.python, asked=self.asked()), body

    def _wanted(self, folder: Path) -> str:
        """One requirement a line."""
        lines = list(self.packages)
        if self.requirements:
            lines += _text(folder / self.requirements).splitlines()
        lines = [line for line in lines if not _INDEX.match(line)]
        for line in lines:
            _refuse_local(line)
        return "\n".join(lines) + "\n"


def uv(*packages: str, requirements: str = "", lock: str = "", project: str = "", python: str = "") -> Uv:
    """An environment of its own for a step: exactly these packages and what they need, and Noria's client.

    `packages`: as in a requirements file, `"scikit-learn==1.7"`; or `requirements`: such a file.
    `lock`: a requirements file in which every version is exact, taken as it is.
    `project`: a folder with `pyproject.toml` and `uv.lock`; its dependencies, not the project itself.
    `python`: "3.12"; else the version that submits. Paths are relative to the pipeline's file.
    """
    given = [bool(packages or requirements), bool(lock), bool(project)]
    if sum(given) != 1:
        raise Invalid(
            "uv() takes packages, or one of requirements=, lock= and project=.", where="env",
            hint='Write it as noria.uv("scikit-learn==1.7") or noria.uv(project=".").',
        )  # fmt: skip
    found = _PYTHON.match(python) if python else None
    if python and (not found or int(found[1]) < PYTHON_LEAST[1]):
        raise Invalid(f"python is {python!r}; it must be 3.{PYTHON_LEAST[1]} or newer, written as 3.12.", where="env")
    return Uv(packages, requirements, lock, project, python)


@cache
def _compiled(wanted: str, python: str) -> str:
    """Resolve; once per process, for a pipeline has many steps with the same packages."""
    args = ["pip", "compile", "-", "--universal", "--generate-hashes", "--python-version", python]
    text = run_uv([*args, "--no-emit-index-url", "--no-emit-find-links", *_QUIET], wanted)
    return _locked(text, "what uv resolved")


@cache
def _exported(folder: Path) -> str:
    for name in ("pyproject.toml", "uv.lock"):
        if not (folder / name).is_file():
            raise Invalid(f"There is no {name} in {folder}.", where="env", hint="Make the lock with: uv lock.")
    args = ["export", "--project", str(folder), "--frozen", "--no-emit-project", "--no-emit-workspace", "--no-dev"]
    text = run_uv([*args, "--format", "requirements-txt", "--no-annotate", "--no-header", "--quiet"], "")
    return _locked(text, "uv.lock")


def run_uv(args: list[str], text: str) -> str:
    """What uv prints. Raises Invalid with its reason."""
    try:
        done = subprocess.run(
            [uv_program(), *args], input=text, capture_output=True, text=True, timeout=RESOLVE_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as cause:
        raise Invalid(f"uv took longer than {RESOLVE_TIMEOUT_S:.0f} s to resolve the packages.", where="env") from cause
    if done.returncode:
        raise Invalid(f"The packages cannot be resolved. {_reason(done.stderr)}", where="env")
    return done.stdout


def _reason(text: str) -> str:
    """What uv says, in one line."""
    words = re.sub(r"[×╰─▶│]", " ", text).split()
    return " ".join(words)[:1500]


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as cause:
        raise Invalid(f"{path} cannot be read ({cause.strerror}).", where="env") from cause


def _locked(text: str, name: str) -> str:
    """A lock without addresses of indexes. Raises Invalid when a version is not exact, or a package comes from a path."""
    lines = [line for line in text.splitlines() if line.strip() and not _INDEX.match(line)]
    for line in lines:
        if line.startswith((" ", "\t", "#", "--hash")):
            continue
        _refuse_local(line)
        if not _PINNED.match(line):
            shown = line.strip(" \\")
            raise Invalid(
                f"{shown!r} in {name} is not an exact version.", where="env",
                hint="A lock has name==version in each line; give the file as requirements= to have it resolved.",
            )  # fmt: skip
    return "\n".join(lines) + "\n"


def _refuse_local(line: str) -> None:
    if re.match(r"\s*(-e|--editable|\.|/|file:)", line) or re.search(r"@\s*(file:|\.|/)", line):
        raise Invalid(
            f"{line.strip()!r} is a folder of this machine, which a worker has not.", where="env",
            hint="The pipeline's own folder travels with it already; other code has to be a published package.",
        )  # fmt: skip
    if re.search(r"@\s*\w[\w+]*://", line):
        raise Invalid(
            f"{line.strip()!r} names an address, whose content can change.",
            where="env",
            hint="Name a version: package==1.2.",
        )
