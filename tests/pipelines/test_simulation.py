"""Hundreds of histories of the scheduler with virtual time; NORIA_HISTORIES=5000 plays more, NORIA_SEED=17 one of them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from msgspec.structs import replace

from noria.kernel.db import Read, Write
from noria.kernel.op import Op
from noria.pipelines import claim_store, step_store
from noria.pipelines.graph import Plan
from noria.pipelines.model.runs import PipelineRun
from noria.pipelines.model.spec import StepSpec
from noria.pipelines.model.steps import StepRun
from noria.pipelines.model.work import Beat, Claimed, Finish, Held, Hello, Orders
from noria.pipelines.model.workers import PipelineWorker
from noria.pipelines.transitions import Moved, Transitions
from noria.pipelines.work import Work
from tests.examples import examples
from tests.pipelines.simulation import QUEUES, Broken, Site, play

HISTORIES = int(os.environ.get("NORIA_HISTORIES") or examples(120))
MEMORY = Path("/dev/shm")  # a folder of its own is made there
PARTS = 8  # so that a failure says where, and several processes can share the work


@pytest.fixture
def site(sqlite_template: Path) -> Iterator[Site]:
    """In memory where there is a folder for that: a crash is one of the process, never of the machine."""
    with TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        shutil.copy(sqlite_template, Path(folder, "noria.db"))
        made = Site(Path(folder), f"sqlite:///{folder}/noria.db")
        yield made
        made.close()


@pytest.mark.parametrize("part", range(PARTS))
def test_whatever_happens_each_step_counts_once_and_every_run_ends(site: Site, part: int) -> None:
    only = os.environ.get("NORIA_SEED")
    for seed in [int(only)] if only else range(part, HISTORIES, PARTS):
        play(site, seed)


class WithoutFence(Work):
    """Broken on purpose: whoever says that a step ended is believed."""

    def finish(self, op: Op, done: Finish) -> Claimed:
        with self._db.read() as tx:
            step = step_store.step(tx, done.step_run_id)
        assert step is not None
        return super().finish(op, replace(done, worker=step.worker, attempt=step.attempt))


class WithoutClock(Work):
    """Broken on purpose: a clock that was set is not noticed."""

    def reconcile(self) -> None:
        if self._drift_ms is not None:
            self._drift_ms = self._ops.clock.now_ms() - int(self._ops.clock.monotonic_s() * 1000)
        super().reconcile()


class Believing(Work):
    """Broken on purpose: a beat renews all that its worker is thought to hold."""

    def beat(self, op: Op, beat: Beat) -> Orders:
        with self._db.read() as tx:
            held = [Held(step_run_id=row["id"], attempt=int(row["attempt"])) for row in claim_store.held(tx, beat.worker)]
        super().beat(op, replace(beat, held=held))
        return Orders()


class BlindToQueues(Work):
    """Broken on purpose: a worker is given steps of queues that it does not serve."""

    def _in_turn(self, tx: Read, worker: PipelineWorker | None, now_ms: int, each: int) -> list[tuple[str, str]]:
        return super()._in_turn(tx, replace(worker, queues=list(QUEUES)) if worker else None, now_ms, each)


class HastyMaps(Transitions):
    """Broken on purpose: a map ends before the last of its elements did."""

    def _one_less(self, tx: Write, run: PipelineRun, plan: Plan, above: StepRun) -> Moved:
        return super()._one_less(tx, run, plan, replace(above, waits=1) if above.waits == 2 else above)


class Unconditional(Transitions):
    """Broken on purpose: conditions are not looked at."""

    def _why_passed_over(self, tx: Read, run: PipelineRun, plan: Plan, spec: StepSpec) -> str:
        return super()._why_passed_over(tx, run, plan, replace(spec, when=[]))


class Restless(Transitions):
    """Broken on purpose: what is given back goes on, also in a run that is paused."""

    def _requeue(self, tx: Write, run: PipelineRun, step: StepRun) -> None:
        super()._requeue(tx, replace(run, is_paused=False), step)


class HalfAdopted(Work):
    """Broken on purpose: an agent that comes back holds the step, and its former self the try."""

    def _adopt(self, op: Op, hello: Hello, held: StepRun) -> bool:
        if hello.adopts:
            with self._db.system_write() as tx:
                step_store.save_step(tx, replace(held, worker=hello.worker))
        return bool(hello.adopts)


@pytest.mark.parametrize(
    "broken", [WithoutFence, WithoutClock, Believing, BlindToQueues, HastyMaps, Unconditional, Restless, HalfAdopted]
)
def test_the_simulation_notices_a_broken_scheduler(site: Site, broken: type[Work] | type[Transitions]) -> None:
    for server in site.servers:
        if issubclass(broken, Work):
            server.kind = broken
        else:
            server.rules = broken
    with pytest.raises(Broken, match="seed"):
        for seed in range(100):
            play(site, seed, is_stormy=True, shrinks=False)
