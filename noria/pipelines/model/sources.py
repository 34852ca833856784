"""Where an input of a step comes from."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from noria.pipelines.model.values import Saved


class FromParam(Struct, frozen=True, tag="param", tag_field="from"):
    """A parameter of the pipeline, or the part of it at `path`."""

    name: str
    path: list[str | int] = []


class FromStep(Struct, frozen=True, tag="step", tag_field="from"):
    """What a step returned, or the part of it at `path`."""

    step: str
    path: list[str | int] = []


class FromValue(Struct, frozen=True, tag="value", tag_field="from"):
    """A JSON value written in the pipeline."""

    value: Any


class FromBlob(Struct, frozen=True, tag="blob", tag_field="from"):
    """A value written in the pipeline that is not JSON: kept when the pipeline was traced; pickled, unless it says how."""

    digest: str
    size_bytes: int
    saved: Saved | None = None


class FromList(Struct, frozen=True, tag="list", tag_field="from"):
    """A list of inputs: how fan-out comes together again."""

    items: list[FromParam | FromStep | FromValue | FromBlob | FromList | FromDict | FromFirst]


class FromDict(Struct, frozen=True, tag="dict", tag_field="from"):
    """A dict of inputs."""

    items: dict[str, FromParam | FromStep | FromValue | FromBlob | FromList | FromDict | FromFirst]


class FromFirst(Struct, frozen=True, tag="first", tag_field="from"):
    """The first of these that is there: whose steps were not passed over. `default` when none is."""

    items: list[FromParam | FromStep | FromValue | FromBlob | FromList | FromDict | FromFirst]
    default: Any = None
    has_default: bool = False


Source = FromParam | FromStep | FromValue | FromBlob | FromList | FromDict | FromFirst
