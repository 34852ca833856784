"""The values that travel between steps."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct


class Json(Struct, frozen=True, tag="json", tag_field="as"):
    """A plain value."""

    value: Any


class Pickle(Struct, frozen=True, tag="pickle", tag_field="as"):
    """A value the server cannot read and never does: cloudpickle bytes under their digest."""

    digest: str
    size_bytes: int
    type: str = ""
    length: int | None = None  # of a list: how many steps it can be spread over


class Saved(Struct, frozen=True, tag="saved", tag_field="as"):
    """A value in files, as a materialiser wrote them: the file itself, or a tar of several."""

    digest: str
    size_bytes: int
    type: str
    materialiser: str
    version: int
    name: str = ""  # of the file; empty for a tar


class Many(Struct, frozen=True, tag="many", tag_field="as"):
    """A tuple or list of values, each stored on its own."""

    items: list[Json | Pickle | Saved | Many | Named | Part]
    kind: Literal["tuple", "list"] = "list"


class Named(Struct, frozen=True, tag="named", tag_field="as"):
    """A dict of values, each stored on its own."""

    items: dict[str, Json | Pickle | Saved | Many | Named | Part]


class Part(Struct, frozen=True, tag="part", tag_field="as"):
    """What is at `path` of a value that the server cannot read; looked up in the step's process."""

    value: Stored
    path: list[str | int]


Stored = Pickle | Saved
Value = Json | Pickle | Saved | Many | Named | Part


def stored(value: Value) -> list[Stored]:
    """Every part that is kept as a blob."""
    if isinstance(value, Pickle | Saved):
        return [value]
    if isinstance(value, Part):
        return [value.value]
    if isinstance(value, Many):
        return [found for item in value.items for found in stored(item)]
    if isinstance(value, Named):
        return [found for item in value.items.values() for found in stored(item)]
    return []
