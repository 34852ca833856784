"""Where a version's files come from. A closed list of forms, all of which name something this server holds:

    runs:/<run id>/<path>                     artifacts of a run
    models:/m-<id>                            a logged model
    models:/<name>/<number>, models:/<name>@<alias>     another version
    mlflow-artifacts:/<experiment>/<run id>/artifacts/<path>, mlflow-artifacts:/<experiment>/models/m-<id>/artifacts
                                              the same files, as the MLflow client writes them

Anything else (a path, file:, http:, a bucket) is refused: the server fetches nothing on a caller's word. A source is never
turned into a path on a disk; it is looked up by ids, and the names in it are compared, not opened.
"""

from __future__ import annotations

import re
from typing import Literal

from msgspec import Struct

from noria.kernel.errors import Invalid

VERSION_FOLDER = "model-versions"  # the MLflow client finds a version's files at mlflow-artifacts:/model-versions/<id>
SOURCE_LENGTH_MAX = 2_048
_SCHEME = re.compile(r"^(runs|models|mlflow-artifacts):/([^/].*)\Z")
_LOGGED_MODEL = re.compile(r"^m-[0-9a-zA-Z]{1,64}\Z")


class Source(Struct, frozen=True):
    """What a source names. `path` is relative, with no `..`, and '' for everything there is."""

    kind: Literal["run", "logged_model", "version"]
    id: str
    path: str = ""


def parse_source(text: str) -> Source:
    """Read a source. Raises Invalid for any form or spelling that is not in the list above."""
    if len(text) > SOURCE_LENGTH_MAX:
        raise _refuse(text, "It is too long.")
    if any(c in text for c in "%\\;#?") or any(ord(c) < 32 or ord(c) == 127 for c in text):
        raise _refuse(text, "It contains characters that a location does not have.")
    found = _SCHEME.match(text)
    if not found:
        raise _refuse(text, "Only locations on this server can be registered.")
    scheme, rest = found[1], found[2].rstrip("/")
    parts = rest.split("/")
    if any(part in ("", ".", "..") for part in parts) or re.match(r"^[A-Za-z]:", rest):
        raise _refuse(text, "It contains steps that lead elsewhere.")
    if scheme == "runs":
        return Source("run", parts[0], "/".join(parts[1:]))
    if scheme == "mlflow-artifacts":
        if len(parts) >= 4 and parts[1] == "models" and parts[3] == "artifacts":
            return Source("logged_model", parts[2], "/".join(parts[4:]))
        if len(parts) >= 3 and parts[2] == "artifacts":
            return Source("run", parts[1], "/".join(parts[3:]))
        if len(parts) == 2 and parts[0] == VERSION_FOLDER:
            return Source("version", parts[1])
        raise _refuse(text, "It names no run and no logged model.")
    if len(parts) == 1 and _LOGGED_MODEL.match(parts[0]):
        return Source("logged_model", parts[0])
    if len(parts) == 2 and parts[1].isdigit():
        return Source("version", f"{parts[0]}@{parts[1]}")
    if len(parts) == 1 and parts[0].count("@") == 1:
        return Source("version", parts[0])
    raise _refuse(text, "It names no logged model and no version.")


def _refuse(text: str, why: str) -> Invalid:
    return Invalid(
        f"{text[:120]!r} cannot be the source of a model version. {why}",
        where="source",
        hint="Use runs:/<run id>/<path>, models:/m-<id>, or models:/<name>/<version>.",
    )
