"""`python -m noria.pipelines.worker.job`: one try of a step, elsewhere than on its worker's machine. Started by executors.

It begins with the ticket in NORIA_TICKET, for the try NORIA_ATTEMPT_OF (step run and number) of the server at NORIA_URL, and then
does what a worker does with a try of its own: the environment, the process, limits, output, result. It never renews the lease; it
asks whether the try is still its own, and ends with everything that it started when it is not.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import platform
import secrets
import shutil
import signal
import socket
import sys
import tempfile
from pathlib import Path

import httpx
import msgspec

from noria.logs import set_up_logging
from noria.pipelines.model.elsewhere import Begin, Begun
from noria.pipelines.model.work import Claim, Orders
from noria.pipelines.worker import cgroups
from noria.pipelines.worker.attempt import Attempt, Attempts
from noria.pipelines.worker.home import Home
from noria.pipelines.worker.local import Local
from noria.pipelines.worker.output import Output
from noria.pipelines.worker.server import Lost, Server

log = logging.getLogger("noria.job")

BEGIN_PATIENCE_S = 120.0
BEAT_S_MAX = 5.0
NAMES_OF_JOBS = ("RAY_JOB_SUBMISSION_ID", "SLURM_JOB_ID")  # what an executor calls the job, where only the job knows


class AttemptServer(Server):
    """The server, as a job speaks to it: about its own try and nothing else."""

    def __init__(self, url: str, token: str, of: str) -> None:
        super().__init__(url, token)
        self.work, self.blobs = f"/api/v1/attempts/{of}", f"/api/v1/attempts/blobs/{of}"


async def do(url: str, ticket: str, of: str, executor: str) -> int:
    """Begin, do, tell. 0 when the server knows how it ended."""
    begun = await _begin(url, ticket, of)
    given = begun.assignment
    server = AttemptServer(url, given.token, of)
    folder = Path(tempfile.mkdtemp(prefix="noria-job-"))
    home = Home(folder, server)
    home.prepare()
    local = Local(server, home, url=url, groups=cgroups.find())
    output = Output(server, given, begun.worker, offset=begun.log_bytes)
    attempt = Attempt(given, home.tries / "try", output, worker=begun.worker)
    attempts = Attempts(server, local, worker=begun.worker)
    beating = asyncio.create_task(_beat(server, attempt, given.lease_s))

    def stop() -> None:
        """Because the server wants it, or because the cluster does, which is no fault of the step: then it runs again. At once: the
        cluster signals the step's processes too, and a step that they end by themselves would have failed."""
        attempt.end("cancelled", f"Its job was told to stop by {executor}, before the step ended.")

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    try:
        await attempts.do(attempt, Claim(worker=begun.worker))
    finally:
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)
        await local.close()
        await server.close()
        await asyncio.to_thread(shutil.rmtree, folder, True)
    return 0


async def _begin(url: str, ticket: str, of: str) -> Begun:
    asked = Begin(
        key=secrets.token_hex(8), node=socket.gethostname(), python=platform.python_version(),
        job=next((os.environ[name] for name in NAMES_OF_JOBS if os.environ.get(name)), ""),
    )  # fmt: skip
    server = AttemptServer(url, ticket, of)
    try:
        return msgspec.json.decode(await server.post("begin", asked, retry_s=BEGIN_PATIENCE_S), type=Begun)
    finally:
        await server.close()


async def _beat(server: Server, attempt: Attempt, lease_s: float) -> None:
    while True:
        await asyncio.sleep(min(BEAT_S_MAX, lease_s / 3))
        await _obey(server, attempt)


async def _obey(server: Server, attempt: Attempt) -> None:
    """Ask whether to go on. A server that is away is no reason to stop: the result is kept for it."""
    try:
        orders = msgspec.json.decode(await server.post("beat", {}, retry_s=0.0), type=Orders)
    except Lost:
        attempt.end("lost")
    except httpx.HTTPStatusError as error:
        if error.response.status_code in (401, 403, 404):  # the token ended, or the run is gone
            attempt.end("lost")
    except httpx.HTTPError as error:
        log.debug("no beat: %s", error)
    else:
        if orders.lost:
            attempt.end("lost")
        elif orders.cancel:
            attempt.end("cancelled")


def main() -> int:
    set_up_logging("job", os.environ.get("NORIA_LOG_LEVEL") or "warning")
    wanted = {name: os.environ.pop(name, "") for name in ("NORIA_URL", "NORIA_TICKET", "NORIA_ATTEMPT_OF")}
    if not all(wanted.values()):
        missing = ", ".join(name for name, value in wanted.items() if not value)
        sys.stderr.write(f"A job of Noria is started by an executor; {missing} is not set.\n")
        return 2
    try:
        return asyncio.run(
            do(
                wanted["NORIA_URL"],
                wanted["NORIA_TICKET"],
                wanted["NORIA_ATTEMPT_OF"],
                os.environ.get("NORIA_EXECUTOR", "its executor"),
            )
        )
    except Lost as error:
        sys.stderr.write(f"This job is not wanted (any more): {error}\n")
    except httpx.HTTPStatusError as error:
        sys.stderr.write(
            f"{wanted['NORIA_URL']} refused this job: {error.response.status_code} {error.response.text[:300]}\n"
        )
    except httpx.HTTPError as error:
        hint = "Jobs have to reach the server: NORIA_EXECUTOR_URL is its address as they see it."
        sys.stderr.write(f"{wanted['NORIA_URL']} cannot be reached from here ({type(error).__name__}). {hint}\n")
    return 1


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
