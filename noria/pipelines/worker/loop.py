"""The worker's loop: claim, run, beat, tidy, until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
from collections.abc import Coroutine
from typing import Any

import httpx
import msgspec

from noria.kernel.errors import Forbidden
from noria.pipelines.model.queues import DEFAULT_QUEUE
from noria.pipelines.model.work import Assignment, Claim, Claimed, Finish, Held, Hello, Orders, Welcome
from noria.pipelines.worker.attempt import STOP_GRACE_S, Attempt, Attempts, Executor
from noria.pipelines.worker.home import Home
from noria.pipelines.worker.output import Output
from noria.pipelines.worker.server import Lost, Server

log = logging.getLogger("noria.worker")

CLAIM_WAIT_S = 15.0
TIDY_EVERY_S = 30.0
TROUBLE_WAIT_S = 5.0  # after its own trouble, before a worker asks for another step


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker offers: how many steps at once, and what they may use together."""

    slots: int = 2
    cpus: float = 1.0
    memory_bytes: int = 0
    gpus: list[str] = msgspec.field(default_factory=list)  # as CUDA_VISIBLE_DEVICES names them
    queues: list[str] = msgspec.field(default_factory=lambda: [DEFAULT_QUEUE])


class Worker:
    """Claims and runs, until told to stop."""

    def __init__(
        self, server: Server, home: Home, executor: Executor, *, url: str, name: str, offer: Offer, has_parent: bool = True
    ) -> None:
        self.id = f"{name}-{secrets.token_hex(4)}"
        self._server, self._home, self._executor, self._url = server, home, executor, url
        self._name, self._offer, self._has_parent = name, offer, has_parent
        self._attempts = Attempts(server, executor, worker=self.id)
        self._running: dict[str, Attempt] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()
        self._free = asyncio.Semaphore(offer.slots)
        self._free_gpus = list(offer.gpus)
        self._lease_s = 30.0
        self._open_wish: Claim | None = None  # one that nobody answered yet
        self._is_known = asyncio.Event()  # the server has said what this worker holds already

    async def run(self) -> None:
        """Work until `stop` is called."""
        loops = [asyncio.create_task(each()) for each in (self._claim_on, self._beat_on, self._tidy_on)]
        if self._has_parent:
            loops.append(asyncio.create_task(self._watch_parent()))
        stopped = asyncio.create_task(self._stop.wait())
        done, _ = await asyncio.wait([*loops, stopped], return_when=asyncio.FIRST_COMPLETED)
        for each in (*loops, stopped):
            each.cancel()
        await asyncio.gather(*loops, stopped, return_exceptions=True)
        await self._wind_down()
        for each in done:
            if each is not stopped:
                each.result()  # a loop that broke is a bug, and ends the process with its traceback

    def stop(self) -> None:
        self._stop.set()

    async def _claim_on(self) -> None:
        await self._say_hello()
        while True:
            await self._free.acquire()
            try:
                given = await self._claim()
            except BaseException:
                self._free.release()
                raise
            if given is None:
                self._free.release()
                continue
            self._begin(self._do(given))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _adopt(self, tries: list[Assignment]) -> None:
        """Go on with what an earlier process of this name left elsewhere. More than there are slots take none."""
        attempts = [self._attempt(given) for given in tries]  # all of them, before the first beat says what is held
        for attempt in attempts:
            attempt.is_adopted = True
            has_slot = not self._free.locked()
            if has_slot:
                await self._free.acquire()
            self._begin(self._go_on(attempt, has_slot=has_slot))

    async def _go_on(self, attempt: Attempt, *, has_slot: bool) -> None:
        if not has_slot:
            await self._run(attempt, None)
            return
        try:
            following = await self._run(attempt, self._wish())
        except BaseException:
            self._free.release()
            raise
        if following is None:
            self._free.release()
        else:
            await self._do(following)

    async def _do(self, given: Assignment) -> None:
        """A step, and those that come with the answers to results, until there is none."""
        try:
            following: Assignment | None = given
            while following is not None:
                following = await self._do_one(following)
        finally:
            self._free.release()

    async def _do_one(self, given: Assignment) -> Assignment | None:
        if self._stop.is_set():  # it came after the goodbye, or with it
            lost = Finish(worker=self.id, step_run_id=given.step_run_id, attempt=given.attempt, outcome="lost")
            with contextlib.suppress(httpx.HTTPError, Lost):
                await self._server.post("finish", lost, retry_s=0.0)
            return None
        return await self._run(self._attempt(given), self._wish())

    def _attempt(self, given: Assignment) -> Attempt:
        """A try that this worker holds from here on."""
        key = f"{given.step_run_id}-{given.attempt}"
        gpus = [self._free_gpus.pop(0) for _ in range(min(given.gpu, len(self._free_gpus)))]
        attempt = Attempt(given, self._home.tries / key, Output(self._server, given, self.id), worker=self.id, gpus=gpus)
        attempt.let_go = lambda: self._let_go(attempt)
        self._running[key] = attempt
        return attempt

    async def _run(self, attempt: Attempt, wish: Claim | None) -> Assignment | None:
        try:
            return await self._attempts.do(attempt, wish)
        finally:
            self._running.pop(attempt.key, None)
            self._let_go(attempt)
            if attempt.is_given_back:  # a full disk, say: another worker takes the step meanwhile
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), TROUBLE_WAIT_S)

    def _let_go(self, attempt: Attempt) -> None:
        """Its GPUs are free again."""
        freed, attempt.gpus = attempt.gpus, []
        self._free_gpus = [gpu for gpu in self._offer.gpus if gpu in (*self._free_gpus, *freed)]

    def _wish(self, wait_s: float = 0.0) -> Claim:
        """Asking for a step. Said again, since the answer was lost, it is the same wish and gets the same step."""
        return Claim(worker=self.id, wait_s=wait_s, key=secrets.token_hex(8))

    async def _say_hello(self) -> None:
        hello = Hello(
            worker=self.id, name=self._name, host=socket.gethostname(), pid=os.getpid(), slots=self._offer.slots,
            cpus=self._offer.cpus, memory_bytes=self._offer.memory_bytes, gpus=len(self._offer.gpus),
            queues=self._offer.queues, adopts=self._executor.adopts,
        )  # fmt: skip
        while True:
            try:
                welcome = msgspec.json.decode(await self._server.post("hello", hello), type=Welcome)
            except httpx.HTTPStatusError as error:
                if error.response.status_code in (401, 403):
                    raise _refused(error) from error
                log.warning("the server is not ready: %s", error)
            except httpx.TransportError as error:
                log.warning("no server at %s yet (%s)", self._url, type(error).__name__)
            else:
                self._lease_s = welcome.lease_s
                await self._adopt(welcome.adopted)
                self._executor.drop(welcome.orphans)
                self._is_known.set()
                log.info("worker %s is ready, %d steps at once", self.id, self._offer.slots)
                return

    async def _claim(self) -> Assignment | None:
        """One step, or None after a while. A server that is away is waited for, however long."""
        wish = self._open_wish = self._open_wish or self._wish(CLAIM_WAIT_S)
        try:
            body = await self._server.post("claim", wish, retry_s=10.0)
        except httpx.TransportError as error:
            log.warning("the server is away (%s)", type(error).__name__)
            return None
        except httpx.HTTPStatusError as error:
            if error.response.status_code in (401, 403):
                raise _refused(error) from error
            log.warning("claiming failed: %s", error)
            await asyncio.sleep(1.0)
            return None
        self._open_wish = None
        return msgspec.json.decode(body, type=Claimed).assignment

    async def _beat_on(self) -> None:
        # Not before: the server would take away what the worker does not say it holds.
        await self._is_known.wait()
        while True:
            await asyncio.sleep(min(1.0, self._lease_s / 4))
            try:
                body = await self._server.post("beat", {"worker": self.id, "held": self._held()}, retry_s=0.0)
            except (httpx.HTTPError, Lost) as error:
                log.debug("no beat: %s", error)
                continue
            orders = msgspec.json.decode(body, type=Orders)
            self._obey(orders.cancel, "cancelled")
            self._obey(orders.lost, "lost")

    def _held(self) -> list[Held]:
        return [Held(step_run_id=a.given.step_run_id, attempt=a.given.attempt) for a in self._running.values()]

    def _obey(self, to_stop: list[Held], why: Any) -> None:
        for each in to_stop:
            if attempt := self._running.get(f"{each.step_run_id}-{each.attempt}"):
                attempt.end(why)

    async def _watch_parent(self) -> None:
        parent = os.getppid()
        while os.getppid() == parent:  # noqa: ASYNC110  # nothing signals it everywhere
            await asyncio.sleep(0.5)
        log.warning("the parent process is gone; stopping")

    async def _tidy_on(self) -> None:
        while True:
            await asyncio.sleep(TIDY_EVERY_S)
            await self._executor.tidy()
            await self._home.prune()

    async def _wind_down(self) -> None:
        """Stop every step, politely and then by force, and give them back."""
        with contextlib.suppress(httpx.HTTPError, Lost):
            await self._server.post("goodbye", {"worker": self.id, "held": self._held()}, retry_s=0.0)
        self._attempts.is_stopping = True
        for attempt in list(self._running.values()):
            attempt.end("lost")
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=STOP_GRACE_S + 3.0)
        await self._executor.close()


def _refused(error: httpx.HTTPStatusError) -> Forbidden:
    return Forbidden(
        f"The server refuses this worker ({error.response.status_code}).",
        hint="An agent needs NORIA_TOKEN, of somebody with the role agent: noria user create NAME --service --role agent; "
        "noria token create NAME --for NAME.",
    )
