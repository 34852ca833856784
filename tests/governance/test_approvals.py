"""Who agreed to what."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from noria.kernel.errors import NoriaError
from noria.kernel.ids import Ref
from noria.kernel.op import Actor
from tests.conftest import Noria

DIGEST = "a1" * 32
DAY_S = 86_400


def body(**other: Any) -> dict[str, Any]:
    return {"subject": "model_version:1", "action": "model.promote", "digest": DIGEST, "evidence": {"auc": 0.9}} | other


def ask(client: httpx.Client, **other: Any) -> Any:
    answer = client.post("/api/v1/approvals", json=body(**other))
    assert answer.status_code == 200, answer.text
    return answer.json()


def answer(client: httpx.Client, approval: Any, verb: str = "approve", **other: Any) -> httpx.Response:
    return client.post(f"/api/v1/approvals/{approval['id']}/{verb}", json=other)


def test_somebody_else_approves(noria: Noria) -> None:
    ada, bob = noria.as_("ada", "contributor"), noria.as_("bob", "approver")
    asked = ask(ada)
    assert asked["state"] == "pending" and asked["requested_by"] == "service:ada"
    listed = bob.get("/api/v1/approvals", params={"state": "pending"}).json()["items"]
    assert [a["id"] for a in listed] == [asked["id"]]
    granted = answer(bob, asked, comment="looks right", digest=DIGEST).json()
    assert granted["state"] == "granted" and granted["votes"][0]["comment"] == "looks right"
    kinds = [e.kind for e in noria.facts() if e.kind.startswith("approval.")]
    assert kinds == ["approval.requested", "approval.voted", "approval.granted"]
    assert bob.get(f"/api/v1/approvals/{asked['id']}").json() == granted


def test_one_is_shown_what_waits_for_oneself(noria: Noria) -> None:
    def waiting(client: httpx.Client, **more: str) -> list[str]:
        found = client.get("/api/v1/approvals", params={"mine": "true", **more})
        assert found.status_code == 200, found.text
        return [a["id"] for a in found.json()["items"]]

    ada, bob, vic = noria.as_("ada", "contributor"), noria.as_("bob", "approver"), noria.as_("vic", "viewer")
    first = ask(ada)
    noria.clock.advance(1)
    admins = ask(ada, digest="b2" * 32, roles=["admin"])
    noria.clock.advance(1)
    his = ask(ada, digest="c3" * 32, evidence={"author": "service:bob"})
    assert waiting(ada) == waiting(vic) == []
    assert waiting(bob) == [first["id"]], "not what asks for another role, nor what he made"
    assert waiting(noria.http) == [his["id"], admins["id"], first["id"]]
    assert waiting(noria.http, limit="1", state="pending") == [his["id"]]
    answer(bob, ask(ada, digest="d4" * 32, required=2)).raise_for_status()
    assert waiting(bob) == [first["id"]], "nor what he answered"
    refused = bob.get("/api/v1/approvals", params={"mine": "true", "state": "granted"})
    assert refused.status_code == 400 and "pending" in refused.json()["error"]["hint"]


def test_whoever_asked_cannot_approve(noria: Noria) -> None:
    asked = ask(noria.http)
    refused = answer(noria.http, asked)
    assert refused.status_code == 403
    assert "somebody else has to answer" in refused.json()["error"]["message"]


def test_whoever_made_it_cannot_approve(noria: Noria) -> None:
    ada, bob = noria.as_("ada", "contributor"), noria.as_("bob", "approver")
    asked = ask(ada, evidence={"author": "service:bob"})
    assert answer(bob, asked).status_code == 403


def test_whom_a_trigger_acts_for_cannot_approve(noria: Noria) -> None:
    trigger = Actor(kind="trigger", id="t1", name="drift", on_behalf_of="local")
    op = noria.app.ops.mint(trigger)
    asked = noria.app.approvals.request(op, Ref("model_version", "1"), "model.promote", DIGEST)
    assert answer(noria.http, {"id": asked.id}).status_code == 403
    with pytest.raises(NoriaError, match="somebody's own"):
        noria.app.approvals.approve(noria.system(), asked.id)


def test_the_local_admin_approves_what_the_loop_asked(noria: Noria) -> None:
    asked = noria.app.approvals.request(noria.app.ops.system("loops"), Ref("model_version", "1"), "model.promote", DIGEST)
    assert answer(noria.http, {"id": asked.id}).json()["state"] == "granted"


def test_asking_again_while_pending_is_the_same_question(noria: Noria) -> None:
    ada, bob = noria.as_("ada", "contributor"), noria.as_("bob", "contributor")
    asked = ask(ada)
    assert ask(ada)["id"] == asked["id"]
    assert bob.post("/api/v1/approvals", json=body()).status_code == 409
    assert ask(ada, digest="b2" * 32)["id"] != asked["id"]


def test_two_are_needed_and_one_person_has_one_vote(noria: Noria) -> None:
    ada, bob, eve = noria.as_("ada", "contributor"), noria.as_("bob", "approver"), noria.as_("eve", "approver")
    asked = ask(ada, required=2)
    assert answer(bob, asked).json()["state"] == "pending"
    again = answer(bob, asked)
    assert again.status_code == 409 and "answered already" in again.json()["error"]["message"]
    assert answer(eve, asked).json()["state"] == "granted"
    assert answer(eve, asked, "reject").status_code == 409


def test_one_no_ends_it(noria: Noria) -> None:
    ada, bob, eve = noria.as_("ada", "contributor"), noria.as_("bob", "approver"), noria.as_("eve", "approver")
    asked = ask(ada, required=2)
    answer(bob, asked)
    assert answer(eve, asked, "reject", comment="drifts").json()["state"] == "rejected"
    assert noria.facts("approval.rejected")[0].data["reason"] == "drifts"


def test_other_bytes_than_seen_are_not_approved(noria: Noria) -> None:
    ada, bob = noria.as_("ada", "contributor"), noria.as_("bob", "approver")
    assert answer(bob, ask(ada), digest="b2" * 32).status_code == 409


def test_only_a_role_that_was_asked_for(noria: Noria) -> None:
    ada, bob, eve = noria.as_("ada", "contributor"), noria.as_("bob", "approver"), noria.as_("eve", "admin")
    asked = ask(ada, roles=["admin"])
    assert answer(bob, asked).status_code == 403
    assert answer(eve, asked).json()["state"] == "granted"


def test_who_may_not_decide_is_refused(noria: Noria) -> None:
    ada, bob = noria.as_("ada", "contributor"), noria.as_("bob", "viewer")
    asked = ask(ada)
    assert answer(bob, asked).status_code == 403
    assert bob.post("/api/v1/approvals", json=body()).status_code == 403
    assert bob.get(f"/api/v1/approvals/{asked['id']}").status_code == 200
    assert bob.get("/api/v1/approvals/nonsense").status_code == 404


def test_it_expires(noria: Noria) -> None:
    ada, bob = noria.as_("ada", "contributor"), noria.as_("bob", "approver")
    asked = ask(ada, expires_in_days=2)
    noria.clock.advance(2 * DAY_S)
    assert answer(bob, asked).status_code == 409
    assert bob.get(f"/api/v1/approvals/{asked['id']}").json()["state"] == "expired"
    noria.settle()
    assert [f.data["was"] for f in noria.facts("approval.expired")] == ["pending"]
    assert answer(bob, ask(ada)).json()["state"] == "granted"


def test_an_emergency_is_loud(noria: Noria) -> None:
    asked = ask(noria.http)
    assert answer(noria.http, asked, "override", comment="now!").status_code == 400
    granted = answer(noria.http, asked, "override", comment="INC-42: scoring is down, rolling forward").json()
    assert granted["state"] == "granted" and granted["is_emergency"]
    assert noria.facts("approval.overridden")[0].data["reason"].startswith("INC-42")
    bob = noria.as_("bob", "approver")
    assert answer(bob, ask(noria.http, digest="c3" * 32), "override", comment="x" * 20).status_code == 403


def test_whoever_asked_withdraws(noria: Noria) -> None:
    ada, bob = noria.as_("ada", "contributor"), noria.as_("bob", "contributor")
    asked = ask(ada)
    assert answer(bob, asked, "withdraw").status_code == 403
    assert answer(ada, asked, "withdraw").json()["state"] == "withdrawn"


@pytest.mark.parametrize(
    "wrong",
    [
        {"action": "no.such"}, {"digest": "short"}, {"required": 0}, {"required": 11}, {"subject": "nonsense"},
        {"roles": ["king"]}, {"expires_in_days": 0}, {"expires_in_days": 91}, {"comment": "x" * 4001},
        {"evidence": {"x": "y" * (257 << 10)}}, {"surprise": 1}, {"digest": "a" * 8 + "\x00"},
    ],
)  # fmt: skip
def test_a_question_that_makes_no_sense_is_refused(noria: Noria, wrong: dict[str, Any]) -> None:
    refused = noria.http.post("/api/v1/approvals", json=body(**wrong))
    assert refused.status_code == 400, refused.text


# --- history ----------------------------------------------------------------------------------------------------------

PEOPLE = ("ada", "bob", "eve", "joe")


class Machine(RuleBasedStateMachine):
    """Approvals against a plain model: a dict each."""

    noria: Noria
    asked = Bundle("asked")

    def __init__(self) -> None:
        super().__init__()
        self.model: dict[str, dict[str, Any]] = {}
        self.count = 0

    def actor(self, name: str) -> Actor:
        return Actor(kind="user", id=self.noria.ids[name], name=name)  # type: ignore[attr-defined]

    def now(self) -> int:
        return self.noria.clock.now_ms()

    def expire(self) -> None:
        for found in self.model.values():
            if found["state"] in ("pending", "granted") and found["until"] <= self.now():
                found["state"] = "expired"

    @rule(target=asked, who=st.sampled_from(PEOPLE), required=st.integers(1, 3), author=st.sampled_from(["", *PEOPLE]))
    def ask(self, who: str, required: int, author: str) -> str:
        self.count += 1
        made = self.noria.app.approvals.request(
            self.noria.app.ops.mint(self.actor(who)), Ref("model_version", str(self.count)), "model.promote",
            f"{id(self)}-{self.count}", {"author": f"user:{author}"} if author else {}, required,
        )  # fmt: skip
        self.model[made.id] = {
            "state": "pending", "authors": {who, author} - {""}, "yes": set(), "required": required,
            "until": self.now() + 7 * DAY_S * 1000,
        }  # fmt: skip
        return made.id

    @rule(which=asked, who=st.sampled_from(PEOPLE), verb=st.sampled_from(["approve", "approve", "reject"]))
    def answer(self, which: str, who: str, verb: str) -> None:
        self.expire()
        model = self.model[which]
        may = model["state"] == "pending" and who not in model["authors"] and who not in model["yes"]
        op = self.noria.app.ops.mint(self.actor(who))
        if not may:
            with pytest.raises(NoriaError):
                getattr(self.noria.app.approvals, verb)(op, which)
            return
        getattr(self.noria.app.approvals, verb)(op, which)
        if verb == "reject":
            model["state"] = "rejected"
            return
        model["yes"].add(who)
        if len(model["yes"]) >= model["required"]:
            model["state"], model["until"] = "granted", self.now() + 7 * DAY_S * 1000

    @rule(which=asked, who=st.sampled_from(PEOPLE))
    def withdraw(self, which: str, who: str) -> None:
        self.expire()
        model = self.model[which]
        op = self.noria.app.ops.mint(self.actor(who))
        if model["state"] == "pending" and who in model["authors"]:
            self.noria.app.approvals.withdraw(op, which)
            model["state"] = "withdrawn"
        else:
            with pytest.raises(NoriaError):
                self.noria.app.approvals.withdraw(op, which)

    @rule(days=st.sampled_from([1, 3, 7]))
    def wait(self, days: int) -> None:
        self.noria.clock.advance(days * DAY_S)

    @rule()
    def reconcile(self) -> None:
        self.noria.app.approvals.reconcile()

    @invariant()
    def same(self) -> None:
        self.expire()
        op = self.noria.system()
        for ident, model in self.model.items():
            assert self.noria.app.approvals.approval(op, ident).state == model["state"]


def test_every_history_agrees_with_the_model(noria: Noria) -> None:
    if noria.app.db.dialect != "sqlite":
        pytest.skip("the history is the same; the locks are tested below")
    for name in PEOPLE:
        noria.as_(name, "contributor", "approver", kind="user")
    noria.ids = {p.name: p.id for p in noria.app.access.principals(noria.system())}  # type: ignore[attr-defined]
    machine = type("Bound", (Machine,), {"noria": noria})
    run_state_machine_as_test(
        machine,
        settings=settings(max_examples=12, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)),
    )


def test_two_votes_at_once_are_both_counted(noria: Noria) -> None:
    from concurrent.futures import ThreadPoolExecutor

    ada = noria.as_("ada", "contributor")
    voters = [noria.as_(f"v{i}", "approver") for i in range(4)]
    asked = ask(ada, required=4)
    with ThreadPoolExecutor(4) as pool:
        assert {r.status_code for r in pool.map(lambda v: answer(v, asked), voters)} == {200}
    assert noria.http.get(f"/api/v1/approvals/{asked['id']}").json()["state"] == "granted"
    assert len(noria.facts("approval.granted")) == 1
