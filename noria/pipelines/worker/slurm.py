"""Slurm: each try is a batch job, through `sbatch`, `squeue` and `scancel` on the machine of the worker. No accounting is needed."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import shlex
import shutil
import sys
from pathlib import Path

from noria.kernel.errors import Unavailable
from noria.pipelines.model.places import Place
from noria.pipelines.worker.attempt import Executor
from noria.pipelines.worker.executors import Setup
from noria.pipelines.worker.remote import Away, Job, Remote, State, broken
from noria.pipelines.worker.server import Broken

TIMEOUT_S = 30.0
LOOK_S = 1.0  # one squeue for all jobs, at most this often
OUTPUT_BYTES_MAX = 8000
JOB_BYTES = 512 << 20  # beside the step's own memory: the job that minds it, and what it has imported
# What squeue may say of a controller that is busy or restarting; anything else is an answer.
AWAY = (
    "Unable to contact",
    "Socket timed out",
    "Connection refused",
    "temporarily",
    "Zero Bytes",
    "Communication connection",
)
UNKNOWN = "Invalid job id"
WAITING = frozenset({"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"})
RUNNING = frozenset({"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "RESIZING", "SIGNALING", "STAGE_OUT"})
ENDED = {
    "COMPLETED": "it came to its end", "FAILED": "it failed", "CANCELLED": "it was cancelled in Slurm",
    "TIMEOUT": "Slurm's time limit for it was reached", "OUT_OF_MEMORY": "it used more memory than it asked Slurm for",
    "NODE_FAIL": "its node failed", "PREEMPTED": "it was preempted", "BOOT_FAIL": "its node did not boot",
    "DEADLINE": "Slurm's deadline for it was reached",
}  # fmt: skip


def _only_unknown(refused: Broken) -> None:
    """Slurm forgets jobs that ended. Anything else that it refuses says nothing about a job: raises Away."""
    if UNKNOWN not in str(refused):
        raise Away(str(refused)) from refused


class Slurm:
    """The cluster that this machine's commands speak to."""

    name = "slurm"

    def __init__(self, folder: Path, options: list[str]) -> None:
        self._folder, self._options = folder, options
        self._known: dict[str, State] = {}
        self._names: dict[str, str] = {}  # of the jobs that were submitted, by their numbers
        self._tried: set[str] = set()  # names whose submission got no answer
        self._looked_s = -math.inf
        self._turn = asyncio.Lock()

    async def open(self) -> None:
        for command in ("sbatch", "squeue", "scancel"):
            if shutil.which(command) is None:
                raise Unavailable(
                    f"There is no {command} on this machine.",
                    hint="Run the agent on a login node, or wherever Slurm's commands are installed and configured.",
                )
        try:
            await self._run("squeue", "--noheader", "--me")
        except (Away, Broken) as error:
            raise Unavailable(f"Slurm does not answer: {error}", hint="Try `squeue` by hand on this machine.") from error
        self._folder.mkdir(parents=True, exist_ok=True)

    def place(self, job: Job) -> Place:
        return Place(
            executor=self.name, job=job.name, details={"options": shlex.join(self._options)} if self._options else {}
        )

    async def submit(self, job: Job) -> str:
        args = [
            "--parsable", f"--job-name={job.name}", "--no-requeue", f"--output={self._folder}/%x.log", "--open-mode=append",
            f"--cpus-per-task={max(1, math.ceil(job.cpu))}", "--ntasks=1", f"--chdir={self._folder}",
            f"--comment={job.labels['pipeline']}/{job.labels['step']}",
        ]  # fmt: skip
        if job.memory_bytes:
            args.append(f"--mem={math.ceil((job.memory_bytes + JOB_BYTES) / (1 << 20))}M")
        if job.gpu:
            args.append(f"--gres=gpu:{job.gpu}")  # on one node; unlike --gpus, every way of selecting nodes knows it
        if job.time_limit_s is not None:
            args.append(f"--time={max(1, math.ceil(job.time_limit_s / 60))}")
        found = ""
        if job.name in self._tried:  # the answer to an earlier try was lost
            found = (await self._run("squeue", "--noheader", "--me", f"--name={job.name}", "--format=%i")).strip()
        self._tried.add(job.name)
        said = found.split()[0] if found else await self._run("sbatch", *args, *self._options, text=script(job))
        id = said.strip().split(";")[0]
        if not id.isdigit():
            raise broken("Slurm", said)
        self._tried.discard(job.name)
        self._names[id] = job.name
        return id

    async def find(self, name: str) -> str:
        try:
            said = await self._run("squeue", "--noheader", "--me", "--states=all", f"--name={name}", "--format=%i")
        except Broken as refused:  # says nothing about the job
            raise Away(str(refused)) from refused
        id = next(iter(said.split()), "")
        if id:
            self._names[id] = name
        return id

    async def look(self, id: str) -> State:
        async with self._turn:
            loop = asyncio.get_running_loop()
            if loop.time() - self._looked_s > LOOK_S or id not in self._known:
                await self._look_at_all()
                self._looked_s = loop.time()
        return self._known.get(id, State(phase="gone", why="Slurm does not know it any more"))

    async def _look_at_all(self) -> None:
        """One question for all; when one of them is forgotten, one for each."""
        self._known = {}
        if not self._names:
            return
        try:
            said = await self._squeue(",".join(sorted(self._names)))
        except Broken as refused:
            _only_unknown(refused)
            said = ""
            for id in sorted(self._names):
                try:
                    said += await self._squeue(id)
                except Broken as one:
                    _only_unknown(one)
        for line in said.splitlines():
            id, state, reason = [*line.split("|"), "", ""][:3]
            self._known[id] = state_of(state.strip(), reason.strip())

    async def _squeue(self, ids: str) -> str:
        return await self._run("squeue", "--noheader", "--states=all", f"--jobs={ids}", "--format=%i|%T|%r")

    async def stop(self, id: str, *, at_once: bool) -> None:
        which = id if id.isdigit() else f"--name={id}"
        with contextlib.suppress(Broken):  # one that ended meanwhile
            if at_once:
                await self._run("scancel", "--signal=KILL", "--full", which)
            await self._run("scancel", which)

    async def output(self, id: str) -> str:
        with contextlib.suppress(OSError):
            return self._log(id).read_bytes()[-OUTPUT_BYTES_MAX:].decode("utf-8", "replace")
        return ""

    async def remove(self, id: str) -> None:
        """Slurm forgets its jobs by itself; what this one printed is removed."""
        self._log(id).unlink(missing_ok=True)
        self._names.pop(id, None)

    def _log(self, id: str) -> Path:
        return self._folder / f"{self._names.get(id, id)}.log"

    async def close(self) -> None:
        """Nothing is open."""

    async def _run(self, *command: str, text: str = "") -> str:
        """What a command prints. Raises Away when Slurm does not answer, Broken when it refuses."""
        # Nothing of the worker's own settings, least of all its token, goes along into the job.
        env = {name: value for name, value in os.environ.items() if not name.startswith("NORIA_")}
        process = await asyncio.create_subprocess_exec(
            *command, env=env, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        try:
            async with asyncio.timeout(TIMEOUT_S):
                printed, errors = await process.communicate(text.encode())
        except TimeoutError as cause:
            raise Away(f"{command[0]} did not answer within {TIMEOUT_S:.0f} s.") from cause
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            said = " ".join(errors.decode("utf-8", "replace").split())[:1000]
            if any(sign in said for sign in AWAY):
                raise Away(f"{command[0]}: {said}")
            raise broken("Slurm", said or f"{command[0]} ended with code {process.returncode}")
        return printed.decode("utf-8", "replace")


def state_of(word: str, reason: str) -> State:
    """What a state of Slurm means."""
    if word in WAITING:
        return State(phase="waiting", why=f"Slurm has not started it yet ({reason})." if reason not in ("", "None") else "")
    if word in RUNNING:
        return State(phase="running")
    why = ENDED.get(word, f"Slurm says {word}")
    return State(phase="ended", why=why, out_of_memory=word == "OUT_OF_MEMORY")


def script(job: Job) -> str:
    """The batch script: variables, then the job in the place of the shell, so that Slurm's signals reach it."""
    lines = [f"export {name}={shlex.quote(value)}" for name, value in job.env.items()]
    return "\n".join(["#!/bin/sh", *lines, f"exec {shlex.join(job.command)}", ""])


def make(setup: Setup) -> Executor:
    """The cluster of this machine. Raises Invalid."""
    settings = setup.settings
    folder = Path(settings.get("NORIA_SLURM_FOLDER") or Path.home() / ".noria" / "slurm").absolute()
    cluster = Slurm(folder, shlex.split(settings.get("NORIA_SLURM_OPTIONS") or ""))
    return Remote(
        setup.server, cluster, job_url=setup.job_url, python=settings.get("NORIA_SLURM_PYTHON") or sys.executable
    )  # fmt: skip
