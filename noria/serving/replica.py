"""One revision's worker for a replica on Ray, which no door needs to be beside.

It tells the control plane nothing, and of what is wanted it follows only its file: the machine's recorder reads the policies there.
Invariant: the file is asked for before the worker starts. Where nobody answers, the recorder keeps to what was told last, or writes no
inputs when there is nothing.
"""

from __future__ import annotations

import asyncio
import contextlib

from noria.kernel.errors import Unavailable
from noria.serving.keeper import START_TIMEOUT_S, WATCH_S
from noria.serving.lanes import Lane
from noria.serving.model import Desired, DesiredAuth, DesiredRevision
from noria.serving.node import Node, go_on, tidy, write_desired

TOLD_WAIT_S = 10.0  # for the control plane


class ReplicaNode(Node):
    """See the module."""

    _is_told: asyncio.Event  # since it began

    async def _take(self, desired: Desired) -> None:
        await asyncio.to_thread(write_desired, self.home, desired)
        self._desired = desired
        self._is_told.set()

    async def start_with(self, revision: DesiredRevision) -> Lane:
        """The lane to its worker, once the model is loaded. Raises Unavailable with the worker's words."""
        for name in ("models", "logs"):
            (self.home / "serving" / name).mkdir(parents=True, exist_ok=True)
        await asyncio.to_thread(tidy, self.home)
        self._is_told = asyncio.Event()
        self._tasks.append(asyncio.get_running_loop().create_task(go_on(self._sync)))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._is_told.wait(), TOLD_WAIT_S)
        auth = DesiredAuth(version="", is_open=False)
        self.apply(Desired(generation=0, endpoints=[], revisions=[revision], auth=auth))
        keeper, until_s = self._keepers[revision.id], self.clock.monotonic_s() + START_TIMEOUT_S
        while not keeper.lane.is_ready:
            if keeper.has_failed or self.clock.monotonic_s() > until_s:
                raise Unavailable(
                    f"{revision.model}@{revision.model_version} cannot be loaded: {keeper.replicas(0)[0].error}"
                )
            await asyncio.sleep(WATCH_S)
        self._tasks.append(asyncio.get_running_loop().create_task(self.gateway.expire_forever()))
        return keeper.lane
