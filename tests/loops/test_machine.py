"""A loop under every order of events, crashes and repeated facts, against a model of plain lines."""

from __future__ import annotations

import tempfile
from itertools import pairwise
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from noria.config import load_config
from noria.kernel.clock import ManualClock
from noria.loops.model import ENDED, MOVES
from noria.loops.service import WAKES, Loops
from tests.conftest import Noria
from tests.loops.conftest import Crash, Given

COOLDOWN_S = 3600


class LoopMachine(RuleBasedStateMachine):
    """What the model knows: whether a turn is open and in which state, when the last one ended, which alerts wait."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        home = Path(self.folder.name)
        self.noria = Noria(load_config({}, home=str(home), database=f"sqlite:///{home / 'noria.db'}"), ManualClock())
        self.given = Given(self.noria)
        self.given.declare(cooldown_s=COOLDOWN_S, budget={"turns_per_day": None})
        self.state = ""  # of the latest turn; '' before the first
        self.turns = 0
        self.ended_at_ms = -(10**15)
        self.waiting = 0
        self.enabled = True
        self.seen: list[str] = []

    # --- what the world does ------------------------------------------------------------------------------------------

    @rule(dies=st.sampled_from(["", "", "submit"]))
    def alert(self, dies: str) -> None:
        self.given.pipelines.dies_after = dies
        self.given.alert()
        self.waiting += 1
        self.go()

    @rule(seconds=st.sampled_from([1, 1800, 4000]))
    def time_passes(self, seconds: int) -> None:
        self.noria.clock.advance(seconds)
        self.go()

    @precondition(lambda self: self.state == "training")
    @rule(loss=st.sampled_from([0.5, 0.6, None]), ends=st.sampled_from(["succeeded", "succeeded", "failed"]))
    def training_ends(self, loss: float | None, ends: str) -> None:
        champion = self.noria.app.registry.version(self.noria.op(), "flights@champion").evaluations[0].metrics["log_loss"]
        turn = self.given.turn
        if ends == "failed":
            self.given.pipelines.end(self.noria.system(), turn.pipeline_run_id, "failed")
            self.end("failed")
        else:
            made = self.given.version(None if loss is None else champion - 0.05 if loss < 0.55 else champion + 0.05)
            self.given.pipelines.end(self.noria.system(), turn.pipeline_run_id, "succeeded", version=made.number)
            if loss is not None and loss < 0.55:
                self.state = "awaiting_approval"
            else:
                self.end("rejected")
        self.go()

    @precondition(lambda self: self.state == "awaiting_approval")
    @rule(decision=st.sampled_from(["approve", "approve", "reject"]), dies=st.booleans())
    def somebody_decides(self, decision: str, dies: bool) -> None:
        self.given.serving.dies_after = "start_canary" if dies and decision == "approve" else ""
        answer = self.noria.http.post(f"/api/v1/approvals/{self.given.turn.approval_id}/{decision}", json={})
        assert answer.status_code == 200, answer.text
        if decision == "approve":
            self.state = "canary"
        else:
            self.end("rejected")
        self.go()

    @precondition(lambda self: self.state == "canary")
    @rule(verdict=st.sampled_from(["promoted", "rolled_back"]))
    def the_canary_ends(self, verdict: str) -> None:
        self.given.serving.end(self.noria.system(), verdict)
        self.end(verdict)
        self.go()

    @rule()
    def stop(self) -> None:
        self.given.team.post("/api/v1/loops/flights/stop")
        self.enabled = False
        if self.is_open:
            self.end("stopped")
        self.go()

    @rule()
    def start(self) -> None:
        self.given.team.post("/api/v1/loops/flights/start")
        self.enabled = True
        self.go()

    @rule()
    def by_hand(self) -> None:
        answer = self.given.team.post("/api/v1/loops/flights/run", json={"params": {"since": 1}})
        if self.enabled and not self.is_open:
            assert answer.status_code == 200, answer.text
            self.turns, self.state = self.turns + 1, "training"
        else:
            assert answer.status_code == 409, answer.text
        self.go()

    @rule()
    def the_service_is_built_anew_and_hears_everything_again(self) -> None:
        old = self.given.loops
        fresh = Loops(
            self.noria.app.db,
            self.noria.app.ops,
            old._pipelines,
            old._registry,
            old._serving,
            old._monitoring,
            old._approvals,
        )
        for fact in self.noria.facts(*WAKES):
            fresh.handle(fact)
        fresh.reconcile()
        self.go()

    # --- the model ----------------------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        return bool(self.state) and self.state not in ENDED

    def end(self, state: str) -> None:
        self.state, self.ended_at_ms = state, self.noria.clock.now_ms()

    def go(self) -> None:
        """The world settles, through at most one crash; then the model takes the same turn."""
        try:
            self.noria.settle()
        except Crash:
            self.noria.settle()
        is_cool = self.noria.clock.now_ms() >= self.ended_at_ms + COOLDOWN_S * 1000
        if self.waiting and self.enabled and not self.is_open and is_cool:
            self.waiting, self.turns, self.state = 0, self.turns + 1, "training"

    @invariant()
    def the_loop_is_where_the_model_is(self) -> None:
        if not hasattr(self, "given"):
            return
        found = self.given.loops.turns(self.noria.op(), "flights").items
        assert (len(found), found[0].state if found else "") == (self.turns, self.state)
        for turn in found:
            walked = [step.state for step in turn.steps]
            assert all(b in MOVES[a] for a, b in pairwise(walked)), walked
        keys = [t.pipeline_run_id for t in found if t.pipeline_run_id]
        assert len(set(keys)) == len(keys) == len(self.given.pipelines.runs)

    def teardown(self) -> None:
        if hasattr(self, "noria"):
            self.noria.close()
            self.folder.cleanup()


LoopMachine.TestCase.settings = settings(
    max_examples=5, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
)
TestLoopMachine = LoopMachine.TestCase
