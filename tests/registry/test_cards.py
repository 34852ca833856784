"""Cards: filled from the record, written by people, every edit kept; and never a way to run anything."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from noria.cli.main import main
from noria.kernel.ids import Ref
from noria.registry.model import Evaluation, ModelVersion
from tests.conftest import Noria
from tests.registry.test_cli import KeptOpen

Given = Callable[..., ModelVersion]
CARD = "/api/v1/models/flights/versions/1/card"


def test_a_card_is_filled_from_the_record_and_names_what_is_missing(noria: Noria, given_version: Given) -> None:
    version = given_version()
    thin = noria.http.get(CARD).json()
    assert set(thin["completeness"]["missing"]) == {
        "datasets", "evaluations", "slices", "approvers", "intended_use", "out_of_scope", "limitations",
        "ethical_considerations", "human_oversight",
    }  # fmt: skip
    evaluation = Evaluation(
        dataset_version="d1", split="test", metrics={"rmse": 21.5}, slices={"origin=EWR": {"rmse": 30.25}}
    )
    noria.app.registry.set_evaluation(noria.op(), version, evaluation)
    with noria.app.db.write(noria.op()) as tx:
        tx.emit(
            "approval.granted", Ref("approval", "a1"), about=str(version.ref), action="model.promote", digest=version.digest,
            approvers=["user:bob"], expires_at_ms=1,
        )  # fmt: skip
        for model, number in (("flights", 1), ("flights", 2), ("other", 1)):
            tx.emit(
                "revision.created",
                Ref("revision", "r"),
                endpoint=f"{model}-{number}",
                model=model,
                version=number,
                role="champion",
            )
    card = noria.http.get(CARD).json()
    assert not {"evaluations", "slices", "approvers"} & set(card["completeness"]["missing"])
    assert card["completeness"]["score"] > thin["completeness"]["score"]
    assert [a["approvers"] for a in card["recorded"]["approvals"]] == [["user:bob"]]
    assert [e["endpoint"] for e in card["recorded"]["endpoints"]] == ["flights-1"]
    page = noria.http.get(CARD, params={"form": "md"})
    assert page.headers["content-type"].startswith("text/markdown")
    for said in (
        "| origin\\=EWR |".replace("\\=", "="),
        "21\\.5",
        "c0ffee with changes",
        "user:bob",
        "| hour double |",
        "*Not written.",
    ):
        assert said in page.text, said


def test_a_section_is_written_and_every_edit_is_kept(noria: Noria, given_version: Given) -> None:
    given_version()
    before = noria.http.get(CARD).json()["completeness"]["score"]
    for n, text in enumerate(("Delays of *departures*.", "Delays of departures, **not** arrivals."), 1):
        noria.clock.advance(60)
        card = noria.http.put(f"{CARD}/intended_use", json={"content": text, "expect": n - 1}).json()
    section = next(s for s in card["sections"] if s["section"] == "intended_use")
    assert (section["content"], section["edit"], section["actor"]) == (
        "Delays of departures, **not** arrivals.",
        2,
        "user:local admin",
    )
    assert card["completeness"]["score"] > before and "intended_use" not in card["completeness"]["missing"]
    history = noria.http.get(f"{CARD}/intended_use").json()["items"]
    assert [h["content"] for h in history] == ["Delays of departures, **not** arrivals.", "Delays of *departures*."]
    stale = noria.http.put(f"{CARD}/intended_use", json={"content": "mine", "expect": 1})
    assert stale.status_code == 409 and "edit 2" in stale.json()["error"]["hint"]
    assert [f.data["edit"] for f in noria.facts("model_version.card_edited")] == [1, 2]
    assert noria.http.put(f"{CARD}/nonsense", json={"content": "x"}).status_code == 400
    assert noria.http.put(f"{CARD}/limitations", json={"content": "x" * 60_000}).status_code == 400
    assert noria.http.get(CARD, params={"form": "pdf"}).status_code == 400
    assert noria.http.get("/api/v1/models/flights/versions/9/card").status_code == 404


@pytest.mark.parametrize(
    "payload",
    [
        "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "[a](javascript:alert(1))", "![a](https://evil.example/x.png)",
        "<svg onload=alert(1)>", "<a href='data:text/html,x'>a</a>", "[a](vbscript:x)", "<iframe src=//evil.example></iframe>",
        "<style>*{background:url(//evil.example)}</style>", "`<script>`\n\n<div onclick=x>", "[a]: javascript:alert(1)\n\n[a]",
    ],
)  # fmt: skip
def test_a_card_runs_and_loads_nothing(noria: Noria, given_version: Given, payload: str) -> None:
    given_version()
    assert noria.http.put(f"{CARD}/limitations", json={"content": f"before\n\n{payload}\n\nafter"}).status_code == 200
    page = noria.http.get(CARD, params={"form": "html"})
    assert "before" in page.text and "after" in page.text
    live = page.text.replace("&lt;", "").lower()
    for bad in ("<script", "<img", "<svg", "<iframe", "<style", "<div", 'href="javascript', 'href="vbscript', 'href="data'):
        assert bad not in live, page.text
    assert "sandbox" in page.headers["content-security-policy"]


def test_a_recorded_value_is_shown_as_it_is(noria: Noria, given_version: Given) -> None:
    """A name of a slice or a param is text, whatever it looks like."""
    version = given_version()
    name = "a|b*c<i>[x](http://y)\n# head"
    noria.app.registry.set_evaluation(
        noria.op(), version, Evaluation(dataset_version="d", split="test", metrics={"m": 1.0}, slices={name: {"m": 2.0}})
    )
    html = noria.http.get(CARD, params={"form": "html"}).text
    assert "a|b*c&lt;i&gt;[x](http://y) # head" in html


def test_only_who_may_tag_writes_a_card(noria: Noria, given_version: Given) -> None:
    given_version()
    noria.as_("root", "admin", kind="user")
    viewer, contributor = noria.as_("viewer", "viewer"), noria.as_("contributor", "contributor")
    assert viewer.get(CARD).status_code == 200
    assert viewer.put(f"{CARD}/limitations", json={"content": "x"}).status_code == 403
    assert contributor.put(f"{CARD}/limitations", json={"content": "x"}).status_code == 200
    assert noria.client().get(CARD).status_code == 401


def test_a_card_and_a_lineage_on_the_command_line(
    noria: Noria, given_version: Given, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    version = given_version()
    monkeypatch.setattr("noria.client.api.connect", lambda: KeptOpen(noria.client(), url=noria.config.control_url))
    (tmp_path / "limits.md").write_text("Wrong in *snow*.")
    run = CliRunner().invoke
    written = run(main, ["model", "card", "flights@1", "--section", "limitations", "--file", str(tmp_path / "limits.md")])
    assert written.exit_code == 0 and "% complete; missing:" in written.output, written.output
    assert "Wrong in *snow*." in run(main, ["model", "card", "flights@latest"]).output
    assert "<em>snow</em>" in run(main, ["model", "card", "flights@1", "--html"]).output
    assert json.loads(run(main, ["model", "card", "flights@1", "--json"]).output)["version"] == 1
    assert run(main, ["model", "card", "flights@1", "--section", "limitations"]).exit_code == 3
    told = run(main, ["model", "lineage", "flights@1"]).output
    assert version.run_id in told and "c0ffee" in told and f"built_by run:{version.run_id}" in told
    noria.app.registry.delete_version(noria.op(), "flights", 1)
    assert run(main, ["model", "card", "flights@1"]).exit_code == 6
