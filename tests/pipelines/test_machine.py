"""The scheduler against a plain model: random graphs, workers that finish, fail, fall silent or come late, crashes.

A crash is a new application on the same database: whatever the old one kept in memory is gone.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from noria.app import App, build
from noria.config import load_config
from noria.kernel.clock import ManualClock
from noria.kernel.errors import Conflict
from noria.kernel.op import Actor, Op
from noria.pipelines.model import (
    Assignment,
    Beat,
    Claim,
    CodeInfo,
    Finish,
    FromStep,
    Held,
    Hello,
    Json,
    PipelineSpec,
    StepSpec,
)

LEASE_S = 3.0
GRAPHS: list[dict[str, list[str]]] = [
    {"a": [], "b": ["a"], "c": ["b"]},
    {"a": [], "b": [], "c": ["a", "b"]},
    {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]},
    {"a": [], "b": []},
]
WORKERS = ["w1", "w2"]


class Model:
    """What should be true of one run, in plain words."""

    def __init__(self, graph: dict[str, list[str]], retries: int) -> None:
        self.graph, self.retries = graph, retries
        self.state = dict.fromkeys(graph, "open")  # open, running, succeeded, failed, skipped, cancelled
        self.failures = dict.fromkeys(graph, 0)
        self.losses = dict.fromkeys(graph, 0)
        self.is_cancelled = False

    def is_ready(self, step: str) -> bool:
        return self.state[step] == "open" and all(self.state[p] == "succeeded" for p in self.graph[step])

    def fail(self, step: str) -> None:
        self.state[step] = "failed"
        for other, parents in self.graph.items():  # parents come before their children
            if any(self.state[p] in ("failed", "skipped") for p in parents) and self.state[other] == "open":
                self.state[other] = "skipped"

    def lose(self, step: str) -> None:
        self.losses[step] += 1
        if self.is_cancelled:
            self.state[step] = "cancelled"
        elif self.losses[step] >= 5:
            self.fail(step)
        else:
            self.state[step] = "open"

    def ends_as(self) -> str | None:
        states = set(self.state.values())
        if states & {"open", "running"}:
            return None
        return "cancelled" if self.is_cancelled else "failed" if "failed" in states else "succeeded"


class Scheduler(RuleBasedStateMachine):
    """One run at a time; the next one starts when it has ended."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory(prefix="noria-machine-")
        self.config = load_config({}, home=str(Path(self._folder.name) / "home"), lease_s=LEASE_S)
        self.clock = ManualClock()
        self.app: App = build(self.config, clock=self.clock)
        self.archive = self.app.blobs.put(b"code").digest
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
    def submit(self, graph: dict[str, list[str]], retries: int) -> None:
        spec = PipelineSpec(
            name="p", entry="p", code=CodeInfo(archive_digest=self.archive), outputs={"r": FromStep(list(graph)[-1])},
            steps=[
                StepSpec(
                    name=name, function=f"p:{name}", retries=retries, retry_delay_s=0.0,
                    inputs={p: FromStep(p) for p in parents},
                )
                for name, parents in graph.items()
            ],
        )  # fmt: skip
        owner = self.app.ops.mint(Actor(kind="user", id="local", name="local admin"))
        self.app.pipelines.register(owner, spec)
        self.run_id = self.app.pipelines.submit(owner, "p", {}).id
        self.model, self.held, self.late, self.successes = Model(graph, retries), {}, [], {}

    @precondition(lambda self: self.model)
    @rule(worker=st.sampled_from(WORKERS))
    def claim(self, worker: str) -> None:
        assert self.model
        ready = [s for s in self.model.graph if self.model.is_ready(s)]
        found = self.app.work.claim(self.op(), Claim(worker=worker)).assignment
        assert (found is None) == (not ready or self.model.is_cancelled), (found, ready)
        if found:
            assert found.step in ready
            assert found.inputs == {p: Json(p) for p in self.model.graph[found.step]}
            self.model.state[found.step] = "running"
            self.held[found.step] = (found, self.clock.now_ms() + int(LEASE_S * 1000), worker)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), outcome=st.sampled_from(["succeeded", "succeeded", "failed", "timed_out", "lost", "cancelled"]))
    def finish(self, data: Any, outcome: Any) -> None:
        assert self.model
        step = data.draw(st.sampled_from(sorted(self.held)))
        given, _, worker = self.held.pop(step)
        if outcome == "cancelled" and not self.model.is_cancelled:
            outcome = "failed"
        self._say(given, worker, outcome)
        if data.draw(st.booleans()):
            self._say(given, worker, outcome)  # the answer was lost, it is said again
        if outcome == "succeeded":
            self.model.state[step] = "succeeded"
            self.successes[step] = self.successes.get(step, 0) + 1
        elif outcome == "lost":
            self.model.lose(step)
        elif self.model.is_cancelled:
            self.model.state[step] = "cancelled"
        else:
            self.model.failures[step] += 1
            if self.model.failures[step] > self.model.retries:
                self.model.fail(step)
            else:
                self.model.state[step] = "open"

    def _say(self, given: Assignment, worker: str, outcome: Any) -> None:
        self.app.work.finish(
            self.op(),
            Finish(
                worker=worker,
                step_run_id=given.step_run_id,
                attempt=given.attempt,
                outcome=outcome,
                outputs=Json(given.step),
            ),
        )

    @precondition(lambda self: self.late)
    @rule(data=st.data())
    def finish_late(self, data: Any) -> None:
        """A worker that lost its step wakes up; nothing may change."""
        given, worker = data.draw(st.sampled_from(self.late))
        try:
            self._say(given, worker, "succeeded")
        except Conflict:
            return
        raise AssertionError("a late result counted")

    @rule(worker=st.sampled_from(WORKERS))
    def beat(self, worker: str) -> None:
        mine = {s: h for s, h in self.held.items() if h[2] == worker}
        held = [Held(step_run_id=h[0].step_run_id, attempt=h[0].attempt) for h in mine.values()]
        orders = self.app.work.beat(self.op(), Beat(worker=worker, held=held))
        assert orders.lost == []
        assert bool(orders.cancel) == bool(mine and self.model and self.model.is_cancelled)
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
        self.app.pipelines.cancel(self.op(), self.run_id)
        self.model.is_cancelled = True
        for step, state in self.model.state.items():
            if state == "open":
                self.model.state[step] = "cancelled"

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

    @precondition(lambda self: self.model and self.model.ends_as() in ("failed", "cancelled"))
    @rule()
    def resume(self) -> None:
        assert self.model
        self.app.pipelines.resume(self.op(), self.run_id)
        model = self.model
        model.is_cancelled = False
        for step, state in model.state.items():
            if state != "succeeded":
                model.state[step], model.failures[step], model.losses[step] = "open", 0, 0

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
        assert shown == expected
        ended = self.model.ends_as()
        assert (view.run.state == ended) if ended else view.run.state in ("queued", "running", "cancelling")
        assert all(count == 1 for count in self.successes.values()), "a finished step ran again"

    def teardown(self) -> None:
        self.app.db.close()
        self._folder.cleanup()


Scheduler.TestCase.settings = settings(
    max_examples=15, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestScheduler = Scheduler.TestCase
