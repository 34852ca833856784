"""What a run says: points, params and tags, added in batches."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable

from noria.kernel.db import Write
from noria.kernel.errors import NotFound
from noria.kernel.ids import Ref
from noria.kernel.op import Op
from noria.kernel.ticks import Ticks
from noria.tracking import store
from noria.tracking.inputs import Inputs
from noria.tracking.model import RUN_NAME_TAG, Point
from noria.tracking.params import keep_params
from noria.tracking.rules import check_batch, check_params, check_points, check_tags, context_of, wire_value
from noria.tracking.series import SeriesCache
from noria.tracking.sight import writable
from noria.tracking.store import PointRow, RunHead

KNOWN_SERIES_MAX = 200_000  # ids of (run, key) remembered, so that a batch need not ask for them


class Entries(Inputs):
    """Part of the tracking service."""

    _ticks: Ticks
    _cache: SeriesCache
    _known: OrderedDict[tuple[str, str], int]
    _known_lock: threading.Lock

    def log_batch(
        self, op: Op, run_id: str, metrics: list[Point] | None = None, params: dict[str, str] | None = None,
        tags: dict[str, str] | None = None,
    ) -> None:  # fmt: skip
        """Add points, params and tags in one transaction, or nothing at all.

        A point that is there already changes nothing. Raises Invalid (limits, names, a param that would change, a deleted
        run), NotFound, Forbidden.
        """
        metrics, params, tags = metrics or [], params or {}, tags or {}
        check_batch(len(metrics), len(params), len(tags))
        check_points(metrics)
        check_params(params)
        check_tags(tags)
        version = self._version_in(op, tags)
        with self._db.write(op, shared=True) as tx:
            head = writable(tx, op, run_id)
            if metrics:
                self._add_points(tx, op, head, metrics)
            if params:
                keep_params(store.add_params(tx, run_id, params), params, f"run {run_id}")
            self._put_tags(tx, head, tags, version)

    def _add_points(self, tx: Write, op: Op, head: RunHead, points: list[Point]) -> None:
        keys = sorted({p.key for p in points})
        with self._known_lock:
            ids = {key: self._known[head.id, key] for key in keys if (head.id, key) in self._known}
        new = [key for key in keys if key not in ids]
        if new:
            found = store.series_ids(tx, head.id, new)
            added = [key for key in new if key not in found]
            if added:
                found |= store.add_series(tx, head.id, added)
            ids |= found
            tx.after_commit(lambda: self._remember(head.id, found))
        # Sorted so that two writers of the same run take row locks in one order; unsorted batches deadlock on PostgreSQL.
        rows = sorted(
            (ids[p.key], p.step, p.at_ms, True, p.value) if p.value == p.value else (ids[p.key], p.step, p.at_ms, False, 0.0)
            for p in points
        )
        lasts, firsts = {row[0]: row for row in rows}, {row[0]: row for row in reversed(rows)}
        store.move_latest(tx, [(PointRow(*firsts[id_]), PointRow(*lasts[id_])) for id_ in lasts])
        store.add_points(tx, rows)
        measured = [p for p in points if p.model_id]
        if measured:
            self.models.measure(tx, op, head, measured)
        if not head.has_points and store.mark_points(tx, head.id):
            tx.emit("run.started", Ref("run", head.id), experiment_id=head.experiment_id)
        upto = max(row[1] for row in lasts.values())
        values = {key: wire_value(lasts[ids[key]][4]) if lasts[ids[key]][3] else "NaN" for key in keys}
        tx.after_commit(lambda: self._ticks.tick(Ref("run", head.id), {"step": upto, "metrics": values}))

    def _remember(self, run_id: str, ids: dict[str, int]) -> None:
        with self._known_lock:
            for key, id_ in ids.items():
                self._known[run_id, key] = id_
            while len(self._known) > KNOWN_SERIES_MAX:
                self._known.popitem(last=False)

    def forget(self, run_ids: Iterable[str]) -> None:
        """Runs were purged: what is remembered of their series is no longer true."""
        gone = set(run_ids)
        with self._known_lock:
            for known in [k for k in self._known if k[0] in gone]:
                del self._known[known]

    def forget_series(self, series_id: int) -> None:
        """A series is gone, and its id may be given out again."""
        self._cache.forget(series_id)

    def set_tag(self, op: Op, run_id: str, key: str, value: str) -> None:
        """Set one tag. Raises NotFound, Invalid, Forbidden."""
        self.log_batch(op, run_id, tags={key: value})

    def delete_tag(self, op: Op, run_id: str, key: str) -> None:
        """Remove a tag. Raises NotFound (also when the run has no such tag), Invalid, Forbidden."""
        with self._db.write(op) as tx:
            writable(tx, op, run_id)
            if not store.remove_tag(tx, run_id, key):
                raise NotFound(f"The run {run_id} has no tag {key[:80]!r}.", ref=Ref("run", run_id))

    def _put_tags(self, tx: Write, head: RunHead, tags: dict[str, str], version: str) -> None:
        if not tags:
            return
        context, name = context_of(tags), tags.get(RUN_NAME_TAG)
        if name and name != head.name:
            context["name"] = name
        # The run before its tags, as in `update_run`: two writers in different orders would deadlock on PostgreSQL.
        store.set_context(tx, head.id, context)
        store.set_tags(tx, head.id, tags)
        self._link_version(tx, head.id, version)
