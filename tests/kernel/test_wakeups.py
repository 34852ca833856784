"""Who is woken by which facts, and what a subscriber is told again."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from noria.kernel.db import Read
from noria.kernel.events import Event, Pump
from noria.kernel.ids import Ref
from noria.kernel.wakeups import Wakeups
from tests.conftest import Noria


def test_a_fact_wakes_those_who_wait_for_its_kind() -> None:
    wakeups = Wakeups()
    with ThreadPoolExecutor(3) as threads:
        runs = threads.submit(wakeups.wait, 0, 30.0, frozenset({"run.created"}))
        all_of_them = threads.submit(wakeups.wait, 0, 30.0)
        jobs = threads.submit(wakeups.wait, 0, 0.3, frozenset({"job.submitted"}))
        wakeups.signal(["run.created"])
        assert runs.result(10) == all_of_them.result(10) == 1
        assert not jobs.done()
        assert jobs.result(10) == 1  # its time was over


def test_a_signal_that_came_before_the_wait_is_not_lost() -> None:
    wakeups = Wakeups()
    wakeups.signal(["job.submitted"])
    wakeups.signal(["run.created"])
    assert wakeups.wait(0, 30.0, frozenset({"job.submitted"})) == 2
    assert wakeups.wait(2, 0.01, frozenset({"job.submitted"})) == 2  # nothing since
    wakeups.signal()
    assert wakeups.wait(2, 30.0, frozenset({"job.submitted"})) == 3  # a signal to everybody


def test_a_signal_to_everybody_is_for_kinds_that_never_came_too() -> None:
    """A pump that stops says so once; whoever was at work just then waits for its kinds a moment later."""
    wakeups = Wakeups()
    wakeups.signal()
    began_s = time.monotonic()
    assert wakeups.wait(0, 5.0, frozenset({"job.submitted"})) == 1
    assert time.monotonic() - began_s < 4


class Listener:
    """Hears of sessions that began."""

    name = "listener"

    def __init__(self) -> None:
        self.heard: list[int] = []
        self.told = threading.Event()

    def interest(self, _: Read) -> frozenset[str]:
        return frozenset({"session.started"})

    def handle(self, event: Event) -> None:
        self.heard.append(event.seq)
        self.told.set()


def test_a_pump_that_is_stopped_knows_later_what_it_has_told(noria: Noria) -> None:
    listener = Listener()
    for expected in ([1], [1, 2]):
        pump = Pump(noria.app.db, [listener], [])
        pump.start()
        try:
            with noria.app.db.write(noria.op()) as tx:
                tx.emit("session.started", Ref("principal", "1"))
            assert listener.told.wait(10)
        finally:
            pump.stop()
        assert listener.heard == expected
        listener.told.clear()
