"""Backfills: a pipeline run once for each of many dates, a few at a time, with a row for each date.

Invariants: a date of a backfill starts at most one run, by unique (backfill, date); never more than `parallel` of them go on; a
date that was done is not done again unless asked for. Locks: the backfill's row, then the pipeline's, then runs.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
from blake3 import blake3
from msgspec.structs import replace

from noria.kernel.db import Database, Read, Write
from noria.kernel.errors import Conflict, Invalid, NoriaError, NotFound
from noria.kernel.ids import Ref, new_id
from noria.kernel.op import Actor, Op, Ops
from noria.kernel.paging import Page, check_limit, decode_token, encode_token
from noria.pipelines import backfill_store as store
from noria.pipelines import graph
from noria.pipelines.model.backfills import PART_ENDED, Backfill, BackfillPart, NewBackfill
from noria.pipelines.model.limits import BACKFILL_PARALLEL_MAX, BACKFILL_PARTS_MAX
from noria.pipelines.model.runs import RUN_ENDED
from noria.pipelines.service import Pipelines, owner_of, visible_names

_STEPS = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(weeks=1)}


class Backfills:
    """See the module; a reconciler that looks after every run that ends."""

    name = "pipelines.backfills"
    every_s = 2.0
    wake_on = frozenset({"pipeline_run.succeeded", "pipeline_run.failed", "pipeline_run.cancelled", "backfill.started"})

    def __init__(self, db: Database, ops: Ops, pipelines: Pipelines) -> None:
        self._db, self._ops, self._pipelines = db, ops, pipelines

    def start(self, op: Op, pipeline: str, new: NewBackfill) -> Backfill:
        """Begin one; its runs act for the caller. Raises NotFound, Invalid, Forbidden."""
        op.require("pipeline.run", on=Ref("pipeline", pipeline))
        version = self._pipelines.latest(pipeline)
        values = dates(new)
        if new.param in new.params:
            raise Invalid(f"{new.param} is the date, and a parameter too.", where="params")
        if not 1 <= new.parallel <= BACKFILL_PARALLEL_MAX:
            raise Invalid(f"parallel must be between 1 and {BACKFILL_PARALLEL_MAX}.", where="parallel")
        graph.bind_params(version.spec, {**new.params, new.param: values[0]})
        made = Backfill(
            id=new_id(op.at_ms), pipeline=pipeline, version=version.number, param=new.param, first=new.first, last=new.last,
            step=new.step, params=new.params, parallel=new.parallel, state="running", owner=owner_of(op) or version.owner,
            actor=op.actor.label, created_at_ms=op.at_ms,
        )  # fmt: skip
        digest = blake3(msgspec.json.encode(new.params, order="sorted")).hexdigest()[:32]
        keys = [f"{pipeline}\n{new.param}\n{digest}\n{value}" for value in values]
        with self._db.write(op) as tx:
            done = {} if new.again else store.done_already(tx, keys)
            parts = [
                _part(made.id, i, value, done.get(key)) for i, (value, key) in enumerate(zip(values, keys, strict=True))
            ]
            store.add(tx, made, parts, keys)
            tx.emit(
                "backfill.started", Ref("backfill", made.id), pipeline=pipeline, param=new.param, first=new.first,
                last=new.last, parts=len(parts),
            )  # fmt: skip
            tx.link(Ref("backfill", made.id), "run_of", Ref("pipeline", pipeline))
        return self.backfill(op, made.id)

    def backfill(self, op: Op, backfill_id: str) -> Backfill:
        """Raises NotFound."""
        return self._mine(op, "pipeline.read", backfill_id)

    def backfills(self, op: Op, *, pipeline: str = "", limit: int | None = None, page: str = "") -> Page[Backfill]:
        """Newest first."""
        size, names = check_limit(limit), visible_names(op, "pipeline.read")
        before = str(decode_token(page, size=1)[0]) if page else ""
        with self._db.read() as tx:
            found = store.backfills(tx, pipeline=pipeline, names=names, before=before, limit=size)
        return Page(found, encode_token(found[-1].id) if len(found) == size else None)

    def parts(self, op: Op, backfill_id: str, *, limit: int | None = None, page: str = "") -> Page[BackfillPart]:
        """The dates of a backfill, in order."""
        self.backfill(op, backfill_id)
        size = check_limit(limit)
        after = int(decode_token(page, size=1)[0]) if page else -1
        with self._db.read() as tx:
            found = store.parts(tx, backfill_id, after=after, limit=size)
        return Page(found, encode_token(found[-1].position) if len(found) == size else None)

    def cancel(self, op: Op, backfill_id: str) -> Backfill:
        """Start no more dates and stop the runs that go on. Raises NotFound, Conflict when it has ended."""
        self._mine(op, "pipeline.cancel", backfill_id)
        with self._db.write(op) as tx:
            found = store.hold(tx, backfill_id)
            assert found is not None
            if found.state != "running":
                raise Conflict(f"The backfill has {found.state} already.", ref=Ref("backfill", backfill_id))
            store.cancel_waiting(tx, backfill_id, f"{op.actor.label} cancelled the backfill.")
            for part in store.parts_in(tx, backfill_id, "running", limit=BACKFILL_PARALLEL_MAX):
                self._pipelines.control.cancel_in(tx, part.run_id)
                store.save_part(tx, replace(part, state="cancelled", reason=f"{op.actor.label} cancelled the backfill."))
            self._end(tx, found, "cancelled", "")
        return self.backfill(op, backfill_id)

    def _mine(self, op: Op, action: str, backfill_id: str) -> Backfill:
        with self._db.read() as tx:
            found = store.backfill(tx, backfill_id)
        if found is None:
            op.require(action)
            raise NotFound(f"There is no backfill {backfill_id!r}.")
        op.require(action, on=Ref("pipeline", found.pipeline))
        return found

    # --- moving on --------------------------------------------------------------------------------------------------

    def reconcile(self) -> None:
        """Note the runs that ended, and start the next ones."""
        with self._db.read() as tx:
            running = store.running(tx)
            waiting = [b for b in running if self._is_due(tx, b)]
        for found in waiting:
            self._move(found)

    def _is_due(self, tx: Read, found: Backfill) -> bool:
        going = store.parts_in(tx, found.id, "running", limit=BACKFILL_PARALLEL_MAX)
        states = store.run_states(tx, [part.run_id for part in going])
        has_more = bool(store.parts_in(tx, found.id, "waiting", limit=1))
        has_room = len(going) < found.parallel and (has_more or not going)
        return has_room or any(states[part.run_id][0] in RUN_ENDED for part in going)

    def _move(self, found: Backfill) -> None:
        actor = Actor(kind="trigger", id=found.id, name=f"backfill of {found.pipeline}", on_behalf_of=found.owner)
        op, error = self._ops.mint(actor), ""
        version = self._pipelines.version_of(found.pipeline, found.version)
        try:
            op.require("pipeline.run", on=Ref("pipeline", found.pipeline))
        except NoriaError as refused:
            error = refused.message
        with self._db.write(op) as tx:
            now = store.hold(tx, found.id)
            if now is None or now.state != "running":
                return
            if error:
                store.cancel_waiting(tx, found.id, error)
            going = store.parts_in(tx, found.id, "running", limit=BACKFILL_PARALLEL_MAX)
            states = store.run_states(tx, [part.run_id for part in going])
            for part in going:
                state, why = states[part.run_id]
                if state in RUN_ENDED:
                    store.save_part(tx, replace(part, state=state, reason=why))
            room = found.parallel - sum(states[part.run_id][0] not in RUN_ENDED for part in going)
            for part in store.parts_in(tx, found.id, "waiting", limit=max(0, room)):
                bound = graph.bind_params(version.spec, {**found.params, found.param: part.value})
                run, _ = self._pipelines.submit_in(tx, version, bound, unique=f"backfill:{found.id}:{part.value}")
                store.save_part(tx, replace(part, state="running", run_id=run.id))
            counts = store.hold(tx, found.id)
            assert counts is not None
            if set(counts.counts) <= PART_ENDED:
                has_failed = bool(error) or "failed" in counts.counts or "cancelled" in counts.counts
                self._end(tx, counts, "failed" if has_failed else "succeeded", error)

    def _end(self, tx: Write, found: Backfill, state: str, error: str) -> None:
        assert tx.op is not None
        store.end(tx, found.id, state=state, at_ms=tx.op.at_ms, error=error)
        now = store.backfill(tx, found.id)
        assert now is not None
        tx.emit("backfill.ended", Ref("backfill", found.id), pipeline=found.pipeline, state=state, counts=now.counts)


def dates(new: NewBackfill) -> list[str]:
    """The values of the parameter, in order. Raises Invalid for what is no date, a wrong order, or too many."""
    first, last = _date(new.first, "first"), _date(new.last, "last")
    if last < first:
        raise Invalid(f"{new.last} comes before {new.first}.", where="last")
    step = _STEPS[new.step]
    count = (last - first) // step + 1
    if count > BACKFILL_PARTS_MAX:
        raise Invalid(
            f"That is {count} runs; a backfill has at most {BACKFILL_PARTS_MAX}.", where="last", hint="Take a longer step."
        )
    moments = [first + i * step for i in range(count)]
    if new.step == "hour":
        return [moment.replace(tzinfo=None).isoformat(timespec="seconds") for moment in moments]
    return [moment.date().isoformat() for moment in moments]


def _date(text: str, where: str) -> datetime:
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError as cause:
        raise Invalid(f"{text!r} is no date.", where=where, hint="Write it as 2026-03-01 or 2026-03-01T05:00.") from cause


def _part(backfill_id: str, position: int, value: str, done: tuple[str, str, str] | None) -> BackfillPart:
    if done is None:
        return BackfillPart(backfill_id=backfill_id, position=position, value=value, state="waiting")
    other, state, run = done
    reason = f"Done already by the run {run}." if state == "succeeded" else f"The backfill {other} does it."
    return BackfillPart(
        backfill_id=backfill_id, position=position, value=value, state="skipped", run_id=run, reason=reason
    )  # fmt: skip
