"""Purging: what was put away is removed for good, and its space given back.

Only runs, logged models and experiments that were put away long enough ago go, and only when nothing protects them: a registered
version built from a run keeps it. Rows go in one transaction for each thing, with its fact; points go afterwards, in parts, so
that no writer waits long; bytes go through the collector after a grace time. A crash at any point leaves what the next turn ends.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from msgspec import Struct

from noria.kernel.collector import GRACE_S, GRACE_S_MAX, GRACE_S_MIN, Collector, condemn
from noria.kernel.crash import crash_here
from noria.kernel.db import Database, Read, Write
from noria.kernel.edges import protectors
from noria.kernel.errors import Invalid
from noria.kernel.facts import Fact, fact
from noria.kernel.ids import Ref
from noria.kernel.op import Op
from noria.tracking import purge_store as store
from noria.tracking.sight import visible

OLDER_THAN_S = 30 * 24 * 3600.0
THINGS_PER_REQUEST = 200
POINTS_PER_STEP = 20_000


@fact("run.purged")
class RunPurged(Fact):
    """A run that was put away was removed for good, with its points and files."""

    experiment_id: str
    name: str
    points: int
    artifact_bytes: int


@fact("logged_model.purged")
class LoggedModelPurged(Fact):
    """A logged model was removed for good, with its files."""

    experiment_id: str
    name: str
    artifact_bytes: int


@fact("experiment.purged")
class ExperimentPurged(Fact):
    """An experiment that was put away was removed for good."""

    name: str


class PurgeRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to purge: things put away at least `older_than_s` ago; of `runs` or of one `experiment` only, if given."""

    dry_run: bool = True
    older_than_s: float = OLDER_THAN_S
    grace_s: float = GRACE_S
    runs: list[str] = []
    experiment_id: str = ""


class Purged(Struct, frozen=True, kw_only=True):
    """One thing that goes."""

    ref: str
    name: str
    points: int = 0
    artifacts: int = 0
    artifact_bytes: int = 0


class Protected(Struct, frozen=True, kw_only=True):
    """One thing that stays, and because of what."""

    ref: str
    name: str
    by: list[str]


class PurgeReport(Struct, frozen=True, kw_only=True):
    """What went, or would go. `freed_bytes`: of files that nobody else uses; they go when the grace time is over."""

    dry_run: bool
    purged: list[Purged]
    protected: list[Protected]
    points: int
    freed_bytes: int
    removed_blobs: int = 0  # condemned earlier, removed now
    removed_bytes: int = 0
    waiting_bytes: int = 0  # condemned, still within the grace time or in use elsewhere
    returned_bytes: int = 0  # by which the database file became smaller
    has_more: bool = False


class Runs(Protocol):
    """What purging needs of the tracking service."""

    def forget(self, run_ids: Iterable[str]) -> None: ...
    def forget_series(self, series_id: int) -> None: ...
    def digests_in_use(self, tx: Read, digests: list[str]) -> set[str]: ...


class Purge:
    """Part of the tracking service; a reconciler of what a crash left."""

    name = "tracking.purge"
    every_s = 600.0
    wake_on: frozenset[str] = frozenset()

    def __init__(self, db: Database, tracking: Runs, collector: Collector) -> None:
        self._db, self._tracking, self._collector = db, tracking, collector

    def reconcile(self) -> None:
        """Remove the points of series whose run is gone."""
        while self._remove_points():
            pass

    def purge(self, op: Op, request: PurgeRequest) -> PurgeReport:
        """Purge, or with `dry_run` say what would go. Raises Invalid, Forbidden."""
        if request.older_than_s < 0:
            raise Invalid("older_than_s cannot be negative.", where="older_than_s")
        if not GRACE_S_MIN <= request.grace_s <= GRACE_S_MAX:  # NaN is neither
            raise Invalid(f"The grace time is {GRACE_S_MIN:.0f} to {GRACE_S_MAX:.0f} seconds.", where="grace_s")
        before_ms = op.at_ms - int(request.older_than_s * 1000)
        seen = visible(op, "run.purge")
        with self._db.read() as tx:
            found = store.candidates(
                tx, op.workspace, before_ms=before_ms, experiments=seen, experiment_id=request.experiment_id,
                runs=request.runs, limit=THINGS_PER_REQUEST + 1,
            )  # fmt: skip
            has_more, found = len(found) > THINGS_PER_REQUEST, found[:THINGS_PER_REQUEST]
            going, staying = self._sorted(tx, found)
            freed = self._freed_bytes(tx, going)
        if request.dry_run:
            return self._report(request, going, staying, freed, has_more)
        done, size = list[Purged](), store.file_bytes(self._db)
        for ref in going:
            removed = self._remove(op, ref, before_ms)
            done += [removed] if removed else []
            crash_here("purge.rows")
        self._tracking.forget(Ref.parse(p.ref).id for p in done)
        self.reconcile()
        swept = self._collector.turn(grace_s=request.grace_s)
        store.give_back_space(self._db)
        with self._db.read() as tx:
            _, waiting = self._collector.waiting(tx)
        return PurgeReport(
            dry_run=False, purged=done, protected=staying, points=sum(p.points for p in done), freed_bytes=freed,
            removed_blobs=swept.removed, removed_bytes=swept.freed_bytes, waiting_bytes=waiting,
            returned_bytes=max(0, size - store.file_bytes(self._db)), has_more=has_more and bool(done),
        )  # fmt: skip

    def _report(
        self, request: PurgeRequest, going: list[store.Candidate], staying: list[Protected], freed: int, has_more: bool
    ) -> PurgeReport:
        with self._db.read() as tx:
            things = [self._described(tx, ref) for ref in going]
            _, waiting = self._collector.waiting(tx)
        return PurgeReport(
            dry_run=True, purged=things, protected=staying, points=sum(t.points for t in things), freed_bytes=freed,
            waiting_bytes=waiting, has_more=has_more,
        )  # fmt: skip

    def _sorted(self, tx: Read, found: list[store.Candidate]) -> tuple[list[store.Candidate], list[Protected]]:
        """Those that go, and those that something protects. An experiment goes when nothing is left in it."""
        going, staying = list[store.Candidate](), list[Protected]()
        leaving = {str(c.ref) for c in found}
        for thing in found:
            by = self._protectors(tx, thing, leaving)
            if by:
                staying.append(Protected(ref=str(thing.ref), name=thing.name, by=by))
                leaving.discard(str(thing.ref))
            else:
                going.append(thing)
        return going, staying

    def _protectors(self, tx: Read, thing: store.Candidate, leaving: set[str]) -> list[str]:
        """What needs a thing, or something that would go with it, as `ref (why)`."""
        if thing.ref.kind == "experiment":
            return [f"{ref} (is in it)" for ref in store.contents(tx, thing.ref.id, limit=6) if ref not in leaving][:5]
        refs = [thing.ref, *store.models_of(tx, thing)]
        needed = [f"{e.src} ({e.kind})" for ref in refs for e in protectors(tx, ref)]
        readers = store.readers_of(tx, [r.id for r in refs if r.kind == "logged_model"])
        return [*needed, *(f"run:{r} (reads its model)" for r in readers if f"run:{r}" not in leaving and r != thing.ref.id)]

    def _freed_bytes(self, tx: Read, going: list[store.Candidate]) -> int:
        """Bytes of files that only these things own."""
        owners = [str(ref) for thing in going for ref in (thing.ref, *store.models_of(tx, thing))]
        blobs = store.blobs_of(tx, owners)
        used = store.owned_by_others(tx, list(blobs), owners)
        left = [digest for digest in blobs if digest not in used]
        used |= self._collector.in_use(tx, left, but=self._tracking)
        return sum(size for digest, size in blobs.items() if digest not in used)

    def _described(self, tx: Read, thing: store.Candidate) -> Purged:
        refs = [thing.ref, *store.models_of(tx, thing)]
        files = store.files_of(tx, [str(ref) for ref in refs])
        return Purged(
            ref=str(thing.ref), name=thing.name, points=store.points_count(tx, thing.ref.id) if thing.ref.kind == "run" else 0,
            artifacts=len(files), artifact_bytes=sum(size for _, size in files),
        )  # fmt: skip

    def _remove(self, op: Op, thing: store.Candidate, before_ms: int) -> Purged | None:
        """One thing with its rows and its fact; None when it is no longer to go: restored, purged or protected meanwhile."""
        with self._db.write(op) as tx:
            if not store.hold(tx, thing, before_ms) or self._protectors(tx, thing, {str(thing.ref)}):
                return None
            described = self._described(tx, thing)
            models = store.models_of(tx, thing)
            for ref in (thing.ref, *models):
                condemn(tx, store.files_of(tx, [str(ref)]), op.at_ms)
            self._remove_rows(tx, thing, models)
            self._emit(tx, thing, described)
        return described

    def _remove_rows(self, tx: Write, thing: store.Candidate, models: list[Ref]) -> None:
        if thing.ref.kind == "run":
            store.remove_run(tx, thing.ref)
        elif thing.ref.kind == "experiment":
            store.remove_experiment(tx, thing.ref)
        for model in models if thing.ref.kind == "run" else [thing.ref] if thing.ref.kind == "logged_model" else []:
            store.remove_model(tx, model)

    def _emit(self, tx: Write, thing: store.Candidate, described: Purged) -> None:
        fields: dict[str, Any] = {"name": thing.name}
        if thing.ref.kind != "experiment":
            fields |= {"experiment_id": thing.experiment_id, "artifact_bytes": described.artifact_bytes}
        if thing.ref.kind == "run":
            fields["points"] = described.points
        tx.emit(f"{thing.ref.kind}.purged", thing.ref, **fields)

    def _remove_points(self) -> bool:
        """Remove a part of the points of one series whose run is gone; False when there are none left."""
        with self._db.system_write() as tx:
            series = store.next_purged_series(tx)
            if series is None:
                return False
            if store.remove_points(tx, series, POINTS_PER_STEP):
                tx.after_commit(lambda: self._tracking.forget_series(series))
        crash_here("purge.points")
        return True
