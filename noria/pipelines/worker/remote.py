"""Tries that run elsewhere, as jobs of a cluster: what is the same for every cluster.

The worker keeps the lease. It hands a try on for a ticket, submits a job that begins with it, and looks every second at the cluster
and at what the server was told. The job (`job.py`) sends output and result to the server itself, so the end of a try is known as
soon as the server knows it, and a cluster that is slow to say so, or forgets its jobs, costs nothing.

A worker that was killed and comes back finds the jobs of its tries by their names. A try that another process of it has adopted
meanwhile is left alone, and so is its job.

What a cluster has to do is small: submit, find, look, stop, remove (`Cluster`). Ray, Kubernetes and Slurm do it in a file each.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Awaitable, Callable
from typing import Any, Literal, Protocol

import httpx
import msgspec

from noria.pipelines.model.elsewhere import AskingHow, Handing, Ticket, Told
from noria.pipelines.model.places import Place
from noria.pipelines.model.work import Held
from noria.pipelines.worker.attempt import Attempt, Ending
from noria.pipelines.worker.server import RESULT_RETRY_S, Broken, Lost, Server

log = logging.getLogger("noria.worker")

LOOK_S = 0.5  # how often; less often with many jobs, so that neither server nor cluster has more than LOOKS_PER_S to answer
LOOKS_PER_S = 20.0
AWAY_S = 600.0  # how long a cluster that cannot be reached is waited for before the step is given back
AWAY_WAIT_MAX_S = 15.0
BUILD_MARGIN_S = 1800.0  # what may come before a step's own time begins: an image, an environment
END_S = 30.0  # how long a job that told its end may take to be gone before it is removed
GONE_LOOKS = 3  # a job that the cluster does not know this often is gone


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What a cluster is asked to run: one process with these variables, and this room. No secret in it is worth anything twice."""

    name: str  # unique to the try; the same job submitted twice is one
    command: list[str]
    env: dict[str, str]
    labels: dict[str, str]
    cpu: float = 0.0
    gpu: int = 0
    memory_bytes: int = 0
    image: str = ""
    time_limit_s: float | None = None  # far above the step's own timeout, which the job itself keeps: a last resort


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What the cluster says of a job. `why`: why it still waits, or why it ended; a sentence for people."""

    phase: Literal["waiting", "running", "ended", "gone"]
    why: str = ""
    out_of_memory: bool = False
    exit_code: int | None = None


class Away(Exception):
    """The cluster cannot be reached just now; the message says which, and what to look at."""


class Cluster(Protocol):
    """Where jobs run. Each call has a deadline of its own; each raises Away when the cluster does not answer."""

    name: str

    async def open(self) -> None:
        """Before the first job. Raises Unavailable, with what to look at, when there is no such cluster."""
        ...

    async def submit(self, job: Job) -> str:
        """Start it and return its id there. The same name again is the same job. Raises Broken when it is refused for good."""
        ...

    async def find(self, name: str) -> str:
        """The id of the job that was submitted under this name; '' when it is not known (any more)."""
        ...

    def place(self, job: Job) -> Place:
        """Where it will run, as far as that is known before."""
        ...

    async def look(self, id: str) -> State: ...

    async def stop(self, id: str, *, at_once: bool) -> None:
        """End it, and everything that it started. One that is not there is left alone."""
        ...

    async def output(self, id: str) -> str:
        """The end of what the job itself printed: why a step never began. '' when there is none."""
        ...

    async def remove(self, id: str) -> None:
        """Forget it, after it ended."""
        ...

    async def close(self) -> None: ...


class Remote:
    """An executor whose tries are jobs of a cluster."""

    grace_s = 20.0  # between SIGTERM and the end by force: word has to reach the job

    def __init__(self, server: Server, cluster: Cluster, *, job_url: str, python: str = "python3") -> None:
        self._server, self._cluster, self._url, self._python = server, cluster, job_url, python
        self.adopts = cluster.name
        self._jobs: dict[str, _Running] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        await self._cluster.open()

    async def start(self, attempt: Attempt) -> asyncio.Future[Any]:
        attempt.output.started()
        if attempt.timeout_s is not None:
            attempt.timeout_s += BUILD_MARGIN_S  # the job keeps the time itself; this is for one that hangs
        name = _name(attempt.given.step_run_id, attempt.given.attempt)
        running = _Running(attempt, asyncio.get_running_loop().create_future())
        job = None if attempt.is_adopted else self._job(attempt, await self._hand_on(attempt))
        try:
            if job is None:
                running.id = await self._patiently(running, lambda: self._cluster.find(name)) or name
            else:
                running.id = await self._patiently(running, lambda: self._cluster.submit(job))
                await self._note(running, f"── {self._cluster.name}: job {running.id} ──\n")
            self._jobs[attempt.key] = running
            running.looking = asyncio.create_task(self._look_on(running))
            return await self._until_begun(running)
        except BaseException:
            self._jobs.pop(attempt.key, None)
            if running.looking:
                running.looking.cancel()
            # Also one whose submission was under way: its name is known.
            self._later(self._give_up(running, running.id or name))
            raise

    async def _hand_on(self, attempt: Attempt) -> str:
        """The ticket for its job."""
        handing = Handing(
            worker=attempt.worker, step_run_id=attempt.given.step_run_id, attempt=attempt.given.attempt,
            place=self._cluster.place(self._job(attempt, "")),
        )  # fmt: skip
        return msgspec.json.decode(await self._server.post("hand-on", handing), type=Ticket).ticket

    def drop(self, tries: list[Held]) -> None:
        if tries:
            self._later(self._end_all([_name(held.step_run_id, held.attempt) for held in tries]))

    async def _end_all(self, names: list[str]) -> None:
        for name in names:
            try:
                await self._end(name)
            except Broken as refused:
                log.warning("the job %s could not be ended: %s; it ends itself when it asks the server", name, refused)

    def signal(self, attempt: Attempt, number: int) -> None:
        running = self._jobs.get(attempt.key)
        if running:
            self._later(self._stop(running, at_once=number == signal.SIGKILL))

    async def ending(self, attempt: Attempt) -> Ending:
        running = self._jobs.pop(attempt.key)
        assert running.looking
        running.looking.cancel()
        await asyncio.gather(running.looking, return_exceptions=True)
        told, state = await self._told(running, patience_s=RESULT_RETRY_S), running.state
        if running.is_anothers:
            return Ending(exit_code=None, told="lost")
        said = ""
        try:
            if told and told.state == "running" and told.is_held and not told.has_begun:
                said = await self._said(running)  # before the job is removed with what it printed
        finally:
            self._later(self._end(running.id, told=told))
        if told and told.state != "running":
            return Ending(exit_code=None, told=told.state)  # type: ignore[arg-type]
        if told is None or not told.is_held:
            return Ending(exit_code=None, told="lost")
        attempt.output.go_on(told.log_bytes)
        why = state.why or "it is not there any more"
        if not told.has_begun:
            attempt.output.write(said)
            last = said.strip().splitlines()[-1:] if said.strip() else []
            error = f"The job {running.id} ended before the step began: {why}." + "".join(
                f" It said: {line}" for line in last
            )
            is_lost = attempt.is_adopted and state.phase == "gone"  # nobody looked on; it may never have been submitted
            return Ending(
                exit_code=state.exit_code, error=error[:2000], out_of_memory=state.out_of_memory, is_lost=is_lost
            )  # fmt: skip
        error = f"The job {running.id} ended before the step did: {why}."
        if state.out_of_memory:
            return Ending(exit_code=state.exit_code, out_of_memory=True, error=error)
        return Ending(exit_code=state.exit_code, error=error, is_lost=True)

    async def tidy(self) -> None:
        """Nothing is kept."""

    async def close(self) -> None:
        for running in self._jobs.values():
            if running.looking:
                running.looking.cancel()
            self._later(self._give_up(running, running.id))
        self._jobs.clear()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=END_S)
        await self._cluster.close()

    # --- to the cluster ---------------------------------------------------------------------------------------------------

    def _job(self, attempt: Attempt, ticket: str) -> Job:
        given = attempt.given
        timeout_s = given.timeout_s
        return Job(
            name=_name(given.step_run_id, given.attempt),
            command=[self._python, "-m", "noria.pipelines.worker.job"],
            env={
                "NORIA_URL": self._url, "NORIA_TICKET": ticket, "NORIA_ATTEMPT_OF": f"{given.step_run_id}/{given.attempt}",
                "NORIA_EXECUTOR": self._cluster.name,
            },
            labels={"pipeline": given.pipeline, "step": given.step, "run": given.run_id, "attempt": str(given.attempt)},
            cpu=given.cpu, gpu=given.gpu, memory_bytes=given.memory_bytes, image=given.image,
            time_limit_s=None if timeout_s is None else timeout_s + BUILD_MARGIN_S,
        )  # fmt: skip

    async def _patiently(self, running: _Running, ask: Callable[[], Awaitable[str]]) -> str:
        """A cluster that is away for a moment costs no try."""
        loop = asyncio.get_running_loop()
        until_s, wait_s = loop.time() + AWAY_S, 1.0
        while True:
            try:
                return await ask()
            except Away as away:
                if loop.time() + wait_s > until_s:
                    raise
                await self._note(running, f"── {away} Trying again in {wait_s:.0f} s. ──\n")
            await asyncio.sleep(wait_s)
            wait_s = min(AWAY_WAIT_MAX_S, wait_s * 2)

    async def _look_on(self, running: _Running) -> None:
        """Until the try is over, by the server's word or the cluster's."""
        missed, said = 0, ""
        while True:
            await asyncio.sleep(max(LOOK_S, len(self._jobs) / LOOKS_PER_S))
            told = await self._told(running)
            if told and told.has_begun:
                running.begun.set()
            if running.is_anothers or (told and (told.state != "running" or not told.is_held)):
                break
            try:
                state = await self._cluster.look(running.id)
            except (Away, Broken) as error:  # also rights that were taken away: the job itself goes on
                state = State(phase="waiting", why=str(error))
            except Exception:
                log.exception("looking at the job %s failed", running.id)
                state = State(phase="waiting", why="The agent could not look at the job; its own log says why.")
            else:
                missed = missed + 1 if state.phase == "gone" else 0
                running.state = state
            if state.phase == "ended" or missed >= GONE_LOOKS:
                break
            if state.why and state.why != said and state.phase == "waiting" and not running.begun.is_set():
                said = state.why
                await self._note(running, f"── {said} ──\n")
        running.begun.set()
        if not running.ended.done():
            running.ended.set_result(None)

    async def _until_begun(self, running: _Running) -> asyncio.Future[Any]:
        """The future of its end, once the job is there: a step's time does not count while a cluster has no room."""
        assert running.looking
        begun = asyncio.create_task(running.begun.wait())
        await asyncio.wait([begun, running.looking], return_when=asyncio.FIRST_COMPLETED)
        begun.cancel()
        if running.looking.done() and not running.ended.done():
            running.looking.result()  # a bug of ours: the worker gives the step back
        return running.ended

    async def _stop(self, running: _Running, *, at_once: bool) -> None:
        told = await self._told(running)
        if running.is_anothers or (told and told.state != "running"):
            return  # it has told its end, and goes by itself; or it goes on, and `_look_on` sees that it is not ours
        try:
            await self._cluster.stop(running.id, at_once=at_once)
        except (Away, Broken) as refused:
            log.warning("the job %s could not be stopped: %s; it ends itself when it asks the server", running.id, refused)
        if at_once and not running.ended.done():
            running.ended.set_result(None)

    async def _give_up(self, running: _Running, id: str) -> None:
        """End the job of a try, unless another process of this worker has adopted it."""
        await self._told(running)
        if not running.is_anothers:
            await self._end(id)

    async def _end(self, id: str, *, told: Told | None = None) -> None:
        """See a job off: one that told its end may take a moment to go, any other is stopped."""
        with contextlib.suppress(Away):
            if told and told.state != "running":
                for _ in range(int(END_S)):
                    if (await self._cluster.look(id)).phase in ("ended", "gone"):
                        break
                    await asyncio.sleep(1.0)
            await self._cluster.stop(id, at_once=True)
            await self._cluster.remove(id)

    async def _said(self, running: _Running) -> str:
        try:
            return (await self._cluster.output(running.id))[-8000:]
        except Away:
            return ""

    # --- to the server ----------------------------------------------------------------------------------------------------

    async def _told(self, running: _Running, note: str = "", *, patience_s: float = 5.0) -> Told | None:
        """None when the server cannot be asked."""
        given = running.attempt.given
        asking = AskingHow(
            worker=running.attempt.worker, held=Held(step_run_id=given.step_run_id, attempt=given.attempt), note=note
        )
        try:
            return msgspec.json.decode(await self._server.post("told", asking, retry_s=patience_s), type=Told)
        except Lost:
            running.is_anothers = True
        except httpx.HTTPError as error:
            log.debug("the server did not say what became of %s: %s", running.id, error)
        return None

    async def _note(self, running: _Running, text: str) -> None:
        await self._told(running, text)

    def _later(self, work: Any) -> None:
        """Beside what comes next; `close` waits for it."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("a job could not be seen off", exc_info=error)


class _Running:
    """A try whose job was submitted."""

    def __init__(self, attempt: Attempt, ended: asyncio.Future[None]) -> None:
        self.attempt, self.ended = attempt, ended
        self.id = ""
        self.begun = asyncio.Event()
        self.is_anothers = False  # another process of this worker has adopted it
        self.state = State(phase="waiting")
        self.looking: asyncio.Task[None] | None = None


def _name(step_run_id: str, attempt: int) -> str:
    """Of the job of a try: what makes it known again."""
    return f"noria-{step_run_id}-{attempt}"


def broken(name: str, error: Exception | str) -> Broken:
    """A job that a cluster refuses for good, in words for the step's log."""
    return Broken(f"{name} refused the job: {error}")
