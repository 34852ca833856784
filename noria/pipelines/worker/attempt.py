"""One try of a step: from claim to result."""

from __future__ import annotations

import asyncio
import logging
import shutil
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import httpx
import msgspec

from noria.pipelines.model.steps import Outcome
from noria.pipelines.model.values import Value
from noria.pipelines.model.work import Assignment, Claim, Claimed, Finish, Held
from noria.pipelines.worker.output import Output
from noria.pipelines.worker.server import RESULT_RETRY_S, Broken, Lost, Server

log = logging.getLogger("noria.worker")

GRACE_S = 5.0  # between SIGTERM and SIGKILL of a step
STOP_GRACE_S = 2.0  # the same when the worker itself is told to stop
AT_ONCE = ("lost", "out_of_memory", "failed")  # reasons that leave no time: each moment does further harm


class Attempt:
    """One try in progress, and the ways to stop it."""

    def __init__(
        self, given: Assignment, folder: Path, output: Output, *, worker: str, gpus: list[str] | None = None
    ) -> None:  # fmt: skip
        self.given, self.folder, self.output, self.worker, self.gpus = given, folder, output, worker, gpus or []
        self.timeout_s = given.timeout_s  # an executor that keeps the time itself, or has more to do, makes it longer
        self.key = f"{given.step_run_id}-{given.attempt}"
        self.why: Outcome | None = None  # why it was stopped
        self.error = ""
        self.stop = asyncio.Event()
        self.is_adopted = False  # a job began with it, or will, that an earlier process of this worker submitted
        self.is_given_back = False  # the worker's own trouble kept it from running
        self.let_go: Callable[[], None] = lambda: None  # of what it was given, once its processes are gone

    def end(self, why: Outcome, error: str = "") -> None:
        """Stop it; the first reason counts."""
        if self.why is None:
            self.why, self.error = why, error
            self.stop.set()


class Ending(msgspec.Struct, kw_only=True):
    """How a try ended, as the executor saw it."""

    exit_code: int | None
    outputs: Value | None = None  # what it returned; None when it did not
    error: str = ""
    out_of_memory: bool = False
    memory_peak_bytes: int | None = None
    environment_digest: str = ""
    reads: list[str] = []
    told: Outcome | None = None  # the server knows this end already: the job that did it said so itself
    is_lost: bool = False  # what ran it is gone, through no fault of its own


class Executor(Protocol):
    """Where tries run: `local.py`, or jobs of a cluster (`remote.py`). noria/testing/executor_contract.py says what they must do."""

    grace_s: float  # between SIGTERM and SIGKILL
    adopts: str  # under which name it finds again what it started before the worker died; '' when that ends with the worker

    async def open(self) -> None:
        """Before the first try. Raises NoriaError, with what to do about it, when nothing can run there."""
        ...

    async def start(self, attempt: Attempt) -> asyncio.Future[Any]:
        """Begin, or find again one that `is_adopted`; the future is done when the try has ended.

        Raises Broken when it cannot begin, for good.
        """
        ...

    def drop(self, tries: list[Held]) -> None:
        """End what was started for these tries before the worker died, if it is still there: they are others' by now."""
        ...

    def signal(self, attempt: Attempt, number: int) -> None:
        """SIGTERM: end soon. SIGKILL: end now. To everything that the try started; one that ended is left alone."""
        ...

    async def ending(self, attempt: Attempt) -> Ending:
        """What became of it; called once, after the future is done."""
        ...

    async def tidy(self) -> None:
        """Called now and then: let go of what nobody needs any more."""
        ...

    async def close(self) -> None:
        """The worker stops: nothing that was started may go on."""
        ...


class Attempts:
    """Runs tries on an executor, and tells the server how each ended."""

    def __init__(self, server: Server, executor: Executor, *, worker: str) -> None:
        self._server, self._executor, self._worker = server, executor, worker
        self.is_stopping = False

    async def do(self, attempt: Attempt, next_: Claim | None) -> Assignment | None:
        """One try, and the step that comes with the answer. The worker's own troubles give the step back; they are not its fault."""
        given = attempt.given
        done = Finish(worker=self._worker, step_run_id=given.step_run_id, attempt=given.attempt, outcome="lost")
        try:
            done = await self._try(attempt, done)
        except Broken as error:
            attempt.output.write(f"{error}\n")
            text = str(error).strip().splitlines()
            done = msgspec.structs.replace(done, outcome="failed", error=text[-1][:2000] if text else "It could not start.")
        except Exception as error:
            log.exception("step %s could not be run; giving it back", attempt.key)
            done = msgspec.structs.replace(done, error=f"the worker could not run it: {error}"[:1000])
            attempt.is_given_back = True
        # Before the server hears of the end, and gives the room to another step.
        attempt.let_go()
        try:
            done = msgspec.structs.replace(done, error=attempt.output.redactor.mask(done.error))
            offset, printed = await attempt.output.close()
            if attempt.why == "lost":
                await attempt.output.flush()
                return None
            is_last = self.is_stopping or attempt.is_given_back
            done = msgspec.structs.replace(done, offset=offset, text=printed, next=None if is_last else next_)
            return msgspec.json.decode(
                await self._server.post("finish", done, retry_s=RESULT_RETRY_S), type=Claimed
            ).assignment
        except Lost:
            log.warning("step %s was given to another worker; its result is dropped", attempt.key)
        except httpx.HTTPError as error:
            log.error("the result of step %s could not be delivered: %s", attempt.key, error)
        finally:
            # Beside what comes next, which need not wait for it.
            asyncio.get_running_loop().run_in_executor(None, lambda: shutil.rmtree(attempt.folder, ignore_errors=True))
        return None

    async def _try(self, attempt: Attempt, done: Finish) -> Finish:
        exited = await self._begin(attempt)
        if exited is None:
            return judged(attempt, Ending(exit_code=None), done)
        try:
            await self._wait(attempt, exited)
        finally:
            ending = await self._executor.ending(attempt)
        done = msgspec.structs.replace(
            done, exit_code=ending.exit_code, environment_digest=ending.environment_digest, reads=ending.reads,
            memory_peak_bytes=ending.memory_peak_bytes,
        )  # fmt: skip
        return judged(attempt, ending, done)

    async def _begin(self, attempt: Attempt) -> asyncio.Future[Any] | None:
        """Start it; None when it was told to stop before it ran: an environment may take minutes to build."""
        starting = asyncio.create_task(self._executor.start(attempt))
        stopping = asyncio.create_task(attempt.stop.wait())
        try:
            await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                return starting.result()
            return None
        finally:
            for task in (starting, stopping):
                task.cancel()
            await asyncio.gather(starting, stopping, return_exceptions=True)

    async def _wait(self, attempt: Attempt, exited: asyncio.Future[Any]) -> None:
        """Until it ended; one that has to stop gets SIGTERM, and SIGKILL after the grace."""
        stopping = asyncio.create_task(attempt.stop.wait())
        try:
            either: list[asyncio.Future[Any]] = [exited, stopping]
            await asyncio.wait(either, timeout=attempt.timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if exited.done():
                return
            timeout_s = attempt.given.timeout_s or 0.0
            attempt.end("timed_out", f"It took longer than its timeout of {timeout_s:g} s.")
            if attempt.why not in AT_ONCE:
                self._executor.signal(attempt, signal.SIGTERM)
                await asyncio.wait([exited], timeout=STOP_GRACE_S if self.is_stopping else self._executor.grace_s)
            if not exited.done():
                self._executor.signal(attempt, signal.SIGKILL)
            await asyncio.wait_for(asyncio.shield(exited), 30.0)
        finally:
            stopping.cancel()
            with suppress(asyncio.CancelledError):
                await stopping


def judged(attempt: Attempt, ending: Ending, done: Finish) -> Finish:
    """What the end of a try means."""
    change = msgspec.structs.replace
    if ending.told is not None:
        return change(done, outcome=ending.told)
    if attempt.why is not None:
        return change(done, outcome=attempt.why, error=attempt.error)
    if ending.outputs is not None:
        return change(done, outcome="succeeded", outputs=ending.outputs)
    if ending.is_lost:
        return change(done, outcome="lost", error=ending.error)
    return change(done, outcome="out_of_memory" if ending.out_of_memory else "failed", error=ending.error)
