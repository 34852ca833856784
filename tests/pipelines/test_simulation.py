"""Hundreds of histories of the scheduler with virtual time; NORIA_HISTORIES=5000 plays more, NORIA_SEED=17 one of them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from noria.kernel.op import Op
from noria.pipelines import claim_store, step_store
from noria.pipelines.model.work import Beat, Claimed, Finish, Held, Orders
from noria.pipelines.work import Work
from tests.examples import examples
from tests.pipelines.simulation import Broken, Site, play

HISTORIES = int(os.environ.get("NORIA_HISTORIES") or examples(120))
PARTS = 8  # so that a failure says where, and several processes can share the work


@pytest.fixture
def site(tmp_path: Path, sqlite_template: Path) -> Iterator[Site]:
    shutil.copy(sqlite_template, tmp_path / "noria.db")
    made = Site(tmp_path, f"sqlite:///{tmp_path / 'noria.db'}")
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


@pytest.mark.parametrize("broken", [WithoutFence, WithoutClock, Believing])
def test_the_simulation_notices_a_broken_scheduler(site: Site, broken: type[Work]) -> None:
    for server in site.servers:
        server.kind = broken
    with pytest.raises(Broken, match="seed"):
        for seed in range(200):
            play(site, seed)
