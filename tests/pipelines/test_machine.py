"""The scheduler against a plain model: random graphs, workers that finish, fail, fall silent or come late, crashes.

A crash is a new application on the same database: whatever the old one kept in memory is gone.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Literal

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec import Struct

from noria.access.model import NewPrincipal
from noria.app import App, build
from noria.config import load_config
from noria.kernel.clock import ManualClock
from noria.kernel.errors import Conflict
from noria.kernel.op import Actor, Op
from noria.pipelines.model.conditions import Truth
from noria.pipelines.model.sources import FromStep
from noria.pipelines.model.spec import CodeInfo, PipelineSpec, Question, StepSpec
from noria.pipelines.model.values import Json
from noria.pipelines.model.work import Assignment, Beat, Claim, Finish, Held, Hello
from tests.examples import examples

LEASE_S = 3.0
WORKERS = ["w1", "w2"]


class Node(Struct, frozen=True):
    """A step as the model knows it: what it uses, what it is, and the step whose result has to say yes."""

    parents: list[str] = []
    kind: Literal["call", "map", "approve"] = "call"
    when: str = ""

    @property
    def above(self) -> list[str]:
        return list(dict.fromkeys([*self.parents, *([self.when] if self.when else [])]))


def plain(graph: dict[str, list[str]]) -> dict[str, Node]:
    return {name: Node(parents) for name, parents in graph.items()}


GRAPHS: list[dict[str, Node]] = [
    plain({"a": [], "b": ["a"], "c": ["b"]}),
    plain({"a": [], "b": [], "c": ["a", "b"]}),
    plain({"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]}),
    plain({"a": [], "b": []}),
    {"a": Node(), "m": Node(["a"], "map"), "b": Node(), "c": Node(["m", "b"])},
    {"a": Node(), "b": Node(["a"], when="a"), "c": Node(["b"]), "d": Node(["a"])},
    {"a": Node(), "q": Node(["a"], "approve"), "b": Node(["a"], when="q"), "c": Node()},
    {
        "a": Node(),
        "b": Node([], when="a"),
        "m": Node(["b"], "map", when="a"),
        "q": Node(["m"], "approve"),
        "c": Node(when="q"),
    },
]


class Model:
    """What should be true of one run, in plain words. Every step returns {"yes": bool, "items": list}; an answer is a yes or no."""

    def __init__(self, graph: dict[str, Node], retries: int) -> None:
        self.graph, self.retries = graph, retries
        self.state = dict.fromkeys(graph, "open")  # open, running, asking, succeeded, failed, skipped, cancelled
        self.values: dict[str, tuple[bool, int]] = {}
        self.failures: dict[str, int] = {}
        self.losses: dict[str, int] = {}
        self.stopping: set[str] = set()
        self.is_cancelled = self.is_paused = False

    def elements(self, name: str) -> list[str]:
        return [step for step in self.state if step.startswith(f"{name}[")]

    def begins(self, step: str) -> bool:
        """Does it wait for nothing? An element never waits."""
        node = self.graph.get(step)
        above = node.above if node else []
        return self.state[step] == "open" and all(self.state[p] in ("succeeded", "skipped") for p in above)

    def is_ready(self, step: str) -> bool:
        return self.begins(step) and not self.is_paused and not self.is_cancelled

    def settle(self) -> None:
        """What begins by itself: what is passed over, maps that become their elements, questions."""
        if self.is_paused or self.is_cancelled:
            return
        for name, node in self.graph.items():  # parents come before their children
            if not self.begins(name):
                continue
            said_no = node.when and (self.state[node.when] == "skipped" or not self.values[node.when][0])
            if said_no or any(self.state[parent] == "skipped" for parent in node.parents):
                self.state[name] = "skipped"
            elif node.kind == "approve":
                self.state[name] = "asking"
            elif node.kind == "map":
                self._expand(name, self.values[node.parents[0]][1])

    def _expand(self, name: str, count: int) -> None:
        for old in self.elements(name):
            del self.state[old]
        for i in range(count):
            step = f"{name}[{i}]"
            self.state[step], self.failures[step], self.losses[step] = "open", 0, 0
            self.stopping.discard(step)
        self.state[name] = "running" if count else "succeeded"
        self.values[name] = (True, count)
        if not count:
            self.settle()

    def end(self, step: str, state: str, value: tuple[bool, int] = (False, 0)) -> None:
        self.state[step], self.values[step] = state, value
        if step not in self.graph:
            above = step.partition("[")[0]
            ended = [self.state[e] for e in self.elements(above)]
            if set(ended) & {"open", "running"}:
                return
            if self.is_cancelled or above in self.stopping:
                self.end(above, "cancelled")
            elif set(ended) & {"failed", "cancelled"}:
                self.end(above, "failed")
            else:
                self.end(above, "succeeded", (True, len(ended)))
            return
        if state in ("failed", "cancelled") and not self.is_cancelled:
            self._skip_below()
        self.settle()

    def _skip_below(self) -> None:
        doomed: set[str] = set()
        for name, node in self.graph.items():
            if any(self.state[p] in ("failed", "cancelled") or p in doomed for p in node.above):
                doomed.add(name)
                if self.state[name] == "open":
                    self.state[name] = "skipped"

    def lose(self, step: str) -> None:
        self.losses[step] = self.losses.get(step, 0) + 1
        if self.is_cancelled or step in self.stopping:
            self.end(step, "cancelled")
        elif self.losses[step] >= 5:
            self.end(step, "failed")
        else:
            self.state[step] = "open"

    def cancel(self) -> None:
        self.is_cancelled, self.is_paused = True, False
        for step in sorted(self.state, key=lambda s: s not in self.graph, reverse=True):
            if self.state[step] in ("open", "asking"):
                self.end(step, "cancelled")

    def stop(self, step: str) -> None:
        if self.state[step] != "running":
            self.end(step, "cancelled")
            return
        self.stopping.add(step)
        for each in self.elements(step) if step in self.graph else []:
            if self.state[each] in ("open", "running"):
                self.stop(each)

    def resume(self, start: str) -> None:
        self.is_cancelled = self.is_paused = False
        first = start.partition("[")[0]
        repeated: set[str] = set()
        below: set[str] = {first} if first else set()
        for name, node in self.graph.items():
            if below & set(node.above):
                below.add(name)
            above = [p for p in node.above if p in repeated]
            is_kept = self.state[name] == "succeeded" or (self.state[name] == "skipped" and not above)
            if is_kept and name not in below:
                continue
            repeated.add(name)
            self._renew(name)
            if node.kind == "map" and self.elements(name) and not above and start != name:
                for each in self.elements(name):
                    if self.state[each] != "succeeded" or each == start:
                        self._renew(each)
                self.state[name] = "running"
        self.settle()

    def _renew(self, step: str) -> None:
        self.state[step], self.failures[step], self.losses[step] = "open", 0, 0
        self.stopping.discard(step)

    def ends_as(self) -> str | None:
        top = [self.state[name] for name in self.graph]
        if set(top) & {"open", "running", "asking"}:
            return None
        return "cancelled" if self.is_cancelled else "failed" if set(top) & {"failed", "cancelled"} else "succeeded"


class Scheduler(RuleBasedStateMachine):
    """One run at a time; the next one starts when it has ended."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory(prefix="noria-machine-")
        self.config = load_config({}, home=str(Path(self._folder.name) / "home"), lease_s=LEASE_S)
        self.clock = ManualClock()
        self.app: App = build(self.config, clock=self.clock)
        self.archive = self.app.blobs.put(b"code").digest
        self.approver = self.app.access.create_principal(
            self.app.ops.system("test"), NewPrincipal(name="bob", kind="service", roles=["approver"])
        )
        self.model: Model | None = None
        self.run_id = ""
        self.held: dict[str, tuple[Assignment, int, str]] = {}  # step -> assignment, lease end, worker
        self.late: list[tuple[Assignment, str]] = []  # assignments that were taken away
        self.successes: dict[str, int] = {}
        self.hello()

    def op(self) -> Op:
        return self.app.ops.mint(Actor(kind="system", id="internal", name="internal"))

    def hello(self) -> None:
        for worker in WORKERS:
            self.app.work.hello(self.op(), Hello(worker=worker, name=worker))
        self.app.work.reconcile()

    @precondition(lambda self: self.model is None)
    @rule(graph=st.sampled_from(GRAPHS), retries=st.integers(0, 1))
    def submit(self, graph: dict[str, Node], retries: int) -> None:
        spec = PipelineSpec(
            name="p", entry="p", code=CodeInfo(archive_digest=self.archive), outputs={"r": FromStep(list(graph)[-1])},
            steps=[self._spec(name, node, graph, retries) for name, node in graph.items()],
        )  # fmt: skip
        owner = self.app.ops.mint(Actor(kind="user", id="local", name="local admin"))
        self.app.pipelines.register(owner, spec)
        self.run_id = self.app.pipelines.submit(owner, "p", {}).id
        self.model, self.held, self.late, self.successes = Model(graph, retries), {}, [], {}
        self.model.settle()

    def _spec(self, name: str, node: Node, graph: dict[str, Node], retries: int) -> StepSpec:
        inputs = {p: FromStep(p, [] if node.kind != "map" else ["items"]) for p in node.parents}
        asks = node.when and graph[node.when].kind == "approve"
        when = [Truth(FromStep(node.when, ["approved" if asks else "yes"]))] if node.when else []
        if node.kind == "approve":
            return StepSpec(
                name=name, kind="approve", inputs=inputs, when=when, question=Question(prompt="?"), timeout_s=86_400.0 * 80
            )  # fmt: skip
        return StepSpec(
            name=name, function=f"p:{name}", kind=node.kind, each=node.parents if node.kind == "map" else [], inputs=inputs,
            when=when, retries=retries, retry_delay_s=0.0,
        )  # fmt: skip

    @precondition(lambda self: self.model)
    @rule(worker=st.sampled_from(WORKERS))
    def claim(self, worker: str) -> None:
        assert self.model
        ready = [s for s in self.model.state if self.model.is_ready(s)]
        found = self.app.work.claim(self.op(), Claim(worker=worker)).assignment
        assert (found is None) == (not ready), (found, ready)
        if found:
            assert found.step in ready
            self.model.state[found.step] = "running"
            self.held[found.step] = (found, self.clock.now_ms() + int(LEASE_S * 1000), worker)

    @precondition(lambda self: self.held)
    @rule(
        data=st.data(), outcome=st.sampled_from(["succeeded", "succeeded", "failed", "timed_out", "lost", "cancelled"]),
        says_yes=st.booleans(), items=st.integers(0, 2),
    )  # fmt: skip
    def finish(self, data: Any, outcome: Any, says_yes: bool, items: int) -> None:
        assert self.model
        model = self.model
        step = data.draw(st.sampled_from(sorted(self.held)))
        given, _, worker = self.held.pop(step)
        value = Json({"yes": says_yes, "items": list(range(items))})
        self._say(given, worker, outcome, value)
        if data.draw(st.booleans()):
            self._say(given, worker, outcome, value)  # the answer was lost, it is said again
        if outcome == "succeeded":
            self.successes[step] = self.successes.get(step, 0) + 1
            model.end(step, "succeeded", (says_yes, items))
        elif model.is_cancelled or step in model.stopping:
            model.end(step, "cancelled")
        elif outcome in ("lost", "cancelled"):  # nobody asked for it to be cancelled
            model.lose(step)
        else:
            model.failures[step] = model.failures.get(step, 0) + 1
            if model.failures[step] > model.retries:
                model.end(step, "failed")
            else:
                model.state[step] = "open"

    def _say(self, given: Assignment, worker: str, outcome: Any, value: Json) -> None:
        self.app.work.finish(
            self.op(),
            Finish(
                worker=worker,
                step_run_id=given.step_run_id,
                attempt=given.attempt,
                outcome=outcome,
                outputs=value,
            ),
        )

    @precondition(lambda self: self.late)
    @rule(data=st.data())
    def finish_late(self, data: Any) -> None:
        """A worker that lost its step wakes up; nothing may change."""
        given, worker = data.draw(st.sampled_from(self.late))
        try:
            self._say(given, worker, "succeeded", Json(None))
        except Conflict:
            return
        raise AssertionError("a late result counted")

    @rule(worker=st.sampled_from(WORKERS))
    def beat(self, worker: str) -> None:
        mine = {s: h for s, h in self.held.items() if h[2] == worker}
        held = [Held(step_run_id=h[0].step_run_id, attempt=h[0].attempt) for h in mine.values()]
        orders = self.app.work.beat(self.op(), Beat(worker=worker, held=held))
        assert orders.lost == []
        stopping = {s for s in mine if self.model and (self.model.is_cancelled or s in self.model.stopping)}
        assert len(orders.cancel) == len(stopping)
        now_ms = self.clock.now_ms()
        if any(h[1] - now_ms < LEASE_S * 750 for h in mine.values()):
            for step, (given, _, name) in mine.items():
                self.held[step] = (given, now_ms + int(LEASE_S * 1000), name)
        else:  # the service may also renew when it notes that the worker was seen; ask it
            for step, (given, _, name) in mine.items():
                self.held[step] = (given, self._lease(given), name)

    def _lease(self, given: Assignment) -> int:
        with self.app.db.read() as tx:
            return int(tx.scalar("select lease_until_ms from step_run where id = :id", id=given.step_run_id))

    @rule(seconds=st.sampled_from([0.5, 1.0, 2.0, 4.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.app.work.reconcile()
        for step, (given, until_ms, worker) in list(self.held.items()):
            if until_ms < self.clock.now_ms():
                del self.held[step]
                self.late.append((given, worker))
                assert self.model
                self.model.lose(step)

    @precondition(lambda self: self.model and not self.model.is_cancelled)
    @rule()
    def cancel(self) -> None:
        assert self.model
        is_open = self.model.ends_as() is None
        self.app.pipelines.control.cancel(self.op(), self.run_id)
        if is_open:
            self.model.cancel()

    @precondition(lambda self: self.model and not self.model.is_cancelled and not self.model.ends_as())
    @rule(data=st.data())
    def cancel_a_step(self, data: Any) -> None:
        assert self.model
        going = sorted(s for s, state in self.model.state.items() if state in ("open", "running", "asking"))
        step = data.draw(st.sampled_from(going))
        view = self.app.pipelines.pipeline_run_view(self.op(), self.run_id)
        self.app.pipelines.control.cancel_step(self.op(), next(v.step.id for v in view.steps if v.step.name == step))
        self.model.stop(step)

    @precondition(lambda self: self.model and not self.model.is_cancelled and not self.model.ends_as())
    @rule()
    def pause_or_go_on(self) -> None:
        assert self.model
        control = self.app.pipelines.control
        (control.unpause if self.model.is_paused else control.pause)(self.op(), self.run_id)
        self.model.is_paused = not self.model.is_paused
        self.model.settle()

    @precondition(lambda self: self.model and "asking" in self.model.state.values())
    @rule(says_yes=st.booleans(), is_told_twice=st.booleans())
    def answer(self, says_yes: bool, is_told_twice: bool) -> None:
        assert self.model
        view = self.app.pipelines.pipeline_run_view(self.op(), self.run_id)
        step = next(v.step for v in view.steps if v.step.state == "asking")
        bob = self.app.ops.mint(Actor(kind="service", id=self.approver.id, name="bob"))
        (self.app.approvals.approve if says_yes else self.app.approvals.reject)(bob, step.approval_id)
        for _ in range(1 + is_told_twice):
            self.app.pipelines.control.answered(step.approval_id)
        self.model.end(step.name, "succeeded", (says_yes, 0))

    @rule()
    def server_crashes(self) -> None:
        """Everything in memory is gone; the first look forgives the silence meanwhile."""
        self.app.db.close()
        self.clock.advance(10)
        self.app = build(self.config, clock=self.clock)
        self.app.work.reconcile()
        until_ms = self.clock.now_ms() + int(LEASE_S * 1000)
        self.held = {step: (given, until_ms, worker) for step, (given, _, worker) in self.held.items()}

    @rule(worker=st.sampled_from(WORKERS))
    def worker_crashes(self, worker: str) -> None:
        """It starts again under its name: what it held is free at once."""
        again = f"{worker}"
        lost = [step for step, held in self.held.items() if held[2] == again]
        fresh = f"{worker}-again"
        self.app.work.hello(self.op(), Hello(worker=fresh, name=worker))
        for step in lost:
            given, _, name = self.held.pop(step)
            self.late.append((given, name))
            assert self.model
            self.model.lose(step)

    @precondition(lambda self: self.model and self.model.ends_as())
    @rule(data=st.data())
    def resume(self, data: Any) -> None:
        assert self.model
        choices = ["", *sorted(self.model.state)] if self.model.ends_as() != "succeeded" else sorted(self.model.state)
        start = data.draw(st.sampled_from(choices))
        self.app.pipelines.control.resume(self.op(), self.run_id, start=start)
        before = dict(self.model.state)
        self.model.resume(start)
        for step, state in before.items():
            if state == "succeeded" and self.model.state.get(step) != "succeeded":
                self.successes.pop(step, None)
        self.successes = {s: n for s, n in self.successes.items() if self.model.state.get(s) == "succeeded"}

    @precondition(lambda self: self.model and self.model.ends_as())
    @rule()
    def next_run(self) -> None:
        self.model = None
        self.held, self.late = {}, []

    @invariant()
    def rows_are_as_the_model_says(self) -> None:
        if self.model is None:
            return
        view = self.app.pipelines.pipeline_run_view(self.op(), self.run_id)
        shown = {v.step.name: v.step.state for v in view.steps}
        expected = {
            step: ("ready" if self.model.is_ready(step) else "waiting") if state == "open" else state
            for step, state in self.model.state.items()
        }
        # The elements of a map that is to begin anew are there still, as they ended; whether they stay is not known yet.
        stale = {s for s in shown if "[" in s and self.model.state[s.partition("[")[0]] not in ("running", "succeeded")}
        assert {s: state for s, state in shown.items() if s not in stale} == {
            s: state for s, state in expected.items() if s not in stale
        }
        assert view.run.is_paused == (self.model.is_paused and not self.model.ends_as())
        assert view.run.remaining == sum(state in ("open", "running", "asking") for s, state in expected_open(self.model))
        ended = self.model.ends_as()
        assert (view.run.state == ended) if ended else view.run.state in ("queued", "running", "cancelling")
        assert all(count == 1 for count in self.successes.values()), "a finished step ran again"

    def teardown(self) -> None:
        self.app.db.close()
        self._folder.cleanup()


def expected_open(model: Model) -> list[tuple[str, str]]:
    """The steps that count as not ended: an element only while its map runs."""
    return [
        (s, state) for s, state in model.state.items() if s in model.graph or model.state[s.partition("[")[0]] == "running"
    ]


Scheduler.TestCase.settings = settings(
    max_examples=examples(15), stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestScheduler = Scheduler.TestCase
