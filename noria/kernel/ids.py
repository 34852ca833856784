"""Identities: time-ordered ids, references to nouns, and the one grammar of handles that people type.

An id is a UUIDv7 as 32 lower-case hex digits: it sorts by creation and fits MLflow's run-id pattern.
A handle is `kind:name@selector`, as in `model:fraud@champion`, `dataset:clicks@12`, `run:0197…`.
"""

from __future__ import annotations

import re
import secrets
import time  # only as the default of new_id; services pass op.at_ms
from typing import NewType

from msgspec import Struct

from noria.kernel.errors import Invalid

ExperimentId = NewType("ExperimentId", str)
RunId = NewType("RunId", str)
JobId = NewType("JobId", str)
OpId = NewType("OpId", str)
DatasetVersionId = NewType("DatasetVersionId", str)
ModelVersionId = NewType("ModelVersionId", str)
PipelineRunId = NewType("PipelineRunId", str)
StepRunId = NewType("StepRunId", str)
RevisionId = NewType("RevisionId", str)
PrincipalId = NewType("PrincipalId", str)

DEFAULT_WORKSPACE = "0" * 32

NAME_LENGTH_MAX = 256  # MLflow's limit for a registered model's name.
_NAME = re.compile(r"^(?!\s)[^/:@\x00-\x1f]+(?<!\s)\Z")
_HANDLE = re.compile(r"^(?:(?P<kind>[a-z_]+):)?(?P<name>[^:@\x00-\x1f]+?)(?:@(?P<selector>[^@\x00-\x1f]+))?\Z")


def new_id(at_ms: int | None = None) -> str:
    """A new UUIDv7 (RFC 9562) as 32 hex digits; `at_ms` is its time, now by default."""
    at_ms = time.time_ns() // 1_000_000 if at_ms is None else at_ms
    random = secrets.randbits(74)
    value = (at_ms & (1 << 48) - 1) << 80 | 0x7 << 76 | (random >> 62) << 64 | 0b10 << 62 | random & (1 << 62) - 1
    return f"{value:032x}"


class Ref(Struct, frozen=True, order=True):
    """That thing there: `run:0197…`, `model:fraud`."""

    kind: str
    id: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.id}"

    @classmethod
    def parse(cls, text: str) -> Ref:
        """Read `kind:id`. Raises Invalid."""
        kind, colon, ident = text.partition(":")
        if not (kind and colon and ident):
            raise Invalid(f"{text!r} is not a reference.", hint="Write it as kind:id, for instance run:0197c0de.")
        return cls(kind, ident)


class Handle(Struct, frozen=True):
    """What a person types to name a version of something."""

    kind: str
    name: str
    selector: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}" + (f"@{self.selector}" if self.selector else "")


def parse_handle(text: str, *, kind: str) -> Handle:
    """Read `[kind:]name[@selector]`; `kind` is what is expected here. Raises Invalid."""
    found = _HANDLE.match(text.strip())
    if not found:
        raise Invalid(
            f"{text!r} does not name a {kind}.", hint=f"Write {kind}:name@selector, for instance {kind}:flights@3."
        )
    if found["kind"] not in (None, kind):
        raise Invalid(f"{text!r} names a {found['kind']}, but a {kind} is needed here.")
    return Handle(kind, found["name"], found["selector"] or "")


def check_name(name: str, *, what: str) -> str:
    """`name` if people can type it in a handle and a URL; else Invalid."""
    if not isinstance(name, str) or not name.strip():
        raise Invalid(f"A {what} needs a name.", where="name")
    if len(name) > NAME_LENGTH_MAX:
        raise Invalid(f"The {what} name has {len(name)} characters; at most {NAME_LENGTH_MAX} are allowed.", where="name")
    if not _NAME.match(name) or name in (".", ".."):
        raise Invalid(
            f"{name!r} cannot be the name of a {what}.",
            where="name",
            hint="Names may not contain '/', ':', '@' or control characters, nor start or end with a space.",
        )
    return name
