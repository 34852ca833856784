"""`noria.toml` of a project: which server the commands in this folder talk to, and where its data lies. `noria init` writes one.

It is the file of a repository, so it may be somebody else's: a token is never taken from it, and that of NORIA_TOKEN is sent
only where NORIA_URL says, not where this file says.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from msgspec import Struct, ValidationError, convert

from noria.kernel.errors import Invalid

FILE = "noria.toml"
_MARK_OF_A_HOME = "noria.db"  # a server's home has a noria.toml too: settings of the server


class Project(Struct, frozen=True, forbid_unknown_fields=True):
    """What the file says. `data`: names of data sets, and the file or folder each is committed from."""

    url: str = ""
    data: dict[str, str] = {}


def find(start: Path | None = None) -> tuple[Path, Project] | None:
    """The project around `start` (default: the working folder): its folder and its file. Raises Invalid."""
    here = (start or Path.cwd()).absolute()
    for folder in (here, *here.parents):
        if (folder / FILE).is_file() and not (folder / _MARK_OF_A_HOME).exists():
            return folder, read(folder / FILE)
    return None


def read(path: Path) -> Project:
    """Read and check a project's file. Raises Invalid."""
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as cause:
        raise Invalid(f"{path} is not valid TOML: {cause}.", where=FILE) from cause
    if "token" in values:
        raise Invalid(
            f"{path} has a token; a file of a project is no place for it.",
            where="token",
            hint="Take it out, revoke it (noria token revoke), and sign in with noria login or NORIA_TOKEN.",
        )
    try:
        return convert(values, Project)
    except ValidationError as cause:
        raise Invalid(
            f"{path}: {cause}.",
            where=FILE,
            hint="A project's file has url and [data]; a server's settings stand in its home.",
        ) from cause


def url() -> str:
    """The server that the project's file names; '' when it names none."""
    found = find()
    return found[1].url if found else ""


def data_path(name: str) -> Path:
    """Where the project keeps the files of data set `name`. Raises Invalid when its file does not say."""
    found = find()
    if found is None or name not in found[1].data:
        raise Invalid(
            f"Which files are {name}?",
            where="path",
            hint=f'Give a path: noria data commit {name} PATH. Or name it once in {FILE}, below [data]: {name} = "data/".',
        )
    return found[0] / found[1].data[name]
