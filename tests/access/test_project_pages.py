"""What a project says of itself, what happened in it and what it cost; and what one may do, in one answer."""

from __future__ import annotations

import httpx
import pytest

from noria.access.model import Grant
from tests.conftest import Noria

V1 = "/api/v1"


@pytest.fixture
def root(noria: Noria) -> httpx.Client:
    """An administrator; the model `fraud` and the experiment `tries` lie in the project `risk`, the model `churn` does not."""
    root = noria.as_("root", "admin", kind="user")
    for model in ("fraud", "churn"):
        root.post(f"{V1}/models", json={"name": model}).raise_for_status()
    experiment = noria.app.tracking.experiment_by_name(noria.system(), "tries", create=True).id
    root.put(f"{V1}/projects/risk", json={"description": "credit risk"}).raise_for_status()
    for thing in ("model:fraud", f"experiment:{experiment}"):
        root.put(f"{V1}/projects/risk/things/{thing}").raise_for_status()
    return root


def test_a_readme_is_written_by_whoever_works_there_and_never_over_somebody(noria: Noria, root: httpx.Client) -> None:
    cara, vic, out = noria.as_("cara", kind="user"), noria.as_("vic", kind="user"), noria.as_("out", kind="user")
    for who, role in (("cara", "contributor"), ("vic", "viewer")):
        noria.app.access.grant(noria.system(), Grant(principal=who, role=role, scope="project:risk"))
    noria.app.access.grant(noria.system(), Grant(principal="out", role="contributor", scope="model:churn"))
    page = cara.get(f"{V1}/projects/risk").json()
    assert page["edit"] == 0 and [t.partition(":")[0] for t in page["things"]] == ["experiment", "model"]
    wrote = cara.put(f"{V1}/projects/risk/readme", json={"content": "# Risk\n\n<script>x</script> **who**", "expect": 0})
    assert wrote.status_code == 200 and "<strong>who</strong>" in wrote.json()["readme_html"]
    assert "<script" not in wrote.json()["readme_html"] and wrote.json()["actor"] == "user:cara"
    stale = root.put(f"{V1}/projects/risk/readme", json={"content": "mine", "expect": 0})
    assert stale.status_code == 409 and "user:cara" in stale.json()["error"]["hint"]
    assert vic.get(f"{V1}/projects/risk").json()["readme"].startswith("# Risk")
    assert vic.put(f"{V1}/projects/risk/readme", json={"content": "no"}).status_code == 403
    assert out.get(f"{V1}/projects/risk").status_code == 404 and root.get(f"{V1}/projects/none").status_code == 404
    assert out.put(f"{V1}/projects/risk/readme", json={"content": "no"}).status_code == 404, "it is not theirs to know"
    assert [p["name"] for p in vic.get(f"{V1}/projects").json()["items"]] == ["risk"]
    too_long = root.put(f"{V1}/projects/risk/readme", json={"content": "x" * 100_001})
    assert too_long.status_code == 400 and too_long.json()["error"]["where"] == "content"
    assert [e.data["edit"] for e in noria.facts("project.described")] == [1]


def test_activity_is_of_the_project_alone(noria: Noria, root: httpx.Client) -> None:
    experiment = noria.app.tracking.experiment_by_name(noria.system(), "tries").id
    run = noria.app.tracking.create_run(noria.system(), experiment)
    subjects = [e["subject"] for e in root.get(f"{V1}/projects/risk/activity").json()["items"]]
    assert f"run:{run.id}" in subjects, "a run is of its experiment"
    assert "project:risk" in subjects and any(s.startswith("model:") or "fraud" in s for s in subjects)
    assert not any("churn" in s for s in subjects)
    assert [e["seq"] for e in root.get(f"{V1}/projects/risk/activity?limit=2").json()["items"]] == sorted(
        (e["seq"] for e in root.get(f"{V1}/projects/risk/activity").json()["items"]), reverse=True
    )[:2]


def test_what_runs_took_is_added_up_by_who_and_experiment(noria: Noria, root: httpx.Client) -> None:
    experiment = noria.app.tracking.experiment_by_name(noria.system(), "tries").id
    mlflow, now = "/api/2.0/mlflow", noria.clock.now_ms()
    for user, hours, cost in (("ada", 2, 5.0), ("ada", 1, None), ("ben", 4, 1.5)):
        began = now - hours * 3_600_000
        made = root.post(f"{mlflow}/runs/create", json={"experiment_id": experiment, "user_id": user, "start_time": began})
        run_id = made.json()["run"]["info"]["run_id"]
        if cost is not None:
            metric = {"run_id": run_id, "key": "system/cost", "value": cost, "timestamp": now, "step": 0}
            root.post(f"{mlflow}/runs/log-metric", json=metric).raise_for_status()
        root.post(f"{mlflow}/runs/update", json={"run_id": run_id, "status": "FINISHED", "end_time": now}).raise_for_status()
    rows = root.get(f"{V1}/spent", params={"experiments": experiment, "days": 1}).json()["items"]
    assert [(r["user"], r["runs_count"], r["hours"], r["cost"], r["priced_count"]) for r in rows] == [
        ("ada", 2, 3.0, 5.0, 1), ("ben", 1, 4.0, 1.5, 1),
    ]  # fmt: skip
    assert root.get(f"{V1}/spent", params={"experiments": "f" * 32}).json()["items"] == []
    assert root.get(f"{V1}/spent", params={"days": 0}).status_code == 400
    out = noria.as_("out")
    noria.app.access.grant(noria.system(), Grant(principal="out", role="viewer", scope="model:churn"))
    assert out.get(f"{V1}/spent", params={"experiments": experiment}).status_code == 403


def test_one_answer_says_what_one_may_do_here_and_whom_to_ask(noria: Noria, root: httpx.Client) -> None:
    vic = noria.as_("vic", kind="user")
    noria.app.access.grant(noria.system(), Grant(principal="vic", role="deployer", scope="project:risk"))
    here, there = (vic.get(f"{V1}/me/actions", params={"on": f"model:{m}"}).json() for m in ("fraud", "churn"))
    assert "model.promote" in here["may"] and "model.promote" not in there["may"]
    assert there["roles"]["model.promote"] == ["admin", "deployer", "maintainer"] and there["ask"] == ["root"]
    assert "model.promote" not in here["roles"] and "pipeline.work" not in there["roles"], "what no person needs is left out"
    root.post(f"{V1}/groups", json={"name": "owners", "roles": ["admin"]}).raise_for_status()
    noria.as_("olga", kind="user")
    root.put(f"{V1}/groups/owners/members/olga").raise_for_status()
    assert vic.get(f"{V1}/me/actions").json()["ask"] == ["olga", "root"]
    anywhere = vic.get(f"{V1}/me/actions").json()
    assert "model.promote" in anywhere["somewhere"] and "model.promote" not in anywhere["may"] and not here["somewhere"]
    assert "access.write" not in anywhere["somewhere"]
    assert vic.get(f"{V1}/me/actions", params={"on": "nonsense"}).status_code == 400
    assert noria.client("").get(f"{V1}/me/actions").status_code == 401
    assert not noria.facts("access.refused"), "asking is no attempt"


def test_somebody_from_whom_a_thing_is_hidden_can_still_search(noria: Noria, root: httpx.Client) -> None:
    root.put(f"{V1}/labels/secret", json={"is_restricting": True}).raise_for_status()
    root.put(f"{V1}/labels/secret/things/model:churn").raise_for_status()
    cara = noria.as_("cara", "contributor", kind="user")
    assert {i["label"] for i in cara.get(f"{V1}/search?q=r").json()["items"]} >= {"fraud", "risk", "tries"}
    assert cara.get(f"{V1}/secrets").status_code == 200
    assert [p["name"] for p in cara.get(f"{V1}/projects").json()["items"]] == ["risk"]
    root.put(f"{V1}/labels/secret/things/project:risk").raise_for_status()
    assert cara.get(f"{V1}/projects").json()["items"] == [] and cara.get(f"{V1}/projects/risk").status_code == 404
    assert not {i["label"] for i in cara.get(f"{V1}/search?q=r").json()["items"]} & {"fraud", "risk", "tries"}
