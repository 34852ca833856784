"""What a model says it needs, read from the files that MLflow wrote: never more than names, versions, markers and digests.

A model comes from whoever may register one, and pip's files can do more than name packages: they can point at another index, at a
folder, at an address, at a file to read. So each line is parsed and written anew from what was understood. Addresses of indexes are
left out, since each machine has its own; anything else that is no requirement is refused, with the line.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml
from msgspec import Struct
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from noria.kernel.errors import Invalid

BYTES_MAX = 4 << 20  # a lock with the digests of every wheel of a hundred packages has half of it
PYTHON_LEAST = (3, 11)  # Noria's own, whose worker runs in the environment
_INDEX = re.compile(r"(-i|-f|--index-url|--extra-index-url|--find-links|--trusted-host|--no-index)(?![\w-])")
_HASH = re.compile(r"\s--hash=(sha256:[0-9a-f]{64})(?!\S)")
_MLFLOW = frozenset({"mlflow", "mlflow-skinny"})
_VERSION = re.compile(r"3\.(\d+)(\.\d+)*\Z")


class Needs(Struct, frozen=True, kw_only=True):
    """What a model needs. `lock`: its own, exact and with digests; empty: what `wanted` and `limits` resolve to."""

    python: str = ""  # such as 3.12; empty: nobody said, or one that is too old to run a worker
    wanted: tuple[str, ...] = ()  # requirements, one each
    limits: tuple[str, ...] = ()  # constraints
    lock: str = ""
    notes: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """All of it, for a digest."""
        return "\n".join([self.python, *self.wanted, "", *self.limits, "", self.lock])


def read_needs(folder: Path, *, is_direct: bool) -> Needs:
    """What the model in `folder` needs; `is_direct`: it is loaded without MLflow. Raises Invalid, naming the line."""
    version, from_conda = _python_of(folder)
    notes: list[str] = []
    lines = list(_lines(folder, "requirements.txt")) if (folder / "requirements.txt").is_file() else from_conda
    wanted, limits, hashed, unhashed = [], [], [], 0
    for line in lines:
        if line.split(maxsplit=1)[0] in ("-c", "--constraint"):
            if line.split()[1:] != ["constraints.txt"]:
                raise _refused("requirements.txt", line, "only constraints.txt beside it can be named")
            limits += [_requirement("constraints.txt", each, notes)[0] for each in _lines(folder, "constraints.txt")]
            continue
        found, hashes = _requirement("requirements.txt", line, notes)
        if not found or (is_direct and canonicalize_name(Requirement(found).name) in _MLFLOW and not hashes):
            continue
        wanted.append(found)
        hashed.append(" \\\n    ".join([found, *(f"--hash={h}" for h in hashes)]))
        unhashed += not hashes
    python = _usable(version, notes)
    lock = "\n".join(hashed) + "\n" if wanted and not unhashed else ""
    return Needs(python=python, wanted=tuple(wanted), limits=tuple(x for x in limits if x), lock=lock, notes=tuple(notes))


def differences(needs: Needs) -> list[str]:
    """What this process's own environment does not have as the model needs it, in words; empty: it fits."""
    found = []
    own = f"3.{sys.version_info[1]}"
    if needs.python and needs.python != own:
        found.append(f"Python {needs.python} (the server's is {own})")
    for line in needs.wanted:
        wanted = Requirement(line)
        if wanted.marker is not None and not wanted.marker.evaluate():
            continue
        have = _installed(wanted.name)
        if have is None:
            found.append(f"{line} (the server has none)")
        elif not wanted.specifier.contains(have, prereleases=True):
            found.append(f"{line} (the server's is {have})")
    return found


def _installed(name: str) -> str | None:
    names = _MLFLOW if canonicalize_name(name) in _MLFLOW else (name,)
    for each in names:
        try:
            return metadata.version(each)
        except metadata.PackageNotFoundError:
            continue
    return None


def _lines(folder: Path, name: str) -> Iterator[str]:
    """The lines of a file of requirements: joined where they go on, without comments and empty ones."""
    for line in re.sub(r"\\\r?\n", " ", _text(folder / name)).splitlines():
        plain = re.sub(r"(^|\s)#.*$", "", line).strip()
        if plain:
            yield plain


def _requirement(file: str, line: str, notes: list[str]) -> tuple[str, list[str]]:
    """A line as a requirement and its digests; ('', []) for the address of an index. Raises Invalid."""
    if _INDEX.match(line):
        notes.append(f"{file} names an index of packages; this machine's own is asked instead.")
        return "", []
    hashes = _HASH.findall(line)
    try:
        found = Requirement(_HASH.sub("", line).strip())
    except InvalidRequirement as cause:
        raise _refused(file, line, "it is not a requirement") from cause
    if found.url:
        raise _refused(file, line, "it names an address, whose content can change")
    return str(found), hashes


def _refused(file: str, line: str, why: str) -> Invalid:
    return Invalid(
        f"{file} of the model has the line {line[:200]!r}: {why}.", where=file,
        hint="Log the model with pip_requirements that are published packages, such as scikit-learn==1.7.2.",
    )  # fmt: skip


def _python_of(folder: Path) -> tuple[str, list[str]]:
    """The version of Python that the model was logged with, and the packages that conda.yaml lists."""
    conda = _yaml(folder / "conda.yaml") if (folder / "conda.yaml").is_file() else {}
    version, listed = "", []
    for each in conda.get("dependencies") or []:
        if isinstance(each, dict):
            listed += [str(x) for x in each.get("pip") or []]
        elif re.match(r"python(?![\w-])", str(each)):
            version = re.sub(r"[^0-9.]", "", str(each).partition("=")[2])
        elif str(each).partition("=")[0].strip() not in ("pip", "setuptools", "wheel"):
            listed.append(re.sub(r"^([\w.\-]+)=(?!=)([^=]+).*$", r"\1==\2", str(each)))
    if (folder / "python_env.yaml").is_file():
        version = str(_yaml(folder / "python_env.yaml").get("python") or version)
    return version, listed


def _usable(version: str, notes: list[str]) -> str:
    found = _VERSION.match(version)
    if not found:
        return ""
    if int(found[1]) < PYTHON_LEAST[1]:
        notes.append(f"It was logged with Python {version}; a worker needs 3.{PYTHON_LEAST[1]}, so the server's is used.")
        return ""
    return f"3.{found[1]}"


def _yaml(path: Path) -> dict[str, Any]:
    """A small YAML file. One with aliases is refused: a few lines of them can stand for billions of values."""
    text = _text(path)
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise Invalid(f"{path.name} of the model has aliases, which are not followed.", where=path.name)
        found = yaml.safe_load(text)
    except yaml.YAMLError as cause:
        raise Invalid(f"{path.name} of the model is not YAML: {cause}.", where=path.name) from cause
    return found if isinstance(found, dict) else {}


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > BYTES_MAX:
            raise Invalid(f"{path.name} of the model is larger than {BYTES_MAX >> 20} MiB.", where=path.name)
        return path.read_text()
    except FileNotFoundError as cause:
        raise Invalid(f"The model names a file {path.name}, which it has not.", where=path.name) from cause
    except UnicodeDecodeError as cause:
        raise Invalid(f"{path.name} of the model is not UTF-8 text.", where=path.name) from cause
