"""What is listed is exactly what may be looked at, and exactly what a plain model of the rules says, after any history."""

from __future__ import annotations

from itertools import count
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from noria.access.model import Clearance, Grant, LabelWish, NewGroup, NewPrincipal, ProjectWish, RoleWish, TokenRequest
from noria.kernel.errors import NoriaError
from tests.conftest import Noria
from tests.examples import examples

USERS, GROUPS, PROJECTS, MODELS, LABELS = ("u0", "u1"), ("g0", "g1"), ("p0", "p1"), ("m0", "m1"), ("pii", "eu")
READING = ("viewer", "looker")  # the second is a role of one's own; a predictor reads nothing
_numbers = count()

principals, scopes = st.sampled_from(USERS + GROUPS), st.sampled_from(("", *PROJECTS, *MODELS))
marked, hours = st.sampled_from(PROJECTS + MODELS), st.sampled_from((None, 1, 3))
LIKELY = (  # what makes the long ways likely: somebody in a group in a group, a role and a label on a project around a project
    ("join", "g0", "u0"), ("join", "g1", "g0"), ("nest", "p1", "p0"), ("place", "m0", "p1"), ("bind", "g1", "viewer", "p0", None),
    ("bind", "g0", "looker", "", 3), ("label", "p0", "pii"), ("label", "m1", "eu"), ("clear", "g1", "pii", 1), ("clear", "u0", "eu", None),
    ("bind", "u1", "viewer", "", None), ("bind", "g1", "viewer", "m1", 1),
)  # fmt: skip
BEFORE = st.lists(st.sampled_from(LIKELY), min_size=6, max_size=12, unique=True)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("bind"), principals, st.sampled_from((*READING, "predictor")), scopes, hours),
        st.tuples(st.just("unbind"), principals, st.sampled_from((*READING, "predictor")), scopes),
        st.tuples(st.just("join"), st.sampled_from(GROUPS), principals),
        st.tuples(st.just("leave"), st.sampled_from(GROUPS), principals),
        st.tuples(st.just("place"), st.sampled_from(MODELS), st.sampled_from(("", *PROJECTS))),
        st.tuples(st.just("nest"), st.sampled_from(PROJECTS), st.sampled_from(("", *PROJECTS))),
        st.tuples(st.just("label"), marked, st.sampled_from(LABELS)),
        st.tuples(st.just("unlabel"), marked, st.sampled_from(LABELS)),
        st.tuples(st.just("clear"), principals, st.sampled_from(LABELS), hours),
        st.tuples(st.just("unclear"), principals, st.sampled_from(LABELS)),
        st.tuples(st.just("restrict"), st.sampled_from(LABELS), st.booleans()),
        st.tuples(st.just("role"), st.booleans()),
        st.tuples(st.just("wait"), st.integers(1, 2)),
    ),
    min_size=1, max_size=12,
)  # fmt: skip


class Rules:
    """The rules in plain words, over sets."""

    def __init__(self) -> None:
        self.bound: dict[tuple[str, str, str], float] = {}
        self.member: set[tuple[str, str]] = set()
        self.parent: dict[str, str] = {}
        self.label: set[tuple[str, str]] = set()
        self.cleared: dict[tuple[str, str], float] = {}
        self.restricts = dict.fromkeys(LABELS, True)
        self.looks, self.now = True, 0.0

    def mine(self, name: str) -> set[str]:
        found = {name}
        while more := {g for g, m in self.member if m in found} - found:
            found |= more
        return found

    def around(self, scope: str) -> list[str]:
        found = [scope]
        while found[-1] in self.parent:
            found.append(self.parent[found[-1]])
        return found

    def may_read(self, user: str, model: str) -> bool:
        me, places = self.mine(user), self.around(model)
        reads = {"viewer"} | ({"looker"} if self.looks else set())
        has_role = any(
            who in me and role in reads and where in ("", *places) and self.now < until
            for (who, role, where), until in self.bound.items()
        )
        return has_role and all(
            any(self.now < self.cleared.get((who, label), 0) for who in me)
            for where, label in self.label
            if where in places and self.restricts[label]
        )


class World:
    """One history: the same steps done to a Noria and to the rules. Names carry a number, so that histories do not meet."""

    def __init__(self, noria: Noria) -> None:
        self.noria, self.rules, self.mark = noria, Rules(), f"-{next(_numbers)}"
        op, access = noria.system(), noria.app.access
        self.clients: dict[str, httpx.Client] = {}
        for user in USERS:
            access.create_principal(op, NewPrincipal(name=self.name(user), kind="service", roles=[]))
            made = access.create_token(op, TokenRequest(name="t", principal=self.name(user)))
            self.clients[user] = noria.client(made.secret)
        for group in GROUPS:
            access.groups.create(op, NewGroup(name=self.name(group)))
        for project in PROJECTS:
            access.scopes.set_project(op, self.name(project), ProjectWish())
        for label in LABELS:
            access.scopes.set_label(op, self.name(label), LabelWish())
        access.groups.set_role(op, self.name("looker"), RoleWish(actions=["model.read"]))
        for model in MODELS:
            noria.app.registry.create_model(op, _new_model(self.name(model)))

    def name(self, short: str) -> str:
        return short + self.mark

    def ref(self, scope: str) -> str:
        return f"{'project' if scope.startswith('p') else 'model'}:{self.name(scope)}" if scope else ""

    def role(self, role: str) -> str:
        return self.name(role) if role == "looker" else role

    def until(self, lasts: int | None) -> tuple[int | None, float]:
        end = float("inf") if lasts is None else self.rules.now + lasts
        return (None if lasts is None else self.noria.clock.now_ms() + lasts * 3_600_000), end

    def do(self, step: tuple[Any, ...]) -> None:
        op, rules, access = self.noria.system(), self.rules, self.noria.app.access
        groups, scopes_ = access.groups, access.scopes
        match step:
            case ("bind", who, role, where, lasts):
                at, rules.bound[who, role, where] = self.until(lasts)
                access.grant(
                    op, Grant(principal=self.name(who), role=self.role(role), scope=self.ref(where), expires_at_ms=at)
                )
            case ("unbind", who, role, where):
                if rules.bound.pop((who, role, where), None) is not None:
                    access.revoke_grant(op, self.name(who), self.role(role), self.ref(where))
            case ("join", group, who):
                if group in self._below(who) | {who}:
                    with pytest.raises(NoriaError, match="in each other"):
                        groups.add_member(op, self.name(group), self.name(who))
                else:
                    groups.add_member(op, self.name(group), self.name(who))
                    rules.member.add((group, who))
            case ("leave", group, who):
                if (group, who) in rules.member:
                    rules.member.remove((group, who))
                    groups.remove_member(op, self.name(group), self.name(who))
            case ("place", model, project):
                if project:
                    scopes_.place(op, self.name(project), self.ref(model))
                    rules.parent[model] = project
                elif model in rules.parent:
                    scopes_.take(op, self.name(rules.parent.pop(model)), self.ref(model))
            case ("nest", project, parent):
                wish = ProjectWish(parent=self.name(parent) if parent else "")
                if parent and project in rules.around(parent):
                    with pytest.raises(NoriaError, match="in each other"):
                        scopes_.set_project(op, self.name(project), wish)
                else:
                    scopes_.set_project(op, self.name(project), wish)
                    rules.parent.pop(project, None)
                    if parent:
                        rules.parent[project] = parent
            case ("label", where, label):
                scopes_.put_label(op, self.name(label), self.ref(where))
                rules.label.add((where, label))
            case ("unlabel", where, label):
                if (where, label) in rules.label:
                    rules.label.remove((where, label))
                    scopes_.take_label(op, self.name(label), self.ref(where))
            case ("clear", who, label, lasts):
                at, rules.cleared[who, label] = self.until(lasts)
                scopes_.clear(op, self.name(label), self.name(who), Clearance(expires_at_ms=at))
            case ("unclear", who, label):
                if rules.cleared.pop((who, label), None) is not None:
                    scopes_.unclear(op, self.name(label), self.name(who))
            case ("restrict", label, does):
                scopes_.set_label(op, self.name(label), LabelWish(is_restricting=does))
                rules.restricts[label] = does
            case ("role", looks):
                actions = ["model.read"] if looks else ["dataset.read"]
                groups.set_role(op, self.name("looker"), RoleWish(actions=actions))
                rules.looks = looks
            case ("wait", lasts):
                self.noria.clock.advance(lasts * 3600)
                rules.now += lasts

    def _below(self, who: str) -> set[str]:
        """The groups that `who` – a group – holds, itself among them: those that it cannot be put into."""
        return {g for g in GROUPS if who in self.rules.mine(g)}

    def check(self) -> None:
        for user, client in self.clients.items():
            answer = client.get("/api/v1/models", params={"limit": 1000})
            assert answer.status_code in (200, 403)
            items = answer.json()["items"] if answer.status_code == 200 else []
            listed = {m for m in MODELS if self.name(m) in {i["name"] for i in items}}
            looked_at = {m for m in MODELS if client.get(f"/api/v1/models/{self.name(m)}").status_code == 200}
            allowed = {m for m in MODELS if self.rules.may_read(user, m)}
            assert listed == looked_at == allowed, user
            for model in MODELS:
                said = self.noria.app.access.explaining.explain(
                    self.noria.system(), self.name(user), "model.read", self.ref(model)
                )
                assert said.is_allowed == (model in allowed) and said.why


def _new_model(name: str) -> Any:
    from noria.registry.model import NewModel

    return NewModel(name=name)


@given(before=BEFORE, steps=STEPS)
@settings(max_examples=examples(20), suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_what_is_listed_is_what_may_be_looked_at(
    noria: Noria, before: list[tuple[Any, ...]], steps: list[tuple[Any, ...]]
) -> None:
    if not noria.app.access.has_accounts():
        noria.as_("root", "admin", kind="user")
    world = World(noria)
    for step in before:
        world.do(step)
    world.check()
    for i, step in enumerate(steps):
        world.do(step)
        if i % 3 == 0:
            world.check()
    world.check()
