"""The conditions of steps: tests of values, as data."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from noria.pipelines.model.sources import Source


class Truth(Struct, frozen=True, tag="truth", tag_field="test"):
    """A value that is neither false, nor zero, nor empty, nor missing."""

    value: Source


class Compare(Struct, frozen=True, tag="compare", tag_field="test"):
    """Two values, compared as Python compares them."""

    left: Source
    op: Literal["==", "!=", ">", ">=", "<", "<="]
    right: Source


class Every(Struct, frozen=True, tag="and", tag_field="test"):
    """All of these hold."""

    of: list[Truth | Compare | Every | Some | Not]


class Some(Struct, frozen=True, tag="or", tag_field="test"):
    """One of these holds."""

    of: list[Truth | Compare | Every | Some | Not]


class Not(Struct, frozen=True, tag="not", tag_field="test"):
    """This does not hold."""

    of: Truth | Compare | Every | Some | Not


Test = Truth | Compare | Every | Some | Not
