"""Purging: what was put away goes for good, what is needed stays, and no bytes go that anybody uses."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from noria.kernel import collector, crash
from noria.kernel.errors import Invalid, NotFound, Unavailable
from noria.tracking import purge
from noria.tracking.model import Point, Run
from noria.tracking.purge import PurgeReport, PurgeRequest
from tests.conftest import Noria
from tests.tracking.test_runs import started

DAY_S = 86_400


def purged(noria: Noria, *, dry_run: bool = False, **more: Any) -> PurgeReport:
    service = noria.app.tracking.purge
    assert service is not None
    return service.purge(noria.op(), PurgeRequest(dry_run=dry_run, **({"older_than_s": 0} | more)))


def a_run(noria: Noria, files: dict[str, bytes] | None = None, points: int = 3) -> Run:
    run, tracking = started(noria), noria.app.tracking
    tracking.log_batch(
        noria.op(), run.id, [Point(key="loss", value=1.0, at_ms=1, step=i) for i in range(points)], {"lr": "1"}
    )
    for path, data in (files or {}).items():
        tracking.put_artifact(noria.op(), run.id, path, data)
    return run


def stored(noria: Noria) -> set[bytes]:
    return {noria.app.blobs.get(info.digest) for info in noria.app.blobs.list()}


def rows(noria: Noria, table: str) -> int:
    with noria.app.db.read() as tx:
        return int(tx.scalar(f"select count(*) from {table}"))


def test_a_run_goes_with_its_points_and_files(noria: Noria) -> None:
    gone, stays = a_run(noria, {"a": b"only", "b": b"shared"}), a_run(noria, {"c": b"shared"})
    noria.app.tracking.append_log(noria.op(), gone.id, "hello")
    noria.app.tracking.delete_run(noria.op(), gone.id)
    planned = purged(noria, dry_run=True)
    assert [(p.ref, p.points, p.artifacts, p.artifact_bytes) for p in planned.purged] == [(f"run:{gone.id}", 3, 2, 10)]
    assert planned.freed_bytes == 4 and rows(noria, "run") == 2, "a dry run changes nothing"
    done = purged(noria)
    assert (done.points, done.freed_bytes, done.waiting_bytes) == (3, 4, 10)
    for table, left in (("run", 1), ("series", 1), ("point", 3), ("param", 1), ("tag", 1), ("run_log", 0), ("artifact", 1)):
        assert rows(noria, table) == left, table
    with pytest.raises(NotFound):
        noria.app.tracking.run(noria.op(), gone.id)
    assert stored(noria) >= {b"only", b"shared"}, "files wait"
    noria.clock.advance(DAY_S + 1)
    noria.app.collector.reconcile()
    assert stored(noria) == {b"shared"}
    assert b"".join(noria.app.tracking.open_artifact(noria.op(), stays.id, "c")) == b"shared"
    (fact,) = noria.facts("run.purged")
    assert fact.subject == f"run:{gone.id}" and fact.actor == "user:ada" and fact.data["points"] == 3
    assert purged(noria).purged == []


def test_only_what_was_put_away_long_enough_ago_goes(noria: Noria) -> None:
    active, young, old = a_run(noria), a_run(noria), a_run(noria)
    noria.app.tracking.delete_run(noria.op(), old.id)
    noria.clock.advance(10 * DAY_S)
    noria.app.tracking.delete_run(noria.op(), young.id)
    assert [p.ref for p in purged(noria, older_than_s=5 * DAY_S).purged] == [f"run:{old.id}"]
    assert noria.app.tracking.run(noria.op(), active.id).stage == "active"
    noria.app.tracking.restore_run(noria.op(), young.id)
    assert purged(noria).purged == []


def test_a_registered_version_protects_its_run_and_is_named(noria: Noria) -> None:
    run, plain = a_run(noria, {"model/MLmodel": b"flavors: {}"}), a_run(noria)
    version = noria.app.registry.create_version(noria.op(), "flights", source=f"runs:/{run.id}/model")
    for each in (run, plain):
        noria.app.tracking.delete_run(noria.op(), each.id)
    for dry_run in (True, False):
        report = purged(noria, dry_run=dry_run)
        assert [p.ref for p in report.purged] == [f"run:{plain.id}"]
        assert [(p.ref, p.by) for p in report.protected] == [(f"run:{run.id}", [f"model_version:{version.id} (built_by)"])]
    noria.app.registry.delete_version(noria.op(), "flights", version.number)
    assert [p.ref for p in purged(noria).purged] == [f"run:{run.id}"]
    noria.clock.advance(DAY_S + 1)
    noria.app.collector.reconcile()
    assert stored(noria) == set()


def test_a_version_keeps_the_files_of_a_logged_model_that_went(noria: Noria) -> None:
    run, tracking = a_run(noria), noria.app.tracking
    model = tracking.models.create(noria.op(), run.experiment_id, name="model", run_id=run.id)
    tracking.put_at(noria.op(), tracking.place(noria.op(), model.artifact_uri + "/MLmodel"), b"flavors: {}")
    noria.app.registry.create_version(noria.op(), "flights", source=f"models:/{model.id}")
    tracking.models.delete(noria.op(), model.id)
    tracking.models.restore(noria.op(), model.id)
    assert tracking.models.get(noria.op(), model.id).stage == "active"
    tracking.models.delete(noria.op(), model.id)
    report = purged(noria)
    assert [p.ref for p in report.purged] == [f"logged_model:{model.id}"] and report.freed_bytes == 0
    noria.clock.advance(DAY_S + 1)
    noria.app.collector.reconcile()
    assert stored(noria) == {b"flavors: {}"} and rows(noria, "logged_model") == 0


def test_a_model_that_an_active_run_reads_protects(noria: Noria) -> None:
    from noria.tracking.model import ModelUse

    writer, reader, tracking = a_run(noria), a_run(noria), noria.app.tracking
    model = tracking.models.create(noria.op(), writer.experiment_id, name="model", run_id=writer.id)
    tracking.log_inputs(noria.op(), reader.id, models=[ModelUse(model_id=model.id, direction="input")])
    tracking.delete_run(noria.op(), writer.id)
    report = purged(noria)
    assert report.purged == [] and report.protected[0].by == [f"run:{reader.id} (reads its model)"]
    tracking.delete_run(noria.op(), reader.id)
    assert {p.ref for p in purged(noria).purged} == {f"run:{writer.id}", f"run:{reader.id}"}
    assert rows(noria, "logged_model") == rows(noria, "run_model") == rows(noria, "edge") == 0


def test_an_experiment_goes_when_nothing_is_left_in_it(noria: Noria) -> None:
    run, tracking = a_run(noria), noria.app.tracking
    tracking.delete_experiment(noria.op(), run.experiment_id)
    tracking.delete_experiment(noria.op(), "0")
    refs = [p.ref for p in purged(noria).purged]
    assert refs == [f"run:{run.id}", f"experiment:{run.experiment_id}"], "and the default one never does"
    assert tracking.create_experiment(noria.op(), "flights").name == "flights", "its name is free again"
    assert len(noria.facts("experiment.purged")) == 1


def test_bytes_that_data_needs_are_kept(noria: Noria) -> None:
    """A file of a run that is also a file of a data set: the data set has it in its packs, and does not lose it."""
    from noria.datasets.model import FileEntry

    info = noria.app.blobs.put(b"the same bytes")
    run = a_run(noria, {"a": b"the same bytes", "b": b"other"})
    noria.app.datasets.commit(
        noria.op(), "flights", [FileEntry(path="x.csv", digest=info.digest, size_bytes=info.size_bytes)]
    )
    noria.app.tracking.delete_run(noria.op(), run.id)
    assert purged(noria).freed_bytes == len(b"the same bytes") + len(b"other")
    noria.clock.advance(DAY_S + 1)
    noria.app.collector.reconcile()
    assert not stored(noria) & {b"the same bytes", b"other"}
    assert b"".join(noria.app.datasets.open(noria.op(), "flights@1", "x.csv")) == b"the same bytes"


def test_replacing_and_removing_files_frees_them(noria: Noria) -> None:
    run = a_run(noria, {"a": b"old", "b/c": b"removed"})
    noria.app.tracking.put_artifact(noria.op(), run.id, "a", b"new")
    noria.app.tracking.delete_artifacts(noria.op(), run.id, "b")
    noria.clock.advance(DAY_S + 1)
    noria.app.collector.reconcile()
    assert stored(noria) == {b"new"}


def test_an_upload_of_the_same_bytes_reprieves(noria: Noria) -> None:
    run = a_run(noria, {"a": b"bytes"})
    noria.app.tracking.delete_artifacts(noria.op(), run.id, "a")
    noria.clock.advance(2)  # that nothing was condemned is believed for a second
    assert not noria.app.blobs.has(next(noria.app.blobs.list()).digest), "whoever relies on it stores it again"
    noria.clock.advance(DAY_S - 7)
    noria.app.blobs.put(iter([b"by", b"tes"]))  # somebody is between bytes and row
    noria.clock.advance(10)
    noria.app.collector.reconcile()
    assert stored(noria) == {b"bytes"}


def test_bytes_that_are_going_are_not_relied_on(noria: Noria) -> None:
    run = a_run(noria, {"a": b"bytes"})
    noria.app.tracking.delete_artifacts(noria.op(), run.id, "a")
    noria.clock.advance(DAY_S + 1)
    with dying_at("blobs.going"), pytest.raises(crash.Crashed):
        noria.app.collector.turn()
    with pytest.raises(Unavailable, match="being removed"):
        noria.app.blobs.put(b"bytes")
    assert noria.app.collector.turn().removed == 1  # a restart ends it
    noria.app.blobs.put(b"bytes")
    assert stored(noria) == {b"bytes"}


def test_an_id_may_come_again_after_its_run_went(noria: Noria) -> None:
    tracking, ids = noria.app.tracking, [f"r{i}" for i in range(2)]
    experiment = tracking.experiment_by_name(noria.op(), "flights", create=True).id
    for value in (1.0, 2.0):
        for run_id in ids:
            tracking.create_run(noria.op(), experiment, run_id=run_id)
            tracking.log_batch(noria.op(), run_id, [Point(key="x", value=value, at_ms=1, step=int(value))])
            assert tracking.series(noria.op(), run_id)["x"].last == [value], "no number of the run before"
            tracking.delete_run(noria.op(), run_id)
        assert len(purged(noria).purged) == 2


def test_the_database_becomes_smaller(noria: Noria) -> None:
    run = started(noria)
    before = pages(noria)
    for start in range(0, 30_000, 1000):
        noria.app.tracking.log_batch(
            noria.op(), run.id, [Point(key="x", value=i / 7, at_ms=i, step=i) for i in range(start, start + 1000)]
        )
    noria.app.tracking.delete_run(noria.op(), run.id)
    full = pages(noria)
    report = purged(noria)
    assert report.points == 30_000 and rows(noria, "point") == 0
    if noria.app.db.dialect == "sqlite":
        with noria.app.db.read() as tx:
            assert int(tx.scalar("pragma freelist_count")) == 0
        assert full > before + 150 and pages(noria) < before + 40


def pages(noria: Noria) -> int:
    """How many pages the SQLite file has; 0 on PostgreSQL."""
    with noria.app.db.read() as tx:
        return int(tx.scalar("pragma page_count")) if noria.app.db.dialect == "sqlite" else 0


def test_the_door_asks_for_the_right_and_for_sense(noria: Noria) -> None:
    noria.as_("root", "admin", kind="user")
    contributor, maintainer = noria.as_("con", "contributor"), noria.as_("main", "maintainer")
    assert contributor.post("/api/v1/purge", json={}).status_code == 403
    assert maintainer.post("/api/v1/purge", json={}).json()["dry_run"] is True
    for bad in ({"grace_s": 1}, {"older_than_s": -1}, {"runs": 7}, {"unknown": 1}, {"grace_s": "x"}):
        assert maintainer.post("/api/v1/purge", json=bad).status_code == 400, bad
    with pytest.raises(Invalid):
        purged(noria, grace_s=0)
    assert maintainer.post("/api/v1/logged-models/m-none/restore").status_code == 404


class dying_at:
    """Fail at the n-th pass of a crash point."""

    def __init__(self, point: str, passes: int = 0) -> None:
        self._point, self._passes = point, passes

    def __enter__(self) -> None:
        crash.arm(self._point, passes=self._passes)

    def __exit__(self, *_: object) -> None:
        crash.disarm()


@pytest.mark.parametrize("passes", [0, 1])
@pytest.mark.parametrize("point", ["purge.rows", "purge.points", "blobs.going", "blobs.removed"])
def test_a_crash_anywhere_is_ended_by_the_next_turn(
    noria: Noria, point: str, passes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purge, "POINTS_PER_STEP", 4)
    monkeypatch.setattr(collector, "GRACE_S_MIN", 0.0)
    monkeypatch.setattr(purge, "GRACE_S_MIN", 0.0)
    runs = [a_run(noria, {"a": b"a%d" % i, "s": b"shared"}, points=10) for i in range(3)]
    kept = a_run(noria, {"s": b"shared"}, points=10)
    for run in runs:
        noria.app.tracking.delete_run(noria.op(), run.id)
    noria.clock.advance(1)
    try:
        with dying_at(point, passes):
            purged(noria, grace_s=0.0)
            noria.clock.advance(1)
            purged(noria, grace_s=0.0)
    except crash.Crashed:
        pass
    noria.clock.advance(1)
    for _ in range(2):
        purged(noria, grace_s=0.0)
    assert rows(noria, "point") == 10 and rows(noria, "series") == 1 and rows(noria, "run") == 1
    assert stored(noria) == {b"shared"} and rows(noria, "blob_condemned") == 0
    assert {e.subject for e in noria.facts("run.purged")} == {f"run:{run.id}" for run in runs}
    assert b"".join(noria.app.tracking.open_artifact(noria.op(), kept.id, "s")) == b"shared"


_steps = st.lists(
    st.tuples(
        st.sampled_from(["upload", "remove", "delete", "restore", "purge", "collect", "wait", "bare put", "die"]),
        st.integers(0, 2), st.integers(0, 3),
    ),
    min_size=5, max_size=40,
)  # fmt: skip


@given(steps=_steps)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_order_of_events_loses_bytes_that_a_file_has(noria: Noria, steps: list[tuple[str, int, int]]) -> None:
    """A model of three runs with a file each, of four contents, against uploads, purges, collections and crashes."""
    tracking = noria.app.tracking
    experiment = tracking.experiment_by_name(noria.op(), "flights", create=True).id
    runs = [tracking.create_run(noria.op(), experiment) for _ in range(3)]
    files: dict[int, int] = {}  # run → content
    away: set[int] = set()
    for what, i, content in steps:
        step(noria, what, runs, i, content, files, away)
        for each, its in files.items():
            digest = tracking.artifact(noria.op(), runs[each].id, "f").digest
            assert noria.app.blobs.get(digest) == b"content %d" % its
    crash.disarm()


def step(noria: Noria, what: str, runs: list[Run], i: int, content: int, files: dict[int, int], away: set[int]) -> None:
    tracking, op = noria.app.tracking, noria.op()
    if what == "upload" and i not in away:
        tracking.put_artifact(op, runs[i].id, "f", b"content %d" % content)
        files[i] = content
    elif what == "remove" and i in files and i not in away:
        tracking.delete_artifacts(op, runs[i].id, "f")
        del files[i]
    elif what == "delete" and i not in away:
        tracking.delete_run(op, runs[i].id)
        away.add(i)
    elif what == "restore" and i in away:
        tracking.restore_run(op, runs[i].id)
        away.discard(i)
    elif what == "wait":
        noria.clock.advance((1, 61, DAY_S)[i])
    elif what == "bare put":
        noria.app.blobs.put(b"content %d" % content)
    elif what == "collect":
        noria.app.collector.turn(grace_s=60)
    elif what in ("purge", "die"):
        try:
            with dying_at("purge.rows" if i else "blobs.going") if what == "die" else dying_at("never"):
                purged(noria, grace_s=60)
        except crash.Crashed:
            noria.app.collector.turn(grace_s=60)
        for each in sorted(away):
            try:
                tracking.run(op, runs[each].id)
            except NotFound:
                runs[each] = tracking.create_run(op, runs[each].experiment_id)
                away.discard(each)
                files.pop(each, None)
