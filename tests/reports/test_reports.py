"""Reports through the door: blocks, panels seen with one's own eyes, versions, two writers, projects."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from noria.access.model import Grant
from noria.reports.model import BLOCKS_MAX
from tests.conftest import Noria
from tests.reports.conftest import Flights, begun

WORDS = {"kind": "text", "text": "# Delays\n\nIt is **worse** <script>alert(1)</script> in winter."}


def panel(client: httpx.Client, report: dict[str, Any], at: int) -> httpx.Response:
    return client.get(f"/api/v1/reports/{report['id']}/panels/{report['blocks'][at]['id']}")


def saved(client: httpx.Client, report: dict[str, Any], **changes: Any) -> httpx.Response:
    body = {"title": report["title"], "blocks": report["blocks"], "expect": report["latest"], **changes}
    return client.put(f"/api/v1/reports/{report['id']}", json=body)


def test_a_report_shows_words_and_what_its_panels_name_as_it_is_now(noria: Noria, flights: Flights) -> None:
    ada = noria.as_("ada", "contributor", kind="user")
    curves = {"kind": "curves", "metrics": ["loss"], "experiment": "flights", "order_by": "attributes.run_name"}
    table = {
        "kind": "runs",
        "experiment": flights.experiment,
        "filter": "params.depth = 'deeper'",
        "columns": ["metrics.loss"],
    }
    data = {"kind": "dataset", "dataset": "people", "version": "2"}
    diff = {"kind": "dataset", "dataset": "people", "version": "latest", "against": "1"}
    made = begun(ada, WORDS, curves, table, data, diff)
    assert made["version"] == 1 and made["created_by"] == "user:ada" and made["may_write"] and not made["may_delete"]
    html = made["html"][made["blocks"][0]["id"]]
    assert "<strong>worse</strong>" in html and "<script" not in html
    drawn = panel(ada, made, 1).json()["data"]
    assert sorted(r["name"] for r in drawn["runs"]) == ["baseline", "deeper"]
    curve = drawn["series"][flights.runs[0]]["loss"]
    assert curve["count"] == 20 and curve["nan"] == [7]
    rows = panel(ada, made, 2).json()["data"]
    assert rows["ids"] == [flights.runs[1]] and rows["columns"]["metrics.loss"] == [0.05]
    assert panel(ada, made, 3).json()["data"]["tables"][0]["rows_count"] == 4
    changed = panel(ada, made, 4).json()["data"]
    assert (changed["against"], changed["number"], changed["changed_count"]) == (1, 2, 1)
    run = noria.app.tracking.create_run(noria.system(), flights.experiment, "later")
    assert run.id in {r["id"] for r in panel(ada, made, 1).json()["data"]["runs"]}, "a panel is live"


def test_a_panel_shows_each_reader_what_they_may_read_themselves(noria: Noria, flights: Flights) -> None:
    root = noria.as_("root", "admin", kind="user")
    made = begun(
        root, WORDS, {"kind": "runs", "experiment": "flights"}, {"kind": "dataset", "dataset": "people"}, {"kind": "runs"}
    )
    eve = noria.as_("eve", kind="user")
    assert eve.get(f"/api/v1/reports/{made['id']}").status_code == 403, "nothing anywhere"
    noria.app.access.grant(noria.system(), Grant(principal="eve", role="viewer", scope=f"report:{made['id']}"))
    assert eve.get(f"/api/v1/reports/{made['id']}").json()["html"], "the words"
    assert eve.get("/api/v1/reports").json()["items"][0]["id"] == made["id"]
    for at in (1, 2, 3):
        hidden = panel(eve, made, at)
        assert hidden.status_code == 404 and "people" not in hidden.json()["error"].get("ref", ""), hidden.text
    assert eve.get(f"/api/v1/reports/{'0' * 32}").status_code == 404
    assert saved(eve, made).status_code == 403
    noria.app.access.grant(noria.system(), Grant(principal="eve", role="viewer", scope=f"experiment:{flights.experiment}"))
    assert len(panel(eve, made, 1).json()["data"]["ids"]) == 2


def test_every_save_is_a_version_that_can_be_seen_and_brought_back(noria: Noria) -> None:
    ada = noria.as_("ada", "contributor", kind="user")
    made = begun(ada, WORDS)
    second = saved(ada, made, title="February", blocks=[], message="cut it all").json()
    assert (second["version"], second["title"], second["blocks"]) == (2, "February", [])
    at = f"/api/v1/reports/{made['id']}"
    first = ada.get(at, params={"version": 1}).json()
    assert first["title"] == "January" and first["latest"] == 2 and len(first["blocks"]) == 1
    assert ada.get(at, params={"version": 3}).status_code == 404
    back = ada.post(f"{at}/restore", json={"version": 1, "expect": 2}).json()
    assert (back["version"], back["title"]) == (3, "January") and back["blocks"] == first["blocks"]
    listed = ada.get(f"{at}/versions").json()["items"]
    assert [(v["number"], v["message"], v["restored_from"]) for v in listed] == [
        (3, "", 1),
        (2, "cut it all", None),
        (1, "", None),
    ]
    assert [v["number"] for v in ada.get(f"{at}/versions", params={"limit": 2}).json()["items"]] == [3, 2]
    assert [(f.data["version"], f.data["restored_from"]) for f in noria.facts("report.saved")] == [(2, None), (3, 1)]


def test_of_two_writers_the_second_is_told(noria: Noria) -> None:
    ada, ben = noria.as_("ada", "contributor", kind="user"), noria.as_("ben", "contributor", kind="user")
    made = begun(ada, WORDS)
    assert saved(ada, made, title="Ada's").is_success
    late = saved(ben, made, title="Ben's")
    assert late.status_code == 409
    assert late.json()["error"]["message"] == 'ada saved version 2 of "Ada\'s" since you read version 1.'
    assert ben.post(f"/api/v1/reports/{made['id']}/restore", json={"version": 1, "expect": 1}).status_code == 409
    assert saved(ben, {**made, "latest": 2}, title="Ben's").json()["version"] == 3


def test_a_report_lies_in_a_project_and_a_role_there_is_enough(noria: Noria) -> None:
    root = noria.as_("root", "admin", kind="user")
    for name in ("delays", "other"):
        root.put(f"/api/v1/projects/{name}", json={})
    ben = noria.as_("ben", kind="user")
    noria.app.access.grant(noria.system(), Grant(principal="ben", role="contributor", scope="project:delays"))
    assert ben.post("/api/v1/reports", json={"title": "x"}).status_code == 403
    assert ben.post("/api/v1/reports", json={"title": "x", "project": "other"}).status_code == 403
    made = begun(ben, WORDS, project="delays")
    begun(root, title="elsewhere")
    assert [r["id"] for r in ben.get("/api/v1/reports").json()["items"]] == [made["id"]]
    assert saved(ben, made).is_success
    assert root.post("/api/v1/reports", json={"title": "x", "project": "none"}).status_code == 404
    assert len(root.get("/api/v1/reports").json()["items"]) == 2


def test_reports_are_found_by_their_title_and_talked_about(noria: Noria) -> None:
    ada, ben = noria.as_("ada", "contributor", kind="user"), noria.as_("ben", "contributor", kind="user")
    made = begun(ada, WORDS, title="100% of_delays")
    begun(ada, title="Weather")
    found = [r["title"] for r in ada.get("/api/v1/reports", params={"find": "100% OF_"}).json()["items"]]
    assert found == ["100% of_delays"] and not ada.get("/api/v1/reports", params={"find": "1_0"}).json()["items"]
    hits = ada.get("/api/v1/search", params={"q": "of_del"}).json()["items"]
    assert [(h["kind"], h["ref"], h["label"]) for h in hits] == [("report", f"report:{made['id']}", "100% of_delays")]
    first = ada.get("/api/v1/reports", params={"limit": 1}).json()
    rest = ada.get("/api/v1/reports", params={"limit": 1, "page": first["next"]}).json()
    assert {first["items"][0]["title"], rest["items"][0]["title"]} == {"100% of_delays", "Weather"} and rest["next"] is None
    said = ben.post("/api/v1/comments", json={"subject": f"report:{made['id']}", "body": "Is this right, @ada?"})
    assert said.status_code == 201 and said.json()["not_told"] == []
    noria.settle()
    assert ada.get("/api/v1/inbox").json()["items"][0]["title"] == "100% of_delays"
    saved(ada, made)
    noria.settle()
    told = [n["kind"] for n in ben.get("/api/v1/inbox").json()["items"]]
    assert told == ["report.saved"], "whoever takes part is told of another version"


def test_only_whoever_may_delete_does_and_nothing_is_left(noria: Noria, flights: Flights) -> None:
    ada, root = noria.as_("ada", "contributor", kind="user"), noria.as_("root", "admin", kind="user")
    made = begun(ada, {"kind": "dataset", "dataset": "people"}, {"kind": "model", "model": "nothing"})
    with noria.app.db.read() as tx:
        edges = tx.column("select dst from edge where src = :ref order by dst", ref=f"report:{made['id']}")
    assert edges == ["dataset:people", "model:nothing"]
    assert ada.delete(f"/api/v1/reports/{made['id']}").status_code == 403
    assert root.delete(f"/api/v1/reports/{made['id']}").status_code == 204
    assert ada.get(f"/api/v1/reports/{made['id']}").status_code == 404
    with noria.app.db.read() as tx:
        for table in ("report", "report_version", "report_link"):
            assert tx.scalar(f"select count(*) from {table}") == 0
        assert tx.tuples("select dst from edge where src = :ref", ref=f"report:{made['id']}") == []


@pytest.mark.parametrize(
    ("block", "where"),
    [
        ({"kind": "curves", "metrics": []}, "blocks"),
        ({"kind": "curves", "metrics": ["a"] * 13}, "blocks"),
        ({"kind": "curves", "metrics": ["loss"], "smooth": 1}, "smooth"),
        ({"kind": "curves", "metrics": ["loss"], "runs": ["x"] * 21}, "blocks"),
        ({"kind": "runs", "limit": 0}, "blocks"),
        ({"kind": "runs", "filter": "x" * 4_001}, "filter"),
        ({"kind": "runs", "columns": [""]}, "blocks"),
        ({"kind": "text", "text": "x" * 100_001}, "blocks"),
        ({"kind": "text", "id": "A b"}, "blocks"),
        ({"kind": "nothing"}, "blocks[0].kind"),
        ({"kind": "model"}, "blocks[0]"),
        ({"kind": "endpoint", "endpoint": "x", "span": "2y"}, "blocks[0].span"),
    ],
)
def test_a_block_that_cannot_be_shown_is_refused(noria: Noria, block: dict[str, Any], where: str) -> None:
    answer = noria.http.post("/api/v1/reports", json={"title": "x", "blocks": [block]})
    assert answer.status_code == 400 and answer.json()["error"]["where"] == where, answer.text
    assert noria.facts("report.created") == []


def test_what_is_too_much_or_said_twice_is_refused(noria: Noria) -> None:
    for blocks in (
        [{"kind": "text"}] * (BLOCKS_MAX + 1),
        [{"kind": "text", "id": "a"}] * 2,
        [{"kind": "text", "text": "x" * 99_000}] * 6,
    ):
        assert noria.http.post("/api/v1/reports", json={"title": "x", "blocks": blocks}).status_code == 400
    for title in ("", " ", "x" * 201, "a\nb"):
        assert noria.http.post("/api/v1/reports", json={"title": title}).status_code == 400


def test_a_block_is_seen_before_it_is_saved(noria: Noria, flights: Flights) -> None:
    ada = noria.as_("ada", "viewer", kind="user")
    seen = ada.post("/api/v1/reports/preview", json={"block": {"kind": "text", "text": "**x**"}}).json()
    assert seen["data"]["html"] == "<p><strong>x</strong></p>\n"
    for block in ({"kind": "runs", "filter": "metrics.loss <"}, {"kind": "runs", "columns": ["nonsense.x"]}):
        refused = ada.post("/api/v1/reports/preview", json={"block": block})
        assert refused.status_code == 400, refused.text
    gone = ada.post("/api/v1/reports/preview", json={"block": {"kind": "runs", "experiment": "nothing"}})
    assert gone.status_code == 404
