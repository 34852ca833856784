"""`noria.init()`, `noria run -- CMD` and `noria run sync` as a user has them: real processes, a real server, kill -9."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from noria.client.sender import describe
from tests.protocol.test_mlflow_tracking import Server

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.protocol]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("home"))
    yield made
    made.stop()


class Shell:
    """A user's shell in a folder of its own."""

    def __init__(self, folder: Path, server: Server) -> None:
        self.folder, self.server = folder, server
        self.journals = folder / "journals"
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("NORIA_", "MLFLOW_"))}
        self.environment = {
            **kept, "PYTHONPATH": str(ROOT), "NORIA_JOURNALS": str(self.journals), "NORIA_URL": server.url,
            "NORIA_SYSTEM_INTERVAL_S": "0.2", "PYTHONUNBUFFERED": "1",
        }  # fmt: skip

    def script(self, text: str) -> list[str]:
        path = self.folder / "train.py"
        path.write_text(text)
        return [sys.executable, str(path)]

    def noria(self, *args: str) -> list[str]:
        return [sys.executable, "-m", "noria.cli.main", *args]

    def run(self, command: list[str], **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, capture_output=True, text=True, cwd=self.folder, env=self.environment | more, timeout=120
        )

    def start(self, command: list[str], **more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=self.folder, env=self.environment | more)

    def last_run(self) -> Any:
        op = self.server.app.ops.system("test")
        found = self.server.app.tracking.search_runs(op, limit=1).items
        return self.server.app.tracking.run(op, found[0].id)

    def log_of(self, run_id: str) -> str:
        return self.server.app.tracking.log_page(self.server.app.ops.system("test"), run_id).text

    def steps(self, run_id: str, key: str = "loss") -> list[int]:
        op = self.server.app.ops.system("test")
        return [p.step for p in self.server.app.tracking.history(op, run_id, key, limit=100_000).items]


@pytest.fixture
def shell(tmp_path: Path, server: Server) -> Shell:
    return Shell(tmp_path, server)


def test_two_lines_make_a_run(shell: Shell) -> None:
    subprocess.run(["git", "init", "-q"], cwd=shell.folder, check=True)
    command = shell.script(
        """
import sys, time, noria
run = noria.init("flights", name="first", params={"lr": 0.1}, price_per_hour=3600)
for step in range(50):
    noria.log({"loss": 1 / (step + 1)}, step=step)
print("\\r10%\\r100%\\nhello")
print("a warning", file=sys.stderr)
time.sleep(0.5)
run.log_text("notes", "notes.txt")
"""
    )
    done = shell.run([*command, "--token", "swordfish"])
    assert done.returncode == 0, done.stderr
    run = shell.last_run()
    assert (run.name, run.status, run.params) == ("first", "FINISHED", {"lr": "0.1"})
    assert shell.steps(run.id) == list(range(50))
    assert json.loads(run.argv)[2:] == ["--token", "[left out]"] and run.environment_digest
    assert {"noria.os", "noria.cpu", "noria.python"} <= run.tags.keys()
    assert shell.log_of(run.id) == "100%\nhello\na warning\n"
    assert {"system/cpu_utilization_percentage", "system/network_receive_megabytes", "system/cost"} <= run.metrics.keys()
    assert 0.5 < run.metrics["system/cost"] < 600
    op = shell.server.app.ops.system("test")
    assert {"environment/packages.txt", "notes.txt"} <= {a.path for a in shell.server.app.tracking.files(op, run.id)}
    assert not any(shell.journals.iterdir()), "what arrived is removed"
    shown = shell.run(shell.noria("run", "show", run.id)).stdout
    assert "system/cost" in shown and "price_per_hour" in shown


def test_a_run_ends_as_its_script_ends(shell: Shell) -> None:
    for text, status in (("1 / 0", "FAILED"), ("import sys; sys.exit(3)", "FAILED"), ("raise KeyboardInterrupt", "KILLED")):
        shell.run(shell.script(f"import noria\nnoria.init('ends', console=False, system_metrics=False)\n{text}\n"))
        assert shell.last_run().status == status, text


def test_mlflow_joins_the_run_and_the_other_way_round(shell: Shell) -> None:
    pytest.importorskip("mlflow")
    done = shell.run(
        shell.script(
            """
import mlflow, noria
with noria.init("both", system_metrics=False) as run:
    with mlflow.start_run() as theirs:
        assert theirs.info.run_id == run.id
        mlflow.log_metric("theirs", 1.0)
    noria.log({"ours": 2.0})
mlflow.set_experiment("both")
with mlflow.start_run() as theirs:
    with noria.init(system_metrics=False) as run:
        assert run.id == theirs.info.run_id and run.is_joined
        noria.log({"again": 3.0})
"""
        )
    )
    assert done.returncode == 0, done.stderr
    op = shell.server.app.ops.system("test")
    experiment = shell.server.app.tracking.experiment_by_name(op, "both").id
    second, first = shell.server.app.tracking.search_runs(op, experiments=[experiment]).items
    assert first.metrics == {"theirs": 1.0, "ours": 2.0} and second.metrics == {"again": 3.0}
    assert first.status == second.status == "FINISHED"


def test_a_command_is_a_run_with_its_console_and_machine(shell: Shell) -> None:
    command = shell.script(
        """
import os, sys, time, noria
assert noria.init("ignored").id == os.environ["NORIA_RUN_ID"]
noria.log({"loss": 0.5})
print("grün", flush=True)
time.sleep(0.7)
sys.exit(4)
"""
    )
    done = shell.run(shell.noria("run", "exec", "-e", "launched", "-n", "cmd", "--tag", "team=a", "--", *command))
    assert done.returncode == 4 and "grün" in done.stdout, done.stderr
    run = shell.last_run()
    assert (run.name, run.status, run.metrics["loss"], run.tags["team"]) == ("cmd", "FAILED", 0.5, "a")
    assert shell.log_of(run.id) == "grün\n"
    assert len(shell.steps(run.id, "system/process_memory_megabytes")) >= 2


def test_a_command_that_does_not_exist_fails_its_run(shell: Shell) -> None:
    done = shell.run(shell.noria("run", "--", "no-such-command"))
    assert done.returncode == 3 and "cannot be started" in done.stderr
    assert shell.last_run().status == "FAILED"


def test_a_forked_child_is_told_where_to_log(shell: Shell) -> None:
    done = shell.run(
        shell.script(
            """
import os, noria
run = noria.init("forks", system_metrics=False)
if os.fork() == 0:
    try:
        run.log({"x": 1.0})
    except Exception as error:
        os.write(1, f"{type(error).__name__}: {error}".encode())
    os._exit(0)
os.wait()
noria.log({"loss": 1.0})
"""
        )
    )
    assert "Invalid: This process was forked" in done.stdout, done.stderr
    assert shell.last_run().metrics == {"loss": 1.0} and shell.last_run().status == "FINISHED"


OFFLINE = """
import os, sys, noria
run = noria.init("offline", mode="offline", system_metrics=False)
out = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
for step in range(1_000_000):
    noria.log({"loss": step / 7}, step=step)
    os.write(out, b"%d\\n" % step)
"""


@pytest.mark.slow
def test_what_was_logged_survives_a_kill_at_any_point(shell: Shell) -> None:
    """Killed while it logs, then the sending is killed again and again: every confirmed step arrives, once, in one run."""
    chance = random.Random(7)
    confirmed = shell.folder / f"confirmed-{time.monotonic_ns()}"
    process = shell.start([*shell.script(OFFLINE), str(confirmed)])
    until = time.monotonic() + 60
    while not confirmed.exists() or confirmed.stat().st_size < 20_000:
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.01)
    time.sleep(chance.random() / 10)
    process.send_signal(signal.SIGKILL)
    process.wait(30)
    last = int(confirmed.read_bytes().rsplit(b"\n", 2)[-2])
    (folder,) = shell.journals.iterdir()
    about = describe(folder)
    assert about["state"] == "interrupted" and about["entries"] >= last + 2
    for _ in range(2):
        sending = shell.start(shell.noria("run", "sync"))
        time.sleep(0.5 + chance.random())
        sending.send_signal(signal.SIGKILL)
        sending.wait(30)
    done = shell.run(shell.noria("run", "sync", "--json"))
    assert done.returncode == 0, done.stderr
    run = shell.last_run()
    steps = shell.steps(run.id)
    assert steps == list(range(len(steps))) and len(steps) >= last + 1
    assert run.status == "KILLED" and run.id == about["run"]
    assert not any(shell.journals.iterdir())


TIMED = """
import json, time
import noria
began = time.perf_counter()
run = noria.init("later", name="kept")
init_s, took = time.perf_counter() - began, []
for step in range(1000):
    began = time.perf_counter()
    noria.log({"loss": 1.0}, step=step)
    took.append(time.perf_counter() - began)
print(json.dumps([init_s, sorted(took)[500], max(took)]))
"""


def test_a_dead_server_is_not_waited_for(shell: Shell) -> None:
    done = shell.run(shell.script(TIMED), NORIA_URL="http://127.0.0.1:9")
    assert done.returncode == 0 and "noria run sync" in done.stderr
    init_s, median_s, longest_s = json.loads(done.stdout.splitlines()[-1])
    assert init_s < 4 and median_s < 0.001 and longest_s < 1, "nobody is there, and nobody is waited for"
    listed = json.loads(shell.run(shell.noria("run", "sync", "--status", "--json")).stdout)
    assert [(row["name"], row["state"]) for row in listed] == [("kept", "ended")] and listed[0]["waiting_bytes"] > 10_000
    failed = shell.run(shell.noria("run", "sync"), NORIA_URL="http://127.0.0.1:9")
    assert failed.returncode == 1 and "was not sent" in failed.stdout
    done = shell.run(shell.noria("run", "sync", str(shell.journals)))
    assert "was sent" in done.stdout
    assert shell.last_run().id == listed[0]["run"] and len(shell.steps(listed[0]["run"])) == 1000
    assert "Nothing waits" in shell.run(shell.noria("run", "sync")).stdout


def test_a_server_that_never_answers_holds_up_no_step(shell: Shell) -> None:
    with socket.socket() as silent:  # takes connections, and says nothing
        silent.bind(("127.0.0.1", 0))
        silent.listen(16)
        done = shell.run(shell.script(TIMED), NORIA_URL=f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert done.returncode == 0 and "noria run sync" in done.stderr
    init_s, median_s, longest_s = json.loads(done.stdout.splitlines()[-1])
    assert init_s < 10 and median_s < 0.001 and longest_s < 1, "it is waited for once, at the beginning"


def test_a_command_runs_without_a_server_too(shell: Shell) -> None:
    script = shell.script("import noria\nnoria.init()\nnoria.log({'loss': 1.0})\nprint('printed')\n")
    done = shell.run(shell.noria("run", "exec", "--offline", "-e", "offline", "--", *script))
    assert done.returncode == 0 and "kept in" in done.stderr, done.stderr
    done = shell.run(shell.noria("run", "sync"))
    assert done.returncode == 0, done.stdout
    run = shell.last_run()
    assert (run.metrics["loss"], run.status, shell.log_of(run.id)) == (1.0, "FINISHED", "printed\n")
