"""Runs through the service: what is logged is what is read, on both databases."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from noria.kernel.errors import AlreadyExists, Conflict, Invalid, NotFound, TooLarge
from noria.tracking.model import DatasetInput, Point, Run, check_path
from tests.conftest import Noria


def started(noria: Noria, experiment: str = "flights", **more: object) -> Run:
    tracking = noria.app.tracking
    op = noria.op()
    return tracking.create_run(op, tracking.experiment_by_name(op, experiment, create=True).id, **more)  # type: ignore[arg-type]


def test_a_run_keeps_what_it_was_told(noria: Noria) -> None:
    run, tracking = started(noria, name="first", tags={"mlflow.source.git.commit": "abc"}), noria.app.tracking
    tracking.log_batch(
        noria.op(), run.id,
        [Point(key="loss", value=2.5, at_ms=1, step=0), Point(key="loss", value=1.5, at_ms=2, step=1)],
        {"lr": "0.1"}, {"team": "a"},
    )  # fmt: skip
    found = tracking.run(noria.op(), run.id)
    assert (found.name, found.params, found.metrics) == ("first", {"lr": "0.1"}, {"loss": 1.5})
    assert found.tags == {"team": "a", "mlflow.runName": "first", "mlflow.source.git.commit": "abc"}
    assert found.source_commit == "abc"
    assert [e.kind for e in noria.facts()] == ["experiment.created", "run.created", "run.started"]


def test_only_the_first_batch_is_a_fact(noria: Noria) -> None:
    run = started(noria)
    for step in range(3):
        noria.app.tracking.log_batch(noria.op(), run.id, [Point(key="loss", value=1.0, at_ms=1, step=step)])
    assert len(noria.facts("run.started")) == 1


def test_a_number_that_is_none_survives(noria: Noria) -> None:
    run, tracking = started(noria), noria.app.tracking
    values = [math.nan, math.inf, -math.inf, 1e-308, 5e-324, -0.5]
    tracking.log_batch(noria.op(), run.id, [Point(key="x", value=v, at_ms=1, step=i) for i, v in enumerate(values)])
    found = [p.value for p in tracking.history(noria.op(), run.id, "x", limit=100).items]
    assert [repr(v) for v in found] == [repr(v) for v in values]
    tracking.log_batch(noria.op(), run.id, [Point(key="y", value=math.nan, at_ms=1)])
    assert math.isnan(tracking.run(noria.op(), run.id).metrics["y"])


def test_a_repeated_batch_changes_nothing(noria: Noria) -> None:
    run, tracking = started(noria), noria.app.tracking
    batch = [Point(key="x", value=v, at_ms=7, step=1) for v in (1.0, math.nan, 3.0)]
    for _ in range(2):
        tracking.log_batch(noria.op(), run.id, batch, {"a": "1"}, {"t": "1"})
    assert len(tracking.history(noria.op(), run.id, "x", limit=100).items) == 3


def test_the_latest_is_by_step_then_time_then_value(noria: Noria) -> None:
    run, tracking = started(noria), noria.app.tracking
    for value, step, at_ms in ((5.0, 3, 10), (9.0, 1, 99), (4.0, 3, 9), (6.0, 3, 10), (math.nan, 3, 10)):
        tracking.log_batch(noria.op(), run.id, [Point(key="x", value=value, at_ms=at_ms, step=step)])
    assert tracking.run(noria.op(), run.id).metrics == {"x": 6.0}


def test_a_param_never_changes(noria: Noria) -> None:
    run, tracking = started(noria), noria.app.tracking
    tracking.log_batch(noria.op(), run.id, params={"lr": "0.1"})
    with pytest.raises(Invalid, match="Changing param values is not allowed"):
        tracking.log_batch(noria.op(), run.id, [Point(key="x", value=1.0, at_ms=1)], {"lr": "0.2"})
    assert tracking.run(noria.op(), run.id).metrics == {}, "a refused batch leaves nothing behind"


def test_a_batch_has_limits(noria: Noria) -> None:
    run = started(noria)
    for points, params, tags in ((1001, 0, 0), (0, 101, 0), (0, 0, 101), (950, 51, 0)):
        with pytest.raises(Invalid, match="can contain at most"):
            noria.app.tracking.log_batch(
                noria.op(), run.id, [Point(key="x", value=1.0, at_ms=1, step=i) for i in range(points)],
                {f"p{i}": "1" for i in range(params)}, {f"t{i}": "1" for i in range(tags)},
            )  # fmt: skip


def test_what_cannot_be_kept_exactly_is_refused(noria: Noria) -> None:
    run, tracking = started(noria), noria.app.tracking
    for key in ("", "a/../b", "/a", "..", "a\x00b", "a\ud800", "x" * 251, "a;b", "a\nb"):
        for batch in ({"metrics": [Point(key=key, value=1.0, at_ms=1)]}, {"params": {key: "1"}}, {"tags": {key: "1"}}):
            with pytest.raises(Invalid):
                tracking.log_batch(noria.op(), run.id, **batch)  # type: ignore[arg-type]
    for value in ("a\x00b", "\ud800", "x" * 65_537):
        for batch in ({"params": {"a": value}}, {"tags": {"a": value}}):
            with pytest.raises(Invalid):
                tracking.log_batch(noria.op(), run.id, **batch)  # type: ignore[arg-type]
    for step, at_ms in ((2**63, 1), (-(2**63) - 1, 1), (1, 2**63), (1, -1)):
        with pytest.raises(Invalid, match="64 bits"):
            tracking.log_batch(noria.op(), run.id, [Point(key="x", value=1.0, at_ms=at_ms, step=step)])
    found = tracking.run(noria.op(), run.id)
    assert (found.params, found.metrics, set(found.tags)) == ({}, {}, {"mlflow.runName"})


def test_the_largest_step_is_kept(noria: Noria) -> None:
    run, tracking = started(noria), noria.app.tracking
    tracking.log_batch(
        noria.op(), run.id, [Point(key="x", value=1.0, at_ms=2**63 - 1, step=s) for s in (2**63 - 1, -(2**63))]
    )
    assert [p.step for p in tracking.history(noria.op(), run.id, "x", limit=10).items] == [-(2**63), 2**63 - 1]


def test_a_deleted_run_comes_back(noria: Noria) -> None:
    run, tracking = started(noria), noria.app.tracking
    tracking.delete_run(noria.op(), run.id)
    assert tracking.run(noria.op(), run.id).stage == "deleted"
    assert tracking.search_runs(noria.op()).items == []
    assert [r.id for r in tracking.search_runs(noria.op(), stages=["deleted"]).items] == [run.id]
    with pytest.raises(Invalid, match="'active' state"):
        tracking.log_batch(noria.op(), run.id, params={"a": "1"})
    tracking.restore_run(noria.op(), run.id)
    tracking.log_batch(noria.op(), run.id, params={"a": "1"})
    assert [r.params for r in tracking.search_runs(noria.op()).items] == [{"a": "1"}]


def test_a_deleted_experiment_brings_back_only_its_own(noria: Noria) -> None:
    tracking = noria.app.tracking
    kept, gone = started(noria), started(noria)
    tracking.delete_run(noria.op(), gone.id)
    noria.clock.advance(1)
    tracking.delete_experiment(noria.op(), kept.experiment_id)
    assert tracking.run(noria.op(), kept.id).stage == "deleted"
    with pytest.raises(Invalid, match="The experiment of this run is deleted"):
        tracking.restore_run(noria.op(), kept.id)
    with pytest.raises(AlreadyExists, match="is deleted"):
        tracking.create_experiment(noria.op(), "flights")
    noria.clock.advance(1)
    tracking.restore_experiment(noria.op(), kept.experiment_id)
    assert tracking.run(noria.op(), kept.id).stage == "active"
    assert tracking.run(noria.op(), gone.id).stage == "deleted"


def test_a_run_ends_once_and_says_so(noria: Noria) -> None:
    run, tracking = started(noria), noria.app.tracking
    noria.clock.advance(5)
    ended = tracking.finish_run(noria.op(), run.id)
    assert ended.status == "FINISHED" and ended.ended_at_ms == run.started_at_ms + 5000
    tracking.finish_run(noria.op(), run.id)
    assert [e.data["status"] for e in noria.facts("run.finished")] == ["FINISHED"]


def test_files_are_rows_over_digests(noria: Noria) -> None:
    run, tracking = started(noria), noria.app.tracking
    for path, data in (("model/a.txt", b"one"), ("model/b/c.txt", b"two"), ("top.txt", b"one"), ("model-x/d.txt", b"4")):
        tracking.put_artifact(noria.op(), run.id, path, data)
    top = tracking.artifacts(noria.op(), run.id)
    assert [(a.path, a.is_dir, a.size_bytes) for a in top] == [
        ("model", True, 6),
        ("model-x", True, 1),
        ("top.txt", False, 3),
    ]
    assert [a.path for a in tracking.artifacts(noria.op(), run.id, "model")] == ["model/b", "model/a.txt"]
    assert [a.path for a in tracking.files_at(noria.op(), f"runs:/{run.id}/model")] == ["a.txt", "b/c.txt"]
    assert b"".join(tracking.open_artifact(noria.op(), run.id, "model/b/c.txt")) == b"two"
    with pytest.raises(Invalid, match="is a file here"):
        tracking.put_artifact(noria.op(), run.id, "top.txt/x", b"")
    with pytest.raises(Invalid, match="is a folder here"):
        tracking.put_artifact(noria.op(), run.id, "model", b"")
    assert tracking.delete_artifacts(noria.op(), run.id, "model") == 2
    assert [a.path for a in tracking.artifacts(noria.op(), run.id)] == ["model-x", "top.txt"]


def test_the_files_of_a_logged_model_appear_in_its_run(noria: Noria) -> None:
    run, tracking = started(noria), noria.app.tracking
    model = tracking.models.create(noria.op(), run.experiment_id, name="model", run_id=run.id)
    tracking.put_at(noria.op(), tracking.place(noria.op(), model.artifact_uri + "/MLmodel"), b"flavors: {}")
    assert [a.path for a in tracking.files(noria.op(), run.id)] == ["model/MLmodel"]
    for uri in (f"runs:/{run.id}/model", f"models:/{model.id}", model.artifact_uri):
        assert [a.path for a in tracking.files_at(noria.op(), uri)] == ["MLmodel"]
    assert b"".join(tracking.open_artifact(noria.op(), run.id, "model/MLmodel")) == b"flavors: {}"
    assert tracking.artifacts(noria.op(), run.id, with_models=False) == []


@pytest.mark.parametrize(
    "path",
    ["..", "a/../b", "/etc/passwd", "a//b", "./a", "a/.", "a\\b", "..\\a", "C:/x", "c:", "a\x00", "%2e%2e/x", "a/%2E%2E",
     "%252e%252e/x", "%2fetc", "a%5cb", "a%00b", "%25252e%25252e", "~root/x", "a\nb", "a/", "x" * 2049],
)  # fmt: skip
def test_a_path_that_climbs_is_refused_in_every_spelling(path: str) -> None:
    with pytest.raises(Invalid):
        check_path(path)


@pytest.mark.parametrize("path", ["a", "a/b.txt", "50%.txt", "a b", "ünï/ço.de", "a;b", "a?b#c", "..a/b..", "a%20b", ""])
def test_an_ordinary_path_is_kept_as_it_is(path: str) -> None:
    assert check_path(path) == path


def test_a_log_is_appended_once(noria: Noria) -> None:
    run, tracking = started(noria), noria.app.tracking
    assert tracking.append_log(noria.op(), run.id, "grün\n", 0) == 6
    assert tracking.append_log(noria.op(), run.id, "grün\nrot\n", 0) == 10, "the part that is there is not added again"
    assert tracking.append_log(noria.op(), run.id, "blau\n") == 15
    with pytest.raises(Conflict, match="has 15 bytes"):
        tracking.append_log(noria.op(), run.id, "x", 99)
    page = tracking.log_page(noria.op(), run.id)
    assert (page.text, page.next_offset, page.is_ended) == ("grün\nrot\nblau\n", 15, False)
    assert tracking.log_page(noria.op(), run.id, 6).text == "rot\nblau\n"
    assert tracking.log_page(noria.op(), run.id, 15).text == ""
    with pytest.raises(TooLarge):
        tracking.append_log(noria.op(), run.id, "x" * (1 << 20) + "x")
    tracking.finish_run(noria.op(), run.id)
    assert tracking.log_page(noria.op(), run.id, 15).is_ended


def test_inputs_are_kept_with_the_run(noria: Noria) -> None:
    run, tracking = started(noria), noria.app.tracking
    tracking.log_inputs(
        noria.op(), run.id, [DatasetInput(name="flights", digest="d1", tags={"mlflow.data.context": "training"})]
    )
    assert [i.name for i in tracking.run(noria.op(), run.id).inputs] == ["flights"]
    for text, count in (
        ("datasets.name = 'flights'", 1), ("datasets.context = 'training'", 1), ("datasets.context = 'eval'", 0),
        ("datasets.digest != 'd1'", 0), ("datasets.name like 'fl%'", 1),
    ):  # fmt: skip
        assert len(tracking.search_runs(noria.op(), filter=text).items) == count, text


def test_many_writers_at_once_lose_nothing(noria: Noria) -> None:
    tracking = noria.app.tracking
    shared = started(noria)

    def write(worker: int) -> str:
        experiment = tracking.experiment_by_name(noria.op(), "race", create=True)
        for i in range(5):
            points = [Point(key=f"k{(worker + j) % 7}", value=float(worker), at_ms=j, step=i * 10 + j) for j in range(20)]
            tracking.log_batch(noria.op(), shared.id, points, {f"p{worker}": "1", "same": "1"}, {f"t{i}": str(worker)})
            tracking.update_run(noria.op(), shared.id, name=f"r{worker}", tags={f"t{i}": str(worker)})
            tracking.append_log(noria.op(), shared.id, f"{worker}\n")
        return experiment.id

    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(write, range(6)))) == 1
    found = tracking.run(noria.op(), shared.id)
    assert found.params == {"same": "1", **{f"p{w}": "1" for w in range(6)}}
    assert sum(len(tracking.history(noria.op(), shared.id, f"k{i}", limit=1000).items) for i in range(7)) == 6 * 5 * 20
    assert sorted(tracking.log_page(noria.op(), shared.id).text.split()) == sorted(
        str(w) for w in range(6) for _ in range(5)
    )
    assert found.tags["mlflow.runName"] == found.name
    assert len(noria.facts("run.started")) == 1 and len(noria.facts("experiment.created")) == 2


def test_what_is_not_there_is_not_found(noria: Noria) -> None:
    tracking = noria.app.tracking
    for call in (
        lambda: tracking.run(noria.op(), "nope"),
        lambda: tracking.experiment(noria.op(), "nope"),
        lambda: tracking.experiment_by_name(noria.op(), "nope"),
        lambda: tracking.log_batch(noria.op(), "nope"),
        lambda: tracking.artifacts(noria.op(), "nope"),
        lambda: tracking.files_at(noria.op(), "models:/m-nope"),
        lambda: tracking.models.get(noria.op(), "m-nope"),
        lambda: tracking.open_artifact(noria.op(), started(noria).id, "nope"),
    ):
        with pytest.raises(NotFound):
            call()


def latest_of(points: list[Point]) -> dict[str, Point]:
    """The latest point of each key: by step, then time, then value (NaN lowest)."""

    def rank(point: Point) -> tuple[int, int, bool, float]:
        is_real = point.value == point.value
        return point.step, point.at_ms, is_real, point.value if is_real else 0.0

    return {key: max((p for p in points if p.key == key), key=rank) for key in {p.key for p in points}}


_POINTS = st.lists(
    st.builds(
        Point,
        key=st.sampled_from(["a", "b", "c/d"]),
        value=st.floats(),
        at_ms=st.integers(0, 3),
        step=st.integers(-2, 3),
    ),
    min_size=1, max_size=20,
)  # fmt: skip


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(_POINTS, min_size=1, max_size=5))
def test_points_in_any_order_give_the_same_history(noria: Noria, batches: list[list[Point]]) -> None:
    run, tracking = started(noria), noria.app.tracking
    for batch in batches:
        tracking.log_batch(noria.op(), run.id, batch)
        tracking.series(noria.op(), run.id, buckets=2)  # warms the cache, so that it has to keep up
    everything = [p for batch in batches for p in batch]
    latest = {key: p.value + 0.0 for key, p in latest_of(everything).items()}
    found = tracking.run(noria.op(), run.id).metrics
    assert {k: repr(v + 0.0) for k, v in found.items()} == {k: repr(v) for k, v in latest.items()}
    for key, curve in tracking.series(noria.op(), run.id, buckets=1000).items():
        wanted = {(p.step, p.at_ms, repr(p.value + 0.0)) for p in everything if p.key == key}
        history = tracking.history(noria.op(), run.id, key, limit=1000).items
        assert {(p.step, p.at_ms, repr(p.value + 0.0)) for p in history} == wanted
        assert curve.count == len(wanted) == len(history)
        assert [p.step for p in history] == sorted(p.step for p in history) == curve.step
