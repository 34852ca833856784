"""Assessments: what people, judges and programs said of traces, and what overrides what."""

from __future__ import annotations

from typing import Any, Protocol

from msgspec import structs

from noria.kernel.db import Database, Read, Write, js
from noria.kernel.errors import AlreadyExists, Invalid, NotFound
from noria.kernel.ids import Ref, new_id
from noria.kernel.op import Op
from noria.tracking import trace_store as store
from noria.tracking.trace_model import (
    ASSESSMENTS_PER_TRACE,
    NAME_LENGTH_MAX,
    SOURCE_TYPES,
    TEXT_LENGTH_MAX,
    Assessment,
    AssessmentChange,
    check_pairs,
    check_time,
)


class TraceRows(Protocol):
    """What assessments need of traces: the row of one on which the caller may do something."""

    def row(self, tx: Read, op: Op, action: str, trace_id: str, *, lock: bool = False) -> dict[str, Any]: ...


class Assessments:
    """The service."""

    def __init__(self, db: Database, traces: TraceRows) -> None:
        self._db, self._traces = db, traces

    def create(self, op: Op, assessment: Assessment) -> Assessment:
        """Keep an assessment; the one it overrides is no longer valid. Raises NotFound, Invalid, AlreadyExists, Forbidden."""
        made = checked(structs.replace(assessment, id=assessment.id or "a-" + new_id(op.at_ms), actor=op.actor.label))
        with self._db.write(op) as tx:
            self._traces.row(tx, op, "run.log", made.trace_id, lock=True)
            if store.owners_of(tx, [made.id]):
                raise AlreadyExists(f"There is an assessment {made.id!r} already.", hint="Leave the id out.")
            if made.overrides and not store.set_valid(tx, made.trace_id, made.overrides, False):
                raise NotFound(_absent(made.overrides, made.trace_id))
            self.put(tx, made.trace_id, [made])
            if made.source_type == "HUMAN":
                tx.emit(
                    "assessment.created", Ref("assessment", made.id), trace_id=made.trace_id, name=made.name, kind=made.kind,
                    source=made.source_id, overrides=made.overrides,
                )  # fmt: skip
        return made

    def put(self, tx: Write, trace_id: str, found: list[Assessment]) -> None:
        """Keep assessments of one trace, in the caller's transaction. Raises AlreadyExists, Invalid."""
        for assessment_id, owner in store.owners_of(tx, [a.id for a in found]).items():
            if owner != trace_id:
                raise AlreadyExists(f"There is an assessment {assessment_id!r} already.", hint="Leave the id out.")
        store.put_assessments(tx, found)
        if found and store.assessments_count(tx, trace_id) > ASSESSMENTS_PER_TRACE:
            raise Invalid(f"A trace has at most {ASSESSMENTS_PER_TRACE} assessments.", hint="Update or delete one.")

    def get(self, op: Op, trace_id: str, assessment_id: str) -> Assessment:
        """One assessment, valid or not. Raises NotFound."""
        with self._db.read() as tx:
            return self._one(tx, op, "run.read", trace_id, assessment_id)

    def update(self, op: Op, trace_id: str, assessment_id: str, change: AssessmentChange) -> Assessment:
        """Change an assessment; its source stays. Metadata is merged. Raises NotFound, Invalid, Forbidden."""
        with self._db.write(op) as tx:
            found = self._one(tx, op, "run.log", trace_id, assessment_id)
            if change.kind is not None and change.kind != found.kind:
                raise Invalid(f"Cannot update the {change.kind} value of an assessment that is {found.kind}.", where="value")
            made = structs.replace(
                found, name=found.name if change.name is None else change.name,
                rationale=found.rationale if change.rationale is None else change.rationale,
                metadata={**found.metadata, **(change.metadata or {})}, updated_at_ms=op.at_ms,
            )  # fmt: skip
            if change.has_value:
                made = structs.replace(made, value=change.value, error=change.error, format=change.format)
            store.put_assessments(tx, [checked(made)])
            tx.emit("assessment.updated", Ref("assessment", made.id), trace_id=trace_id, name=made.name)
        return made

    def delete(self, op: Op, trace_id: str, assessment_id: str) -> None:
        """Remove an assessment; what it overrode is valid again. Removing one that is gone is no error. Raises NotFound, Forbidden."""
        with self._db.write(op) as tx:
            self._traces.row(tx, op, "run.log", trace_id, lock=True)
            found = store.assessment(tx, trace_id, assessment_id)
            if found is None:
                return
            if found.overrides:
                store.set_valid(tx, trace_id, found.overrides, True)
            store.remove_assessment(tx, assessment_id)
            tx.emit(
                "assessment.deleted",
                Ref("assessment", found.id),
                trace_id=trace_id,
                name=found.name,
                overrides=found.overrides,
            )

    def _one(self, tx: Read, op: Op, action: str, trace_id: str, assessment_id: str) -> Assessment:
        self._traces.row(tx, op, action, trace_id, lock=action == "run.log")
        found = store.assessment(tx, trace_id, assessment_id)
        if found is None:
            raise NotFound(_absent(assessment_id, trace_id))
        return found


def _absent(assessment_id: str, trace_id: str) -> str:
    return f"Assessment with ID {assessment_id[:80]!r} not found for trace {trace_id[:80]!r}."


def checked(found: Assessment) -> Assessment:
    """`found` if it can be kept. Raises Invalid: nothing is cut."""
    if not found.name or len(found.name) > NAME_LENGTH_MAX:
        raise Invalid(f"The name of an assessment has 1 to {NAME_LENGTH_MAX} characters.", where="assessment_name")
    if found.source_type not in SOURCE_TYPES:
        raise Invalid(f"{found.source_type[:80]!r} is not a source type.", where="source.source_type")
    for text, where in ((found.source_id, "source.source_id"), (found.span_id, "span_id"), (found.id, "assessment_id"),
                        (found.overrides, "overrides")):  # fmt: skip
        if len(text) > NAME_LENGTH_MAX:
            raise Invalid(f"{where} has at most {NAME_LENGTH_MAX} characters.", where=where)
    for text, where in ((js(found.value), "value"), (js(found.error), "error"), (found.rationale or "", "rationale")):
        if len(text) > TEXT_LENGTH_MAX:
            raise Invalid(f"The {where} of an assessment has at most {TEXT_LENGTH_MAX} characters.", where=where)
    check_pairs(found.metadata, "metadata")
    check_time(found.created_at_ms, "create_time")
    check_time(found.updated_at_ms, "last_update_time")
    return found
