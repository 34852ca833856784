"""Comments on things, through the door: threads, mentions, reactions, and that what is hidden is hidden with its talk."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.access.model import Grant
from noria.conversations.inbox import WORTH
from noria.conversations.model import BODY_LENGTH_MAX, MENTIONS_MAX, mentioned
from noria.kernel.errors import Invalid
from tests.conftest import Noria


@pytest.fixture
def run(noria: Noria) -> str:
    """A run in the experiment "flights"."""
    tracking = noria.app.tracking
    experiment = tracking.experiment_by_name(noria.system(), "flights", create=True)
    return f"run:{tracking.create_run(noria.system(), experiment.id).id}"


def say(client: httpx.Client, subject: str, body: str, **more: str) -> dict[str, Any]:
    answer = client.post("/api/v1/comments", json={"subject": subject, "body": body, **more})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def talk(client: httpx.Client, subject: str) -> dict[str, Any]:
    answer = client.get("/api/v1/comments", params={"subject": subject})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def inbox(client: httpx.Client, **params: Any) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/api/v1/inbox", params=params).json()
    return found


def _experiment(noria: Noria, name: str) -> str:
    return f"experiment:{noria.app.tracking.experiment_by_name(noria.system(), name).id}"


def test_a_comment_and_its_answer_make_a_thread(noria: Noria, run: str) -> None:
    ada, ben = noria.as_("ada", "viewer", kind="user"), noria.as_("ben", "viewer", kind="user")
    first = say(ada, run, "Why does the **loss** jump?", place="metric:loss@120")["comment"]
    assert first["thread"] == first["id"] and first["author"] == "user:ada" and first["place"] == "metric:loss@120"
    assert first["html"].strip() == "<p>Why does the <strong>loss</strong> jump?</p>"
    answer = say(ben, run, "A bad batch.", thread=first["id"])["comment"]
    found = talk(ada, run)
    assert [c["id"] for c in found["comments"]] == [first["id"], answer["id"]]
    assert found["comments"][1]["thread"] == first["id"] and found["follows"] and found["may_write"]
    facts = noria.facts("comment.added")
    assert [f.data["about"] for f in facts] == [run, run]
    assert "bad batch" not in str([f.data for f in facts])  # the words are not part of the record


def test_an_answer_belongs_to_a_thread_of_the_same_thing(noria: Noria, run: str) -> None:
    ada = noria.as_("ada", "viewer", kind="user")
    other = say(ada, "experiment:" + noria.app.tracking.experiment_by_name(noria.system(), "flights").id, "Hm.")["comment"][
        "id"
    ]
    for thread in (other, "0" * 32, "nonsense"):
        refused = ada.post("/api/v1/comments", json={"subject": run, "body": "x", "thread": thread})
        assert refused.status_code == 400 and refused.json()["error"]["where"] == "thread"


def test_only_its_author_or_an_administrator_changes_a_comment(noria: Noria, run: str) -> None:
    ada, ben = noria.as_("ada", "viewer", kind="user"), noria.as_("ben", "viewer", kind="user")
    root = noria.as_("root", "admin", kind="user")
    made = say(ada, run, "My password is hunter2")["comment"]["id"]
    assert ben.patch(f"/api/v1/comments/{made}", json={"body": "x"}).status_code == 403
    assert ben.delete(f"/api/v1/comments/{made}").status_code == 403
    noria.clock.advance(1)
    edited = ada.patch(f"/api/v1/comments/{made}", json={"body": "Never mind"}).json()
    assert edited["body"] == "Never mind" and edited["edited_at_ms"]
    assert root.delete(f"/api/v1/comments/{made}").status_code == 204
    (left,) = talk(ada, run)["comments"]
    assert left["body"] == "" and left["html"] == "" and left["removed_at_ms"]
    assert ada.patch(f"/api/v1/comments/{made}", json={"body": "back"}).status_code == 404
    assert "hunter2" not in str([f.data for f in noria.facts()])


def test_reactions_count_each_person_once(noria: Noria, run: str) -> None:
    ada, ben = noria.as_("ada", "viewer", kind="user"), noria.as_("ben", "viewer", kind="user")
    made = say(ada, run, "It works")["comment"]["id"]
    for client in (ben, ben, ada):
        noria.clock.advance(1)
        assert client.put(f"/api/v1/comments/{made}/reactions/rocket").status_code == 200
    assert talk(ada, run)["comments"][0]["reactions"] == {"rocket": ["user:ben", "user:ada"]}
    assert ben.delete(f"/api/v1/comments/{made}/reactions/rocket").json()["reactions"] == {"rocket": ["user:ada"]}
    assert ben.put(f"/api/v1/comments/{made}/reactions/skull").status_code == 400


def test_who_may_not_see_a_thing_does_not_see_its_talk(noria: Noria, run: str) -> None:
    ada, eve = noria.as_("ada", "viewer", kind="user"), noria.as_("eve", kind="user")
    noria.app.tracking.experiment_by_name(noria.system(), "hers", create=True)
    noria.app.access.grant(noria.system(), Grant(principal="eve", role="viewer", scope=_experiment(noria, "hers")))
    made = say(ada, run, "A secret about @eve and @nobody")
    assert made["not_told"] == ["eve", "nobody"]
    hidden = eve.get("/api/v1/comments", params={"subject": run})
    absent = eve.get("/api/v1/comments", params={"subject": "run:" + "0" * 32})
    assert (hidden.status_code, absent.status_code) == (404, 404)
    comment = made["comment"]["id"]
    for request in (
        eve.patch(f"/api/v1/comments/{comment}", json={"body": "x"}), eve.delete(f"/api/v1/comments/{comment}"),
        eve.put(f"/api/v1/comments/{comment}/reactions/eyes"), eve.put(f"/api/v1/follows/{run}"),
        eve.post("/api/v1/comments", json={"subject": run, "body": "x"}),
    ):  # fmt: skip
        assert request.status_code == 404, request.text
    noria.settle()
    assert inbox(eve)["items"] == []


def test_a_role_on_one_experiment_is_enough_for_its_runs(noria: Noria, run: str) -> None:
    experiment = noria.app.tracking.experiment_by_name(noria.system(), "flights").id
    eve = noria.as_("eve", kind="user")
    noria.app.access.grant(noria.system(), Grant(principal="eve", role="viewer", scope=f"experiment:{experiment}"))
    say(eve, run, "I see it")
    assert eve.get("/api/v1/comments", params={"subject": "dataset:flights"}).status_code in (403, 404)


@pytest.mark.parametrize(
    ("body", "status"),
    [("", 400), ("   ", 400), ("x" * BODY_LENGTH_MAX, 201), ("x" * (BODY_LENGTH_MAX + 1), 400), ("a\x00b", 400)],
)
def test_words_have_their_limits(noria: Noria, run: str, body: str, status: int) -> None:
    answer = noria.as_("ada", "viewer", kind="user").post("/api/v1/comments", json={"subject": run, "body": body})
    assert answer.status_code == status, answer.text


def test_what_is_not_talked_about_is_named(noria: Noria) -> None:
    ada = noria.as_("ada", "admin", kind="user")
    refused = ada.get("/api/v1/comments", params={"subject": "token:x"})
    assert refused.status_code == 400 and "run, experiment" in refused.json()["error"]["hint"]
    assert ada.get("/api/v1/comments", params={"subject": "nonsense"}).status_code == 400


def test_what_is_written_is_sanitised(noria: Noria, run: str) -> None:
    ada = noria.as_("ada", "viewer", kind="user")
    body = "<script>alert(1)</script> <img src=x onerror=alert(1)> [x](javascript:alert(1)) ![p](http://evil/p.png)"
    html = say(ada, run, body)["comment"]["html"]
    assert "<script" not in html and "<img" not in html and 'href="javascript' not in html


# --- being told --------------------------------------------------------------------------------------------------------


def test_people_are_told_when_spoken_to_answered_and_of_what_is_theirs(noria: Noria) -> None:
    ada, ben, cy = (noria.as_(name, "contributor", kind="user") for name in ("ada", "ben", "cy"))
    made = ada.post("/api/v1/runs", json={"experiment": "flights"}).json()["id"]
    run = f"run:{made}"
    first = say(ben, run, "Look, @cy: is this right?")
    assert first["not_told"] == []
    noria.settle()
    noria.clock.advance(1)
    say(cy, run, "No.", thread=first["comment"]["id"])
    noria.settle()
    assert [(n["reason"], n["excerpt"]) for n in inbox(cy)["items"]] == [("mention", "Look, @cy: is this right?")]
    assert [(n["reason"], n["excerpt"]) for n in inbox(ben)["items"]] == [("reply", "No.")]
    assert [n["reason"] for n in inbox(ada)["items"]] == ["yours", "yours"]  # she made the run
    assert inbox(ada)["items"][0]["subject"] == run and inbox(ada)["unread"] == 2
    newest = inbox(ada)["items"][0]["id"]
    assert ada.post("/api/v1/inbox/read", json={"up_to": newest}).json()["unread"] == 0
    assert inbox(ada, unread=True)["items"] == []


def test_followers_are_told_of_what_happens_and_may_stop(noria: Noria) -> None:
    ada, ben = noria.as_("ada", "contributor", kind="user"), noria.as_("ben", "contributor", kind="user")
    made = ada.post("/api/v1/runs", json={"experiment": "flights"}).json()
    assert ben.put(f"/api/v1/follows/experiment:{made['experiment_id']}").status_code == 204
    ada.patch(f"/api/v1/runs/{made['id']}", json={"status": "FAILED"})
    noria.settle()
    (told,) = inbox(ben)["items"]
    assert (told["reason"], told["kind"], told["subject"]) == ("follow", "run.finished", f"run:{made['id']}")
    assert inbox(ada)["items"] == []  # she did it herself
    assert ben.delete(f"/api/v1/follows/experiment:{made['experiment_id']}").status_code == 204
    again = ada.post("/api/v1/runs", json={"experiment": "flights"}).json()
    ada.patch(f"/api/v1/runs/{again['id']}", json={"status": "FAILED"})
    noria.settle()
    assert len(inbox(ben)["items"]) == 1


def test_whoever_stopped_following_by_hand_is_only_told_when_spoken_to(noria: Noria, run: str) -> None:
    ada, ben = noria.as_("ada", "viewer", kind="user"), noria.as_("ben", "viewer", kind="user")
    first = say(ben, run, "Hm")["comment"]["id"]
    ben.delete(f"/api/v1/follows/{run}")
    say(ben, run, "Hm again", thread=first)
    assert talk(ben, run)["follows"] is False
    say(ada, run, "Indeed", thread=first)
    noria.settle()
    assert inbox(ben)["items"] == []
    noria.clock.advance(1)
    say(ada, run, "@ben?", thread=first)
    noria.settle()
    assert [n["reason"] for n in inbox(ben)["items"]] == ["mention"]


def test_what_one_may_not_see_any_more_is_not_shown(noria: Noria, run: str) -> None:
    ada, ben = noria.as_("ada", "viewer", kind="user"), noria.as_("ben", "viewer", kind="user")
    say(ada, run, "@ben, the numbers are out")
    noria.settle()
    assert inbox(ben)["unread"] == 1
    noria.app.access.grant(noria.system(), Grant(principal="ben", role="predictor"))
    noria.app.access.revoke_grant(noria.system(), "ben", "viewer")
    noria.app.access.forget_caches()
    assert inbox(ben) == {"items": [], "unread": 0, "next": None}


def test_telling_again_tells_once(noria: Noria, run: str) -> None:
    """A subscriber may be told of a fact again after a crash."""
    ada, ben = noria.as_("ada", "viewer", kind="user"), noria.as_("ben", "viewer", kind="user")
    say(ada, run, "@ben")
    (fact,) = noria.facts("comment.added")
    for _ in range(3):
        noria.app.inboxes.handle(fact)
    assert len(inbox(ben)["items"]) == 1


def test_the_inbox_pages(noria: Noria, run: str) -> None:
    ada, ben = noria.as_("ada", "viewer", kind="user"), noria.as_("ben", "viewer", kind="user")
    for i in range(5):
        noria.clock.advance(1)
        say(ada, run, f"@ben {i}")
    noria.settle()
    page = inbox(ben, limit=3)
    rest = inbox(ben, limit=3, page=page["next"])
    assert [n["excerpt"] for n in page["items"] + rest["items"]] == [f"@ben {i}" for i in (4, 3, 2, 1, 0)] and rest[
        "next"
    ] is None


def test_the_browser_asks_again_after_every_kind_of_fact_that_is_told() -> None:
    told = (Path(__file__).parents[2] / "noria/ui/lib/talk.js").read_text().split("TOLD = [")[1].split("]")[0]
    beginnings = tuple(re.findall(r"'([^']+)'", told))
    assert beginnings and all(kind.startswith(beginnings) for kind in WORTH)


# --- names in words ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ("@ada", ["ada"]), ("(@ada), @ben. @ada!", ["ada", "ben"]), ("mail ada@example.org", []), ("`@ada`", []),
        ("```\n@ada\n```", []), ("@anna-lena.k", ["anna-lena.k"]), ("see model:fraud@champion", []), ("@@ada", []),
    ],
)  # fmt: skip
def test_who_is_spoken_to(body: str, names: list[str]) -> None:
    assert mentioned(body) == names


def test_a_comment_does_not_speak_to_everybody() -> None:
    with pytest.raises(Invalid):
        mentioned(" ".join(f"@p{i}" for i in range(MENTIONS_MAX + 1)))


@given(st.text(max_size=300))
def test_any_text_is_read(body: str) -> None:
    names = mentioned(body)
    assert len(names) == len(set(names)) and all(f"@{name}" in body for name in names)
