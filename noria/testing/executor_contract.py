"""What every executor must do. Subclass it, give `played`, and run it with pytest:

    @pytest.fixture(scope="module")
    def played(tmp_path_factory):
        with play("mine", tmp_path_factory.mktemp("mine"), settings={"NORIA_MINE_ADDRESS": "…"}) as played:
            yield played

    class TestMine(ExecutorContract):
        pass

`play` starts a server and agents with the executor, all real processes, and plays runs through them. Steps reach the test over
HTTP at 127.0.0.1, so jobs have to run on this machine, or see its loopback. The name is that of an entry point of the group
`noria.executors`, or of one of Noria's own.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

from noria.client.api import Api, connect

PATIENCE_S = 120.0
LEASE_S = 3.0
GPU_STEPS = 5
QUIET_S = 2.0  # a step that gives no sign for this long is gone; each gives five a second
TOKEN = "internal-token-of-the-contract"  # noqa: S105  # of a server that lives for a minute, on loopback

STEPS = """
import os
import pathlib
import signal
import sys
import time
import urllib.request

import noria


class Thing:
    def __init__(self, size):
        self.body = b"x" * size


def sign(at, name):
    return urllib.request.urlopen(f"{at}/{name}", timeout=60).read().decode()


@noria.step
def make(size: int) -> tuple[dict, Thing]:
    return {"size": size}, Thing(size)


@noria.step
def use(told: dict, thing: Thing) -> dict:
    api = noria.connect()
    threads = os.environ.get("OMP_NUM_THREADS", "")
    settings = sorted(k for k in os.environ if k.startswith("NORIA_") and k.split("_")[1] in ("TICKET", "INTERNAL", "RAY", "SLURM"))
    note = pathlib.Path("note.txt").read_text()
    return {"same": told["size"] == len(thing.body), "me": api.get("/me")["name"], "settings": settings, "note": note}


@noria.step(cpu=1)
def speak(at: str) -> str:
    print("the first line: \\u00e9\\u2603", flush=True)
    sign(at, "wait/speak")  # answered once the line was seen
    print("the last line", file=sys.stderr)
    return os.environ.get("OMP_NUM_THREADS", "")


@noria.step(retries=1, retry_delay=0)
def fail() -> None:
    raise ValueError("on purpose")


@noria.step(timeout=6)
def overstay(at: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        sign(at, "overstay")
        time.sleep(0.2)


@noria.step(memory="200MB")
def devour() -> int:
    kept = []
    for _ in range(200):
        kept.append(bytearray(os.urandom(1 << 16) * 160))
        time.sleep(0.01)
    return len(kept)


@noria.step
def stay(at: str) -> None:
    while True:
        sign(at, "stay")
        time.sleep(0.2)


@noria.step
def again(at: str) -> int:
    attempt = int(os.environ["NORIA_ATTEMPT"])
    while attempt == 1:
        sign(at, "again")
        time.sleep(0.2)
    return attempt


@noria.step
def endure(at: str) -> int:
    attempt = int(os.environ["NORIA_ATTEMPT"])
    print(f"begun in try {attempt}", flush=True)
    sign(at, f"endure-{attempt}")
    sign(at, "wait/endure")
    print("gone on")
    return attempt


@noria.pipeline(name="contract")
def contract(at: str, size: int = 100_000):
    told, thing = make(size)
    fail(), overstay(at), devour(), stay(at)
    return {"used": use(told, thing), "spoke": speak(at)}


@noria.step(gpu=1)
def compute(item: int) -> dict:
    began = time.time()
    time.sleep(0.7)
    # What CUDA goes by; in a container the device plugin of Kubernetes says it under the other name.
    seen = os.environ.get("CUDA_VISIBLE_DEVICES", os.environ.get("NVIDIA_VISIBLE_DEVICES", "every one"))
    return {"seen": seen, "began": began, "ended": time.time()}


@noria.pipeline(name="contract-gpus")
def contract_gpus(items: list):
    return compute.map(items)


@noria.pipeline(name="contract-again")
def contract_again(at: str):
    return {"attempt": again(at)}


@noria.pipeline(name="contract-endure")
def contract_endure(at: str):
    return {"attempt": endure(at)}
"""


class Played:
    """What happened: the steps by name, as the server shows them, and what they printed."""

    def __init__(self, executor: str, view: dict[str, Any], logs: dict[str, str], signs: Signs) -> None:
        self.executor, self.run, self.logs, self.signs = executor, view["run"], logs, signs
        self.steps: dict[str, dict[str, Any]] = {step["step"]["name"]: step for step in view["steps"]}
        self.heard_early = False  # a step's line was there while the step went on
        self.cancelled_silent_s = 0.0
        self.lost: dict[str, Any] = {}  # the step whose agent was killed
        self.adopted: dict[str, Any] = {}  # the step whose agent was killed and came back, of an executor that can do that
        self.adopted_log = ""
        self.adopted_by = ("", "")  # the agent's ids: before, and once it was back
        self.gpus: set[str] = set()  # what `play` was told
        self.computed: dict[str, Any] = {}  # the run whose steps took one each

    def attempts(self, step: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.steps[step]["attempts"]
        return found

    def state(self, step: str) -> str:
        return str(self.steps[step]["step"]["state"])


class ExecutorContract:
    """The contract; `played` is a fixture that gives what `play` gives."""

    def test_values_go_in_and_come_out(self, played: Played) -> None:
        used = played.run["outputs"].get("used") or played.steps["use"]["step"]["outputs"]
        assert played.state("use") == "succeeded", played.logs["use"]
        assert used["value"]["same"] is True

    def test_the_step_has_its_files_and_its_token_and_no_other_secret(self, played: Played) -> None:
        found = played.steps["use"]["step"]["outputs"]["value"]
        assert found["note"] == "a file beside the pipeline" and found["settings"] == []
        assert found["me"] == "contract/use"

    def test_output_is_there_while_the_step_goes_on(self, played: Played) -> None:
        assert played.heard_early
        assert "the first line: é☃\n" in played.logs["speak"] and played.logs["speak"].endswith("the last line\n")

    def test_processors_that_were_asked_for_reach_the_libraries(self, played: Played) -> None:
        assert played.steps["speak"]["step"]["outputs"]["value"] == "1"

    def test_a_gpu_belongs_to_one_step_at_a_time(self, played: Played) -> None:
        if not played.gpus:
            return  # `play` was not told of any
        assert played.computed["run"]["state"] == "succeeded", played.computed
        found = [s["step"]["outputs"]["value"] for s in played.computed["steps"] if s["step"]["parent_id"]]
        assert len(found) == GPU_STEPS and {each["seen"] for each in found} <= played.gpus, found
        found.sort(key=lambda each: each["began"])
        for gpu in played.gpus:
            here = [each for each in found if each["seen"] == gpu]
            assert all(one["ended"] <= other["began"] for one, other in pairwise(here)), found

    def test_a_step_that_raises_is_tried_again_and_says_why(self, played: Played) -> None:
        assert [a["state"] for a in played.attempts("fail")] == ["failed", "failed"]
        assert played.state("fail") == "failed" and "ValueError: on purpose" in played.steps["fail"]["step"]["error"]
        assert played.logs["fail"].count('raise ValueError("on purpose")') == 2

    def test_a_step_that_ignores_signals_is_ended_at_its_timeout(self, played: Played) -> None:
        (only,) = played.attempts("overstay")
        assert only["state"] == "timed_out" and "timeout of 6 s" in only["error"]
        assert played.signs.silent_s("overstay") > QUIET_S

    def test_a_step_that_takes_too_much_memory_is_ended_alone(self, played: Played) -> None:
        (only,) = played.attempts("devour")
        assert only["state"] == "out_of_memory", only["error"]

    def test_a_step_that_is_cancelled_is_gone(self, played: Played) -> None:
        tries = played.attempts("stay")
        assert tries[-1]["state"] == "cancelled", tries  # on a busy machine a try before it may have been lost
        assert played.cancelled_silent_s > QUIET_S

    def test_a_try_whose_agent_was_killed_ends_and_is_made_again(self, played: Played) -> None:
        assert [a["state"] for a in played.lost["attempts"]] == ["lost", "succeeded"], played.lost
        assert played.lost["step"]["outputs"]["value"] == 2
        assert played.signs.silent_s("again") > QUIET_S

    def test_a_try_whose_agent_comes_back_goes_on(self, played: Played) -> None:
        if not played.adopted:
            return  # `play` was told that it ends with its agent
        (only,) = played.adopted["attempts"]
        assert only["state"] == "succeeded" and played.adopted["step"]["outputs"]["value"] == 1, played.adopted
        assert played.adopted["step"]["losses"] == 0
        assert played.signs.count("endure-1") == 1
        before, after = played.adopted_by
        assert before != after == only["worker"], only
        assert played.adopted_log.count("begun in try 1\n") == 1 and played.adopted_log.endswith("gone on\n")

    def test_each_try_says_where_it_ran(self, played: Played) -> None:
        if played.executor == "local":
            return  # a worker's name says it
        for step in ("use", "speak", "fail", "overstay", "stay"):
            for attempt in played.attempts(step):
                place = attempt["place"]
                assert place["executor"] == played.executor and place["job"] and place["node"] and place["python"], place
        jobs = [attempt["place"]["job"] for attempt in played.attempts("fail")]
        assert len(set(jobs)) == 2


class Signs:
    """An HTTP server of the test, to which steps say that they live; /wait/NAME is answered once `let` was called."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}
        self._counts: Counter[str] = Counter()
        self._may: dict[str, threading.Event] = {}
        signs = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.strip("/")
                signs._last[name] = time.monotonic()
                signs._counts[name] += 1
                if name.startswith("wait/"):
                    signs._gate(name.removeprefix("wait/")).wait(60)
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """A test prints nothing of it."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def _gate(self, name: str) -> threading.Event:
        return self._may.setdefault(name, threading.Event())

    def let(self, name: str) -> None:
        self._gate(name).set()

    def came(self, name: str) -> bool:
        return name in self._last

    def count(self, name: str) -> int:
        return self._counts[name]

    def silent_s(self, name: str) -> float:
        """Since when there was no sign of a step; 0 for one that has not given any yet."""
        return time.monotonic() - self._last.get(name, time.monotonic())

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@contextmanager
def play(
    executor: str, folder: Path, *, settings: Mapping[str, str] | None = None, options: tuple[str, ...] = (),
    gpus: Collection[str] = (), adopts: bool = True,
) -> Iterator[Played]:  # fmt: skip
    """Play the contract's runs with an executor; `settings` are variables of its agent. What was started is stopped.

    `gpus`: what CUDA calls the GPUs that the executor gives out, of which no step uses any; without, that part is not played.
    `adopts`: what it started goes on without its agent, which finds it again. Without, what is lost with an agent is played alone.
    """
    signs = Signs()
    code = folder / "code"
    code.mkdir(parents=True)
    (code / "contract_steps.py").write_text(STEPS)
    (code / "note.txt").write_text("a file beside the pipeline")
    steps = _imported(code / "contract_steps.py")
    told = dict(settings or {})
    try:
        with _server(folder / "home") as url, connect(url) as api, ThreadPoolExecutor(1) as beside:
            lasting = beside.submit(_come_back, executor, folder, steps, signs, told, options) if adopts else None
            played = _play(executor, folder, steps, url, api, signs, told, options, set(gpus))
            if lasting:
                played.adopted, played.adopted_log, played.adopted_by = lasting.result()
            yield played
    finally:
        signs.close()


def _play(
    executor: str, folder: Path, steps: Any, url: str, api: Api, signs: Signs, settings: dict[str, str], options: tuple[str, ...],
    gpus: set[str],
) -> Played:  # fmt: skip

    def agent(queue: str) -> Any:
        return _agent(executor, folder / "agent", url, queue, settings, options)

    def view(of: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = api.get(f"/pipeline-runs/{of['id']}")
        return found

    def step(name: str) -> dict[str, Any]:
        found: dict[str, Any] = next(each["step"] for each in view(run)["steps"] if each["step"]["name"] == name)
        return found

    def heard() -> bool:
        text = str(api.get(f"/step-runs/{step('speak')['id']}/logs")["text"])
        return "the first line" in text and step("speak")["state"] == "running"

    def is_over(of: dict[str, Any]) -> bool:
        return view(of)["run"]["state"] in ("succeeded", "failed", "cancelled")

    with agent("contract"), agent("again") as doomed:
        lossy = steps.contract_again.submit(at=signs.url, api=api, queues={"*": "again"})
        run = steps.contract.submit(at=signs.url, api=api, queues={"*": "contract"})
        items = list(range(GPU_STEPS))
        computed = steps.contract_gpus.submit(items=items, api=api, queues={"*": "contract"}) if gpus else None
        _until(lambda: signs.came("again"))
        doomed.kill()
        doomed.wait()
        _until(lambda: signs.came("wait/speak"))
        early = _until(heard)
        signs.let("speak")
        _until(lambda: signs.came("stay"))
        api.post(f"/step-runs/{step('stay')['id']}/cancel")
        # Nobody serves the other queue: what its agent had started ends by itself.
        _until(lambda: signs.silent_s("again") > QUIET_S and is_over(run))
        with agent("again"):
            _until(lambda: min(signs.silent_s("stay"), signs.silent_s("overstay")) > QUIET_S and is_over(lossy))
        found = view(run)
        logs = {
            each["step"]["name"]: str(api.get(f"/step-runs/{each['step']['id']}/logs")["text"]) for each in found["steps"]
        }
        played = Played(executor, found, logs, signs)
        played.heard_early, played.cancelled_silent_s = early, signs.silent_s("stay")
        played.lost, played.gpus = view(lossy)["steps"][0], gpus
        if computed:
            _until(lambda: is_over(computed))
            played.computed = view(computed)
    return played


def _come_back(
    executor: str, folder: Path, steps: Any, signs: Signs, settings: dict[str, str], options: tuple[str, ...]
) -> tuple[dict[str, Any], str, tuple[str, str]]:
    """An agent is killed while its step goes on, and started again under its name: the step, its log, the agent's two ids."""

    def agent() -> Any:
        return _agent(executor, folder / "enduring-agent", url, "endure", settings, options, name="contract-endures")

    def step() -> dict[str, Any]:
        (found,) = api.get(f"/pipeline-runs/{run['id']}")["steps"]
        return dict(found)

    with _server(folder / "enduring-home", lease_s=60.0) as url, connect(url) as api:
        run = steps.contract_endure.submit(at=signs.url, api=api, queues={"*": "endure"})
        with agent() as killed:
            _until(lambda: signs.came("wait/endure"))
            killed.kill()
            killed.wait()
        before = str(step()["step"]["worker"])
        with agent():
            _until(lambda: step()["step"]["worker"] != before)
            after = str(step()["step"]["worker"])
            signs.let("endure")
            _until(lambda: step()["step"]["state"] in ("succeeded", "failed"))
        text = str(api.get(f"/step-runs/{step()['step']['id']}/logs")["text"])
        return step(), text, (before, after)


@contextmanager
def _server(home: Path, lease_s: float = LEASE_S) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    env = {
        **_plain(), "NORIA_HOME": str(home), "NORIA_PORT": str(port), "NORIA_INTERNAL_TOKEN": TOKEN, "NORIA_LEASE_S": str(lease_s),
        "NORIA_LOG_LEVEL": "warning",
    }  # fmt: skip
    process = subprocess.Popen([sys.executable, "-m", "noria.control"], env=env, stdin=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        _until(lambda: _answers(f"{url}/health"))
        yield url
    finally:
        _stop(process)


@contextmanager
def _agent(
    executor: str, home: Path, url: str, queue: str, settings: dict[str, str], options: tuple[str, ...], *, name: str = ""
) -> Iterator[subprocess.Popen[bytes]]:
    env = {**_plain(), "NORIA_INTERNAL_TOKEN": TOKEN, "NORIA_TOKEN": TOKEN, "NORIA_LOG_LEVEL": "warning", **settings}
    args = [sys.executable, "-m", "noria.cli.main", "agent", "--executor", executor, "--queue", queue, "--slots", "12"]
    args += ["--home", str(home), "--name", name or f"contract-{time.monotonic_ns()}", "--url", url, *options]
    process = subprocess.Popen(args, env=env, stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _plain() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("NORIA_", "MLFLOW_"))}


def _answers(url: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310
        return bool(answer.status == 200)
    return False


def _imported(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def _until(done: Callable[[], Any]) -> bool:
    """Wait for `done()` to be true. Raises AssertionError when it never is."""
    until_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < until_s:
        if done():
            return True
        time.sleep(0.1)
    raise AssertionError(f"not within {PATIENCE_S:.0f} s")
