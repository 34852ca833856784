"""The default executor: steps are processes of this machine, forked from a process that has imported the user's file."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from noria.pipelines.model.values import Value
from noria.pipelines.model.work import Assignment, Held
from noria.pipelines.worker.attempt import GRACE_S, Attempt, Ending
from noria.pipelines.worker.cgroups import Groups
from noria.pipelines.worker.environments import Environments, key_of
from noria.pipelines.worker.home import Home
from noria.pipelines.worker.limits import Limits, threads
from noria.pipelines.worker.server import Broken, Server
from noria.pipelines.worker.warm import Zygote

POINTS_ELSEWHERE = frozenset(
    "MLFLOW_" + name
    for name in (
        "REGISTRY_URI", "EXPERIMENT_ID", "EXPERIMENT_NAME", "RUN_ID", "TRACKING_USERNAME", "TRACKING_PASSWORD", "TRACKING_TOKEN",
        "ACTIVE_MODEL_ID", "WORKSPACE",
    )
)  # fmt: skip
ZYGOTES_MAX = 4
ZYGOTE_IDLE_S = 600.0

WarmKey = tuple[str, str, str, str]  # code, entry, threads, environment


class Local:
    """Executor of this machine."""

    grace_s = GRACE_S
    adopts = ""  # a step's processes end with their worker

    def __init__(self, server: Server, home: Home, *, url: str, groups: Groups | None) -> None:
        self._server, self._home, self._url = server, home, url
        self._zygotes: dict[WarmKey, Zygote] = {}
        self._warming: dict[WarmKey, asyncio.Lock] = {}
        self._uploaded: set[str] = set()
        self._started: dict[str, _Started] = {}
        self._groups = groups
        self._environments = Environments(home.environments, home.client, home.blobs, server)

    async def open(self) -> None:
        """This machine is here."""

    async def start(self, attempt: Attempt) -> asyncio.Future[int]:
        given = attempt.given
        try:
            code = await self._home.code(given.code.archive_digest)
            zygote = await self._zygote(code, given, attempt.output.write)
            await self._home.inputs(given)
            attempt.folder.mkdir(parents=True)
            limits = Limits(given, attempt.folder, self._groups, attempt.end)
            try:
                job = _write_job(attempt, code, self._home.blobs, self._url, zygote.environment, limits.procs)
                exited, pid = await zygote.start(attempt.key, job, attempt.output.write_fd)
            except BaseException:
                zygote.signal(attempt.key, signal.SIGKILL)
                await limits.close()
                raise
        finally:
            attempt.output.started()
        limits.watch(pid)
        self._started[attempt.key] = _Started(zygote, limits, exited)
        return exited

    def signal(self, attempt: Attempt, number: int) -> None:
        started = self._started.get(attempt.key)
        if started:
            started.zygote.signal(attempt.key, number)

    async def ending(self, attempt: Attempt) -> Ending:
        started = self._started.pop(attempt.key)
        code = started.exited.result() if started.exited.done() else -signal.SIGKILL
        await started.limits.close()
        result = _result(attempt.folder)
        if result.value is not None and attempt.why is None:
            await self._home.outputs(result.value, attempt.folder)
        ran_out = started.limits.ran_out
        return Ending(
            exit_code=code, outputs=result.value, out_of_memory=bool(ran_out),
            error=ran_out or result.error or _death(code), memory_peak_bytes=started.limits.peak_bytes,
            environment_digest=started.zygote.environment, reads=_reads(attempt.folder),
        )  # fmt: skip

    def drop(self, tries: list[Held]) -> None:
        """Nothing of them is here."""

    async def tidy(self) -> None:
        """Let go of warm processes that nobody used for a while, and of environments when there are many."""
        now_s = asyncio.get_running_loop().time()
        for key, zygote in list(self._zygotes.items()):
            if not zygote.is_busy and now_s - zygote.used_s > ZYGOTE_IDLE_S:
                self._zygotes.pop(key).close()
        await asyncio.to_thread(self._environments.prune, {key[3] for key in self._zygotes})

    async def close(self) -> None:
        for zygote in self._zygotes.values():
            zygote.close()
        if self._groups:
            self._groups.close()

    async def _zygote(self, code: Path, given: Assignment, say: Callable[[str], None]) -> Zygote:
        """The warm process for this code; at most ZYGOTES_MAX, the one unused for longest goes."""
        limited = threads(given.cpu)
        key = (
            given.code.archive_digest,
            given.entry,
            "".join(sorted(set(limited.values()))),
            key_of(given.env) if given.env else "",
        )
        async with self._warming.setdefault(key, asyncio.Lock()):
            found = self._zygotes.get(key)
            if found and found.is_alive:
                return found
            idle = sorted((z.used_s, k) for k, z in self._zygotes.items() if not z.is_busy)
            if len(self._zygotes) >= ZYGOTES_MAX and idle:
                self._zygotes.pop(idle[0][1]).close()
            log_path = self._home.tries / f"import-{secrets.token_hex(4)}.log"
            python = str(await self._environments.python(given.env, say)) if given.env else sys.executable
            env = {**self._environment(is_own=given.env is not None), **limited}
            made = Zygote(python, code, given.entry, env, log_path)
            try:
                ready = await made.warm()
            except BaseException as error:
                made.close()
                if given.env and isinstance(error, Broken):
                    raise Broken(
                        f"{str(error).rstrip()} (in the step's environment: {', '.join(given.env.asked)})"
                    ) from error
                raise
            if made.environment not in self._uploaded:
                await self._server.put_blob(made.environment, ready["environment_body"].encode())
                self._uploaded.add(made.environment)
            self._zygotes[key] = made
            return made

    def _environment(self, *, is_own: bool) -> dict[str, str]:
        """What a step inherits: the machine's variables without the server's own settings and secrets, nor where MLflow's
        client of whoever started the server was pointing. In an environment of its own, no path of the worker's."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("NORIA_") and k not in POINTS_ELSEWHERE}
        ours = [] if is_own else [kept.get("PYTHONPATH"), _our_folder()]
        paths = [str(self._home.context), *filter(None, ours)]
        if is_own:
            for name in ("VIRTUAL_ENV", "PYTHONHOME"):
                kept.pop(name, None)
        return {
            **kept, "PYTHONPATH": os.pathsep.join(paths), "NORIA_URL": self._url, "MLFLOW_TRACKING_URI": self._url,
            "GIT_PYTHON_REFRESH": "quiet", "PYTHONUNBUFFERED": "1",
        }  # fmt: skip


class _Started:
    """A try whose process runs."""

    def __init__(self, zygote: Zygote, limits: Limits, exited: asyncio.Future[int]) -> None:
        self.zygote, self.limits, self.exited = zygote, limits, exited


class _Result(msgspec.Struct, kw_only=True):
    """What a step's process wrote; see noria/client/values.py."""

    ok: bool
    value: Value | None = None
    error: str = ""


def _write_job(attempt: Attempt, code: Path, blobs: Path, url: str, environment: str, procs: str) -> Path:
    given, folder = attempt.given, attempt.folder
    for entry in code.iterdir():  # captured files can be opened by their relative names; new ones stay in this try
        (folder / entry.name).symlink_to(entry)
    scratch = folder / ".tmp"
    scratch.mkdir()
    info = given.code
    env = {
        **given.secrets, "NORIA_SECRETS": " ".join(sorted(given.secrets)),
        "NORIA_URL": url, "NORIA_TOKEN": given.token, "MLFLOW_TRACKING_URI": url,
        "MLFLOW_TRACKING_TOKEN": given.token, "NORIA_PIPELINE": given.pipeline, "NORIA_PIPELINE_RUN": given.run_id,
        "NORIA_STEP": given.step, "NORIA_STEP_RUN": given.step_run_id, "NORIA_ATTEMPT": str(given.attempt),
        "NORIA_STEP_DIR": str(folder), "NORIA_READS": " ".join(given.reads),
        "NORIA_SOURCE_DIGEST": info.archive_digest, "NORIA_SOURCE_COMMIT": info.commit,
        "NORIA_SOURCE_BRANCH": info.branch, "NORIA_SOURCE_DIRTY": str(info.is_dirty).lower() if info.commit else "",
        "NORIA_SOURCE_DIFF_DIGEST": info.diff_digest, "NORIA_ENVIRONMENT_DIGEST": environment,
        "NORIA_ARGV": json.dumps(["noria", "pipeline", given.pipeline, given.step]),
        "TMPDIR": str(scratch), **threads(given.cpu),
        **({"CUDA_VISIBLE_DEVICES": ",".join(attempt.gpus)} if attempt.gpus else {}),
    }  # fmt: skip
    path = folder / "job.json"
    job = {
        "function": given.function, "inputs": given.inputs, "env": env, "folder": str(folder), "blobs": str(blobs),
        "procs": procs,
    }  # fmt: skip
    path.touch(mode=0o600)
    path.write_bytes(msgspec.json.encode(job))
    return path


def _result(folder: Path) -> _Result:
    try:
        return msgspec.json.decode((folder / "result.json").read_bytes(), type=_Result)
    except FileNotFoundError:
        return _Result(ok=False)


def _reads(folder: Path) -> list[str]:
    with contextlib.suppress(FileNotFoundError):
        return sorted(set((folder / "reads.txt").read_text().split()))
    return []


def _death(code: int | None) -> str:
    if code is None or code >= 0:
        return f"The step's process ended with code {code} before it returned."
    name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
    hint = " It may have run out of memory." if code == -signal.SIGKILL else ""
    return f"The step's process was killed by {name}.{hint}"


def _our_folder() -> str:
    return str(Path(__file__).parents[3])
