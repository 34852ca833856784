"""Tracking through the door: the read API, rights, and everything that must be refused."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from noria.access.model import Grant
from noria.datasets.model import FileEntry
from noria.tracking.model import DatasetInput, Point, Run
from tests.conftest import Noria

MLFLOW = "/api/2.0/mlflow"


def started(noria: Noria, experiment: str = "flights", **more: Any) -> Run:
    tracking = noria.app.tracking
    return tracking.create_run(noria.op(), tracking.experiment_by_name(noria.op(), experiment, create=True).id, **more)


def logged(noria: Noria, run: Run, **metrics: float) -> None:
    noria.app.tracking.log_batch(noria.op(), run.id, [Point(key=k, value=v, at_ms=1) for k, v in metrics.items()])


def test_a_run_is_made_shown_and_ended(noria: Noria) -> None:
    made = noria.http.post("/api/v1/runs", json={"experiment": "flights", "name": "first", "tags": {"a": "b"}}).json()
    logged(noria, Run(**{k: made[k] for k in ("id", "experiment_id", "name", "status", "started_at_ms")}), x=math.nan, y=1.5)
    assert noria.http.patch(f"/api/v1/runs/{made['id']}", json={"status": "FAILED"}).json()["status"] == "FAILED"
    found = noria.http.get(f"/api/v1/runs/{made['id']}").json()
    assert found["metrics"] == {"x": "NaN", "y": 1.5} and found["tags"]["a"] == "b"
    assert noria.http.delete(f"/api/v1/runs/{made['id']}").status_code == 204
    assert noria.http.get("/api/v1/runs").json()["ids"] == []
    assert noria.http.post(f"/api/v1/runs/{made['id']}/restore").status_code == 200
    assert noria.http.get("/api/v1/runs").json()["ids"] == [made["id"]]
    assert [e["name"] for e in noria.http.get("/api/v1/experiments").json()["items"]] == ["flights", "Default"]
    assert noria.http.get("/api/v1/experiments").json()["items"][0]["runs_count"] == 1


def test_runs_come_by_column_and_page_by_page(noria: Noria) -> None:
    values = [3.0, 1.0, math.nan, 2.0, math.inf, None, 2.0]
    runs = []
    for i, value in enumerate(values):
        run = started(noria, name=f"r{i}")
        noria.clock.advance(1)
        if value is not None:
            logged(noria, run, loss=value)
        runs.append(run)
    for order, wanted in (
        ("metrics.loss", ["r1", "r6", "r3", "r0", "r4", "r2", "r5"]),
        ("metrics.loss desc", ["r4", "r0", "r6", "r3", "r1", "r2", "r5"]),
        ("start_time asc", [f"r{i}" for i in range(7)]),
        ("", [f"r{i}" for i in reversed(range(7))]),
        ("name desc,metrics.loss", [f"r{i}" for i in reversed(range(7))]),
        ("params.nothing,tags.nothing desc", [f"r{i}" for i in reversed(range(7))]),
        ("end_time", [f"r{i}" for i in reversed(range(7))]),
    ):
        for limit in (2, 3, 100):
            seen, page = [], None
            while True:
                query = {
                    "order_by": order,
                    "limit": limit,
                    "columns": "name,metrics.loss",
                    **({"page": page} if page else {}),
                }
                found = noria.http.get("/api/v1/runs", params=query).json()
                assert set(found["columns"]) == {"name", "metrics.loss"}
                seen += found["columns"]["name"]
                page = found["next"]
                if not page:
                    break
            assert seen == wanted, (order, limit)
    shown = noria.http.get("/api/v1/runs", params={"order_by": "name"}).json()["columns"]["metrics.loss"]
    assert shown == [3.0, 1.0, "NaN", 2.0, "Infinity", None, 2.0]


def test_a_list_of_runs_takes_few_queries(noria: Noria) -> None:
    import sqlalchemy as sa

    for i in range(20):
        logged(noria, started(noria, name=f"r{i}"), x=1.0)
    statements: list[str] = []
    sa.event.listen(noria.app.db.engine, "before_cursor_execute", lambda *a: statements.append(a[2]))
    noria.app.tracking.search_runs(noria.op(), limit=100)
    assert sum("select" in s for s in statements) == 6
    statements.clear()
    noria.app.tracking.run_columns(noria.op(), limit=100, columns=["name", "metrics.x"])
    assert sum("select" in s for s in statements) == 2


def test_a_curve_keeps_its_extremes(noria: Noria) -> None:
    run, tracking = started(noria), noria.app.tracking
    values = [math.sin(i / 50) for i in range(5000)]
    values[1234], values[4000], values[4001] = 99.0, math.nan, -math.inf
    for start in range(0, 5000, 1000):
        points = [Point(key="x", value=values[i], at_ms=i, step=i) for i in range(start, start + 1000)]
        tracking.log_batch(noria.op(), run.id, points)
    curve = noria.http.get(f"/api/v1/runs/{run.id}/series?keys=x,nothing&buckets=100").json()["series"]["x"]
    assert len(curve["step"]) == 100 and curve["count"] == 5000
    assert max(curve["max"]) == 99.0 and (curve["nan"], curve["inf"], curve["minus_inf"]) == ([4000], [], [4001])
    assert (curve["first"][0], curve["last"][-1]) == (0.0, values[4999])
    part = noria.http.get(f"/api/v1/runs/{run.id}/series?keys=x&buckets=10000&from=4000&to=4002").json()["series"]["x"]
    assert part["step"] == [4000, 4001, 4002] and part["min"] == [None, None, values[4002]]
    both = noria.http.get(f"/api/v1/series?runs={run.id}&keys=x&buckets=2").json()["runs"]
    assert list(both) == [run.id] and both[run.id]["x"]["count"] == 5000
    for query in ("buckets=0", "buckets=99999", "from=x", "from=99999999999999999999"):
        assert noria.http.get(f"/api/v1/runs/{run.id}/series?{query}").status_code == 400


def test_a_file_is_given_as_an_attachment_that_may_do_nothing(noria: Noria) -> None:
    run = started(noria)
    path = f"/api/v1/runs/{run.id}/artifacts/content?path=plots/a%20b.html"
    assert noria.http.put(path, content=b"<script>alert(1)</script>").json()["size_bytes"] == 25
    answer = noria.http.get(path)
    assert answer.content == b"<script>alert(1)</script>"
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''a%20b.html"
    assert answer.headers["x-content-type-options"] == "nosniff" and "sandbox" in answer.headers["content-security-policy"]
    part = noria.http.get(path, headers={"range": "bytes=1-6"})
    assert (part.status_code, part.content, part.headers["content-range"]) == (206, b"script", "bytes 1-6/25")
    assert noria.http.get(path, headers={"range": "bytes=-3"}).content == b"pt>"
    assert noria.http.get(path, headers={"range": "bytes=99-"}).status_code == 200
    for bad in ("..", "%2e%2e/x", "a/../b", "%252e%252e", "a%5cb", "/etc/passwd", "a%00b", ""):
        for verb in (noria.http.get, lambda url: noria.http.put(url, content=b"x")):
            assert verb(f"/api/v1/runs/{run.id}/artifacts/content?path={bad}").status_code in (400, 404), bad
        assert noria.http.get(f"/api/v1/runs/{run.id}/artifacts?path={bad or '..'}").status_code == 400


def test_a_log_grows_while_it_is_read(noria: Noria) -> None:
    run = started(noria)
    assert noria.http.post(f"/api/v1/runs/{run.id}/logs", json={"text": "one\n"}).json() == {"size_bytes": 4}
    assert noria.http.post(f"/api/v1/runs/{run.id}/logs", json={"text": "one\ntwo\n", "offset": 0}).json() == {
        "size_bytes": 8
    }
    page = noria.http.get(f"/api/v1/runs/{run.id}/logs?offset=4").json()
    assert (page["text"], page["next_offset"], page["is_ended"]) == ("two\n", 8, False)
    assert noria.http.get(f"/api/v1/runs/{run.id}/logs?offset=-1").status_code == 400


def test_a_run_that_reads_a_version_of_data_is_linked_to_it(noria: Noria) -> None:
    stored = noria.app.blobs.put(b"a,b\n1,2\n")
    entry = FileEntry(path="a.csv", size_bytes=stored.size_bytes, digest=stored.digest)
    version = noria.app.datasets.commit(noria.op(), "flights", [entry])
    tracking = noria.app.tracking
    by_source = started(noria)
    source = '{"uri": "noria://flights@1"}'
    tracking.log_inputs(noria.op(), by_source.id, [DatasetInput(name="x", digest="1", source=source)])
    assert tracking.run(noria.op(), by_source.id).inputs[0].dataset_version == version.id
    by_tag = started(noria, tags={"noria.dataset_version": version.id})
    by_handle = started(noria)
    tracking.set_tag(noria.op(), by_handle.id, "noria.dataset_version", "flights@latest")
    by_name = started(noria)
    tracking.log_inputs(noria.op(), by_name.id, [DatasetInput(name="noria://flights@1", digest="1")])
    for run in (by_source, by_tag, by_handle, by_name):
        edges = noria.http.get(f"/api/v1/lineage/run:{run.id}?depth=1").json()["edges"]
        assert [(e["src"], e["kind"], e["dst"]) for e in edges] == [
            (f"run:{run.id}", "read", f"dataset_version:{version.id}")
        ]
    body = {"run_id": by_tag.id, "datasets": [{"dataset": {"name": "noria://flights@9", "digest": "1"}}]}
    assert noria.http.post(f"{MLFLOW}/runs/log-inputs", json=body).status_code == 404


# --- rights -------------------------------------------------------------------------------------------------------------


def test_a_stranger_is_told_nothing_and_a_reader_changes_nothing(noria: Noria) -> None:
    run, other = started(noria), started(noria, "other")
    root = noria.as_("root", "admin", kind="user")
    reader = noria.as_("reader", "viewer")
    scoped = noria.as_("scoped")
    noria.app.access.grant(
        noria.system(), Grant(principal="scoped", role="contributor", scope=f"experiment:{other.experiment_id}")
    )
    nobody = noria.client()
    reads = [
        f"/api/v1/runs/{run.id}", f"/api/v1/runs/{run.id}/series", f"/api/v1/runs/{run.id}/artifacts",
        f"/api/v1/runs/{run.id}/logs", f"/api/v1/experiments/{run.experiment_id}", f"{MLFLOW}/runs/get?run_id={run.id}",
        f"{MLFLOW}/experiments/get?experiment_id={run.experiment_id}", f"{MLFLOW}/artifacts/list?run_id={run.id}",
        f"{MLFLOW}/metrics/get-history?run_id={run.id}&metric_key=x", f"{MLFLOW}/experiments/get-by-name?experiment_name=flights",
    ]  # fmt: skip
    for path in reads:
        assert nobody.get(path).status_code == 401, path
        assert scoped.get(path).status_code == 404, path
        assert reader.get(path).status_code == 200, path
        absent = path.replace(run.id, "0" * 32).replace(run.experiment_id, "f" * 32).replace("flights", "absent")
        ours, theirs = scoped.get(path).text, scoped.get(absent).text
        for word in (run.id, "0" * 32, run.experiment_id, "f" * 32, "flights", "absent"):
            ours, theirs = ours.replace(word, "…"), theirs.replace(word, "…")
        assert ours.split('"op"')[0] == theirs.split('"op"')[0], (
            "the same words for what is hidden and for what is not there"
        )
    writes = [
        ("runs/log-batch", {"run_id": run.id, "params": [{"key": "a", "value": "1"}]}), ("runs/delete", {"run_id": run.id}),
        ("runs/create", {"experiment_id": run.experiment_id}), ("runs/set-tag", {"run_id": run.id, "key": "a", "value": "b"}),
        ("experiments/delete", {"experiment_id": run.experiment_id}), ("runs/log-inputs", {"run_id": run.id}),
    ]  # fmt: skip
    for path, body in writes:
        assert nobody.post(f"{MLFLOW}/{path}", json=body).status_code == 401, path
        assert reader.post(f"{MLFLOW}/{path}", json=body).status_code == 403, path
        assert scoped.post(f"{MLFLOW}/{path}", json=body).status_code in (403, 404), path
    upload = f"/api/2.0/mlflow-artifacts/artifacts/{run.experiment_id}/{run.id}/artifacts/a.txt"
    assert [c.put(upload, content=b"x").status_code for c in (nobody, reader, scoped, root)] == [401, 403, 404, 200]
    assert [c.get(upload).status_code for c in (nobody, reader, scoped, root)] == [401, 200, 404, 200]
    assert [c.delete(upload).status_code for c in (nobody, reader, scoped, root)] == [401, 403, 404, 200]
    assert scoped.get("/api/v1/runs").json()["ids"] == [other.id]
    assert scoped.post(f"{MLFLOW}/runs/search", json={"experiment_ids": [run.experiment_id]}).json()["runs"] == []
    assert [e["name"] for e in scoped.get("/api/v1/experiments").json()["items"]] == ["other"]
    assert scoped.post(f"{MLFLOW}/runs/log-batch", json={"run_id": other.id}).status_code == 200
    assert noria.app.tracking.run(noria.system(), run.id).params == {}


# --- refusals -----------------------------------------------------------------------------------------------------------

_WORDS = st.sampled_from(
    ["metrics.loss", "params.lr", "tags.t", "attributes.status", "start_time", "datasets.name", "x.y", "'a'", '"b"', "0.5", "-1",
     "=", "!=", "<", "like", "ilike", "in", "(", ")", ",", "and", "or", "is null", "not", "between", "%", "_", "';--", "`", "\\",
     "1e999", "9" * 30, "\x00", "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"), "select", "r.id", ":f0v"]
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.lists(_WORDS, max_size=8), where=st.sampled_from(["filter", "order_by", "columns", "page", "experiment"]))
def test_any_text_as_a_filter_is_read_or_refused(noria: Noria, words: list[str], where: str) -> None:
    answer = noria.http.get("/api/v1/runs", params={where: " ".join(words)})
    assert answer.status_code in (200, 400, 404), answer.text


def test_like_minds_case_and_nothing_else_is_special(noria: Noria) -> None:
    for i, name in enumerate(["100%", "100_", "10*?[a]", "A\\b", "üX"]):
        started(noria, name=name, tags={"i": str(i)})
    for text, wanted in (
        ("name like '100%'", ["100%", "100_"]), ("name like '10*?[a]'", ["10*?[a]"]), ("name like '10%[a]'", ["10*?[a]"]),
        ("name like 'a%'", []), ("name ilike 'a%'", ["A\\b"]), ("name like '%X'", ["üX"]), ("name not like '10%'", ["A\\b", "üX"]),
        ("name in ('üX', '100%')", ["100%", "üX"]), ("name not in ('üX', '100%', '100_')", ["10*?[a]", "A\\b"]),
        ("tags.i = '1' or_ = 1", None), ("tags.i is null", []), ("tags.j is null and tags.i = '0'", ["100%"]),
        ("params.x = 1", None), ("metrics.x = 'a'", None), ("name = \"üX\"", ["üX"]),
    ):  # fmt: skip
        answer = noria.http.get("/api/v1/runs", params={"filter": text, "order_by": "name", "columns": "name"})
        if wanted is None:
            assert answer.status_code == 400, text
        else:
            assert sorted(answer.json()["columns"]["name"]) == sorted(wanted), text


def test_values_that_begin_alike_are_told_apart(noria: Noria) -> None:
    for i, size in enumerate((199, 200, 201, 300, 301)):
        started(noria, name=f"r{i}", tags={"t": "x" * size})
    for i, size in enumerate((199, 200, 201, 300, 301)):
        found = noria.http.get("/api/v1/runs", params={"filter": f"tags.t = '{'x' * size}'", "columns": "name"}).json()
        assert found["columns"]["name"] == [f"r{i}"]


def test_limits_and_bad_requests_are_named(noria: Noria) -> None:
    run = started(noria)
    for path in (
        "/api/v1/runs?limit=0", "/api/v1/runs?limit=10001", "/api/v1/runs?columns=nothing", "/api/v1/runs?stage=x",
        "/api/v1/runs?page=zzz", f"{MLFLOW}/metrics/get-history?run_id={run.id}", f"{MLFLOW}/runs/get",
        f"{MLFLOW}/experiments/search?max_results=50001", f"{MLFLOW}/experiments/search?max_results=x",
    ):  # fmt: skip
        answer = noria.http.get(path)
        assert answer.status_code == 400, (path, answer.text)
    assert noria.http.post("/api/v1/runs", json={"experiment": "a\nb"}).status_code == 400
    assert noria.http.post(f"{MLFLOW}/runs/update", json={"run_id": run.id, "status": "SOMEHOW"}).status_code == 400
    assert (
        noria.http.post(f"{MLFLOW}/runs/update", json={"run_id": run.id, "status": 3}).json()["run_info"]["status"]
        == "FINISHED"
    )
    two = [{"key": "a", "value": "1"}, {"key": "a", "value": "2"}]
    assert noria.http.post(f"{MLFLOW}/runs/log-batch", json={"run_id": run.id, "params": two}).status_code == 400
    assert noria.http.post(f"{MLFLOW}/registered-models/zzz", json={}).status_code == 501
