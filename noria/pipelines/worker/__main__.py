"""`python -m noria.pipelines.worker`: one worker, until SIGTERM or SIGINT.

Reads NORIA_URL, NORIA_INTERNAL_TOKEN or NORIA_TOKEN, NORIA_HOME and NORIA_WORKERS.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import sys
from pathlib import Path

import psutil
from blake3 import blake3

from noria.client.gpus import visible
from noria.kernel.errors import NoriaError
from noria.logs import set_up_logging
from noria.pipelines.model.queues import DEFAULT_QUEUE
from noria.pipelines.worker.executors import LOCAL, Setup, make
from noria.pipelines.worker.home import Home
from noria.pipelines.worker.loop import Offer, Worker
from noria.pipelines.worker.server import Server

PR_SET_PDEATHSIG, PR_SET_DUMPABLE = 1, 4


async def work(
    url: str, token: str, folder: Path, name: str, offer: Offer, *, executor: str, has_groups: bool, has_parent: bool
) -> None:  # fmt: skip
    """One worker, until SIGTERM or SIGINT."""
    server = Server(url, token)
    home = Home(folder, server)
    home.prepare()
    try:
        setup = Setup(server=server, home=home, url=url, settings=os.environ, has_groups=has_groups)
        where = make(executor, setup)
        await where.open()
    except NoriaError as error:
        await server.close()
        raise SystemExit(f"{error.message} {error.hint}".strip()) from error
    worker = Worker(server, home, where, url=url, name=name, offer=offer, has_parent=has_parent)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, worker.stop)
    try:
        await worker.run()
    except NoriaError as error:
        raise SystemExit(f"{error.message} {error.hint}".strip()) from error
    finally:
        await server.close()


def main() -> None:
    environ = os.environ
    parser = argparse.ArgumentParser(description="Run pipeline steps for a Noria server.")
    parser.add_argument("--url", default=environ.get("NORIA_URL", "http://127.0.0.1:5000"))
    parser.add_argument("--home", default=environ.get("NORIA_HOME", "./noria-home"))
    parser.add_argument("--slots", type=int, default=int(environ.get("NORIA_WORKERS") or 2), help="Steps at once.")
    parser.add_argument("--cpus", type=float, default=cpus(), help="Processors that steps with cpu= may use together.")
    parser.add_argument(
        "--gpus", type=int, default=None, help="GPUs that steps with gpu= may use. Default: those that it sees."
    )
    parser.add_argument("--name", default="", help="A worker of the same name takes over at once what this one held.")
    parser.add_argument(
        "--no-cgroups", action="store_true", help="Watch the memory of steps instead of using control groups."
    )
    parser.add_argument("--queue", action="append", default=[], help="Whose steps it takes; several times for several.")
    parser.add_argument(
        "--executor", default=LOCAL, help="Where steps run: local, ray, kubernetes, slurm, or an installed one."
    )
    parser.add_argument("--agent", action="store_true", help="Go on without the process that started it.")
    options = parser.parse_args()
    token = environ.get("NORIA_INTERNAL_TOKEN") or environ.get("NORIA_TOKEN") or ""
    set_up_logging("worker", environ.get("NORIA_LOG_LEVEL") or "info")
    _guard(has_parent=not options.agent)
    where = "" if options.executor == LOCAL else f":{options.executor}"
    name = options.name or f"{socket.gethostname()}:{Path(options.home).resolve()}{where}"
    home = Path(options.home).resolve() / "worker" / blake3(name.encode()).hexdigest()[:12]
    is_local = options.executor == LOCAL
    offer = Offer(  # what a cluster has room for is the cluster's to decide
        slots=max(1, options.slots),
        cpus=options.cpus if is_local else 0.0,
        gpus=gpus_of(options.gpus) if is_local else [],
        memory_bytes=psutil.virtual_memory().total if is_local else 0,
        queues=list(dict.fromkeys(options.queue)) or [DEFAULT_QUEUE if is_local else options.executor],
    )
    asyncio.run(
        work(
            options.url,
            token,
            home,
            name.replace("\x00", ""),
            offer,
            executor=options.executor,
            has_groups=not options.no_cgroups,
            has_parent=not options.agent,
        )
    )


def cpus() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform.startswith("linux") else os.cpu_count() or 1


def gpus_of(count: int | None) -> list[str]:
    """The GPUs to give out: the first `count` of those that this process may use, or all. More than it sees are numbered on."""
    seen = visible()
    if count is None:
        return seen
    return [*seen, *(str(i) for i in range(len(seen), count))][:count]


def _guard(*, has_parent: bool) -> None:
    """On Linux: end with the parent, if there is one, and keep other processes of this user from reading our token."""
    if not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None, use_errno=True)
        if has_parent:
            libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
        libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


if __name__ == "__main__":
    main()
