"""The map of what was made from what: both ways, by time, what would feel a change, and OpenLineage – for each reader what they may see."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from openlineage.client import event_v2, facet_v2
from openlineage.client.serde import Serde

from noria.access.model import Grant
from noria.client.api import Api
from noria.client.datasets import dataset
from noria.kernel.clock import ManualClock
from noria.kernel.db import js
from noria.kernel.ids import Ref, new_id
from noria.kernel.lineage import UPSTREAM_IS_DST
from tests.conftest import Noria
from tests.reports.conftest import begun

FILES = {"MLmodel": b"flavors: {python_function: {loader_module: none}}\n"}


class Story:
    """clicks@1 → run → fraud@1 → revision → endpoint fraud, which a monitor watches and a report shows; clicks@2 is read by nobody."""

    def __init__(self, noria: Noria, clock: ManualClock) -> None:
        app, op = noria.app, noria.system()
        data = dataset("clicks", api=Api(noria.client(), url=noria.config.control_url))
        self.clicks = [data.commit({"a.csv": text}).id for text in (b"x\n1\n", b"x\n2\n")]
        self.experiment = app.tracking.experiment_by_name(op, "fraud", create=True).id
        self.run = app.tracking.create_run(op, self.experiment, "first").id
        for path, content in FILES.items():
            app.tracking.put_artifact(op, self.run, f"model/{path}", content)
        with app.db.write(op) as tx:
            tx.link(Ref("run", self.run), "read", Ref("dataset_version", self.clicks[0]))
        app.tracking.update_run(op, self.run, status="FINISHED")
        self.version = app.registry.create_version(op, "fraud", source=f"runs:/{self.run}/model").id
        clock.advance(3_600)
        self.later_ms = clock.now_ms()
        self.revision, later = new_id(), noria.system()
        routes = [{"revision_id": self.revision, "model_version": 1, "weight": 100, "role": "champion"}]
        with app.db.write(later) as tx:
            tx.run(
                """insert into endpoint (name, model, generation, routes, pending_revision_id, status, created_at_ms, updated_at_ms,
                                         is_deleted)
                   values ('fraud', 'fraud', 1, :routes, '', 'ready', 1, 1, :no)""",
                routes=js(routes), no=False,
            )  # fmt: skip
            tx.run(
                """insert into revision (id, endpoint, number, model, model_version, model_version_id, digest, config, environment, files,
                                         state, error, created_at_ms, actor)
                   values (:id, 'fraud', 1, 'fraud', 1, :version, '', '{}', '{}', '[]', 'ready', '', 1, 'user:ada')""",
                id=self.revision, version=self.version,
            )  # fmt: skip
            tx.link(Ref("revision", self.revision), "serves", Ref("model_version", self.version))
            tx.link(Ref("endpoint", "fraud"), "has", Ref("revision", self.revision))
        self.report = begun(noria.http, {"kind": "model", "model": "fraud"}, title="Is it fraud?")["id"]


@pytest.fixture
def story(noria: Noria, clock: ManualClock) -> Story:
    return Story(noria, clock)


def mapped(client: httpx.Client, ref: str, what: str = "", **params: Any) -> dict[str, Any]:
    answer = client.get(f"/api/v1/lineage/{ref}{what}", params=params)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def kinds(found: dict[str, Any]) -> set[str]:
    return {n["kind"] for n in found["nodes"]}


def test_it_leads_both_ways_and_says_what_is_not_shown(noria: Noria, story: Story) -> None:
    at = f"model_version:{story.version}"
    near = mapped(noria.http, at, depth=1)
    assert kinds(near) == {"model_version", "run", "dataset_version", "revision"}
    by = {n["kind"]: n for n in near["nodes"]}
    assert by["model_version"]["label"] == "fraud@1" and by["dataset_version"]["label"] == "clicks@1"
    assert by["run"]["state"] == "finished" and by["revision"]["more"] == 1, "its endpoint is not shown"
    assert kinds(mapped(noria.http, at, way="up", depth=3)) == {"model_version", "run", "dataset_version"}
    assert kinds(mapped(noria.http, at, way="down", depth=3)) == {"model_version", "revision", "endpoint"}
    assert noria.http.get(f"/api/v1/lineage/{at}", params={"depth": 7}).status_code == 400
    assert noria.http.get(f"/api/v1/lineage/{at}", params={"from_ms": 5, "to_ms": 5}).status_code == 400
    assert noria.http.get(f"/api/v1/lineage/{at}", params={"way": "sideways"}).status_code == 400


def test_only_what_was_linked_in_a_time_is_shown(noria: Noria, story: Story) -> None:
    at = f"model_version:{story.version}"
    assert kinds(mapped(noria.http, at, depth=3, to_ms=story.later_ms)) == {"model_version", "run", "dataset_version"}
    assert kinds(mapped(noria.http, at, depth=3, from_ms=story.later_ms)) == {"model_version", "revision", "endpoint"}


def test_what_would_feel_a_change_is_named_and_what_is_live_marked(noria: Noria, story: Story) -> None:
    felt = mapped(noria.http, "dataset:clicks", "/impact")
    assert kinds(felt) == {"dataset", "dataset_version", "run", "model_version", "revision", "endpoint", "model", "report"}
    live = {n["kind"] for n in felt["nodes"] if n["is_live"]}
    assert live == {"endpoint", "revision"}
    assert [n["label"] for n in felt["nodes"] if n["kind"] == "report"] == ["Is it fraud?"]
    nothing = mapped(noria.http, f"dataset_version:{story.clicks[1]}", "/impact")
    assert kinds(nothing) == {"dataset_version"}, "nobody read it"


def test_a_reader_sees_of_it_what_they_may_and_nothing_behind_what_they_may_not(noria: Noria, story: Story) -> None:
    noria.as_("root", "admin", kind="user")
    eve = noria.as_("eve", kind="user")
    access, op = noria.app.access, noria.system()
    at = f"model_version:{story.version}"
    assert eve.get(f"/api/v1/lineage/{at}").status_code == 403
    access.grant(op, Grant(principal="eve", role="viewer", scope="dataset:clicks"))
    access.grant(op, Grant(principal="eve", role="viewer", scope="model:fraud"))
    assert kinds(mapped(eve, at, depth=4)) == {"model_version", "dataset_version"}, "trained on it; the run is hidden"
    assert [n["more"] for n in mapped(eve, at, depth=4)["nodes"]] == [0, 0], "what is hidden is not counted"
    felt = mapped(eve, "dataset:clicks", "/impact")
    assert kinds(felt) <= {"dataset", "dataset_version", "model_version", "model"} and "run" not in str(felt["edges"])
    told = eve.get(f"/api/v1/lineage/{at}/openlineage").text
    for secret in (story.run, story.experiment, story.revision, story.report, "endpoint"):
        assert secret not in told
    for hidden in (f"run:{story.run}", "endpoint:fraud", f"report:{story.report}"):
        gone = f"{hidden.partition(':')[0]}:{'0' * 32}"
        answers = [
            eve.get(f"/api/v1/lineage/{ref}{what}") for ref in (hidden, gone) for what in ("", "/impact", "/openlineage")
        ]
        assert [a.status_code for a in answers] == [404] * 6, "hidden is answered like absent"


def test_a_label_takes_things_off_the_map(noria: Noria, story: Story) -> None:
    root = noria.as_("root", "admin", kind="user")
    ada = noria.as_("ada", "viewer", kind="user")
    at = f"model_version:{story.version}"
    assert "run" in kinds(mapped(ada, at, depth=3))
    root.put("/api/v1/labels/pii", json={})
    root.put(f"/api/v1/labels/pii/things/experiment:{story.experiment}")
    assert kinds(mapped(ada, at, depth=3)) == {"model_version", "dataset_version", "revision", "endpoint"}


def test_openlineage_is_what_its_own_client_would_send(noria: Noria, story: Story) -> None:
    """Each event is built again with the official client, which checks times, ids and addresses, and comes out the same."""
    events = noria.http.get(f"/api/v1/lineage/dataset_version:{story.clicks[0]}/openlineage", params={"depth": 5}).json()
    run, endpoint = events
    assert run["eventType"] == "COMPLETE" and run["run"]["runId"].replace("-", "") == story.run
    assert [(d["name"], d["facets"]["version"]["datasetVersion"]) for d in run["inputs"]] == [("datasets/clicks", "1")]
    assert [(d["name"], d["facets"]["version"]["datasetVersion"]) for d in run["outputs"]] == [("models/fraud", "1")]
    assert endpoint["job"]["name"] == "endpoints/fraud" and endpoint["inputs"][0]["name"] == "models/fraud"
    for event in events:
        assert pruned(Serde.to_dict(official(event))) == pruned(event)
    shown = noria.http.get(f"/api/v1/lineage/report:{story.report}/openlineage").json()
    assert [(e["job"]["name"], e["inputs"][0]["name"]) for e in shown] == [(f"reports/{story.report}", "models/fraud")]


def official(event: dict[str, Any]) -> Any:
    def facets(of: dict[str, Any]) -> dict[str, Any]:
        version = of["facets"].get("version")
        made = facet_v2.dataset_version_dataset.DatasetVersionDatasetFacet
        return {"version": made(datasetVersion=version["datasetVersion"], producer=version["_producer"])} if version else {}

    job = event_v2.Job(namespace=event["job"]["namespace"], name=event["job"]["name"])
    inputs = [event_v2.InputDataset(namespace=d["namespace"], name=d["name"], facets=facets(d)) for d in event["inputs"]]
    outputs = [event_v2.OutputDataset(namespace=d["namespace"], name=d["name"], facets=facets(d)) for d in event["outputs"]]
    common = {
        "eventTime": event["eventTime"],
        "producer": event["producer"],
        "job": job,
        "inputs": inputs,
        "outputs": outputs,
    }
    if "run" not in event:
        return event_v2.JobEvent(**common)
    return event_v2.RunEvent(
        eventType=getattr(event_v2.RunState, event["eventType"]), run=event_v2.Run(runId=event["run"]["runId"]), **common
    )


def pruned(value: Any) -> Any:
    """Without empty facets, which may be said or not."""
    if isinstance(value, dict):
        return {k: pruned(v) for k, v in value.items() if v != {}}
    return [pruned(v) for v in value] if isinstance(value, list) else value


def test_the_page_draws_edges_the_way_they_flow() -> None:
    from pathlib import Path

    text = (Path(__file__).parents[2] / "noria/ui/pages/lineage.js").read_text()
    drawn = text.partition("const BACKWARDS = new Set([")[2].partition("])")[0]
    assert {word.strip(" '") for word in drawn.split(",")} == UPSTREAM_IS_DST
