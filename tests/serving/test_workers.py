"""Where workers run and what they can reach: environments of their own, and models that try to get out."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pickle
import re
import shutil
import socket
import subprocess
import sys
import termios
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from noria.kernel.errors import Invalid
from noria.kernel.events import events_after
from noria.serving import confine
from noria.serving.frames import recorder_socket
from noria.serving.keeper import STARTS_MAX
from noria.serving.model import Replica, RevisionConfig
from noria.serving.requirements import differences, read_needs
from tests.serving.conftest import Plane, _save, features
from tests.serving.hostile_model import greedy, hostile, poisoned

CLIENT = Path(__file__).parents[2] / ".venv" / "clients" / "autolog" / "bin" / "python"
# Environments of a gigabyte take minutes to build: make test-flavors.
FRAMEWORKS = [
    pytest.param(name, marks=pytest.mark.timeout(1200)) for name in os.environ.get("NORIA_FLAVORS", "").split(",") if name
]
is_confined = pytest.mark.skipif(not confine.offers()[0], reason=confine.offers()[1])


@pytest.fixture(scope="module", autouse=True)
def flights(plane: Plane, models: dict[str, Path]) -> None:
    plane.registry.add("flights", models["one"])
    plane.deploy("flights", "flights@1")


def ask(plane: Plane, endpoint: str, n: int = 1) -> Any:
    answer = plane.http.post(f"/endpoints/{endpoint}/invocations", json={"inputs": features(n).to_numpy().tolist()})
    assert answer.status_code == 200, answer.text
    return answer.json()["predictions"]


def replica(plane: Plane, endpoint: str) -> Replica:
    return next(r for r in plane.serving.detail(plane.op(), endpoint).replicas if r.state == "ready")


def _answered(plane: Plane, endpoint: str, body: Any) -> Any:
    """The answer, once the node follows the route."""
    answer = plane.http.post(f"/endpoints/{endpoint}/invocations", json=body)
    return None if answer.status_code == 503 else answer


# --- environments ---------------------------------------------------------------------------------------------------------


@pytest.mark.protocol
def test_what_fits_runs_in_the_servers_environment(plane: Plane) -> None:
    assert replica(plane, "flights").environment == "the server's, which has what the model needs"


@pytest.mark.protocol
@pytest.mark.skipif(not CLIENT.exists(), reason="make .venv/clients/ready")
@pytest.mark.parametrize("framework", ["lightgbm", *FRAMEWORKS])
def test_a_model_with_other_packages_gets_an_environment_of_its_own(plane: Plane, tmp_path: Path, framework: str) -> None:
    command = [
        CLIENT,
        Path(__file__).with_name("framework_models.py"),
        framework,
        tmp_path / "model",
        tmp_path / "rows.json",
    ]
    subprocess.run(command, check=True, capture_output=True)
    plane.registry.add(framework, tmp_path / "model")
    told: set[str] = set()
    made = plane.serving.deploy(plane.op(), framework, f"{framework}@1")

    def is_ready() -> bool:
        told.update(r.doing for r in plane.serving.detail(plane.op(), framework).replicas)
        return plane.serving.revision(plane.op(), made.id).state != "pending"

    plane.until(is_ready, "the environment", timeout_s=120 if framework == "lightgbm" else 900)
    assert plane.serving.revision(plane.op(), made.id).state == "ready", plane.serving.revision(plane.op(), made.id).error
    assert {"compiling what the model imports", "loading the model"} <= told
    assert f"it needs {framework}==" in replica(plane, framework).environment
    assert "(the server has none)" in replica(plane, framework).environment
    rows = json.loads((tmp_path / "rows.json").read_text())
    body = {"dataframe_split": {"columns": list("abcd"), "data": [r[:4] for r in rows["data"]]}}
    answer = plane.until(lambda: _answered(plane, framework, body), "the route")
    assert answer.status_code == 200, answer.text
    said = [next(iter(p.values())) if isinstance(p, dict) else p for p in answer.json()["predictions"]]
    assert said == pytest.approx([r[4] for r in rows["data"]], abs=1e-6)
    built = max(plane.config.home.glob("serving/environments/*/ready"), key=lambda ready: ready.stat().st_mtime)
    lock = (built.parent / "requirements.txt").read_text()
    assert re.search(rf"^{framework}==[\d.]+(\+cpu)? \\\n    --hash=sha256:", lock, re.MULTILINE) and "http" not in lock


@pytest.mark.protocol
def test_an_environment_that_cannot_be_built_fails_the_revision_and_the_old_one_goes_on(
    plane: Plane, models: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(models["two"], tmp_path / "model")
    (tmp_path / "model" / "requirements.txt").write_text("iniconfig==99.99\n")
    plane.registry.add("flights", tmp_path / "model")
    with pytest.raises(Invalid, match=r"(?s)iniconfig==99\.99.*because it needs iniconfig==99\.99 \(the server's is"):
        plane.deploy("flights", "flights@2")
    assert len(ask(plane, "flights", 3)) == 3
    plane.deploy("flights", "flights@2", config=RevisionConfig(environment="server"))
    assert replica(plane, "flights").environment


@pytest.mark.protocol
def test_a_model_whose_files_nobody_thought_of_fails_with_the_reason(
    plane: Plane, models: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(models["two"], tmp_path / "model")
    (tmp_path / "model" / "conda.yaml").write_text("dependencies: 5\n")
    plane.registry.add("odd", tmp_path / "model")
    with pytest.raises(Invalid, match="TypeError: 'int' object is not iterable"):
        plane.deploy("odd", "odd@1")


class Dies:
    """What ends the process that reads it, after a word."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("import os; print('dying as', os.getpid(), flush=True); os._exit(3)",)


@pytest.mark.protocol
def test_the_reason_is_that_of_the_last_try(plane: Plane, models: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(models["one"], tmp_path / "model")
    (tmp_path / "model" / "model.pkl").write_bytes(pickle.dumps(Dies()))
    plane.registry.add("mortal", tmp_path / "model")
    with pytest.raises(Invalid) as told:
        plane.deploy("mortal", "mortal@1")
    logs = [p.read_text().splitlines() for p in (plane.config.home / "serving" / "logs").glob("*.log")]
    words = [line for lines in logs for line in lines if line.startswith("dying")]
    assert len(words) == STARTS_MAX and str(told.value).endswith(words[-1])


@pytest.mark.parametrize(
    "line",
    [
        "-e ./mine", "-r /etc/passwd", "mine @ file:///etc", "mine @ git+https://example.org/x", "./wheel.whl", "--no-binary :all:",
        "numpy==2.0 --global-option=x", "numpy; $(touch /tmp/x)", "--config-settings x=y", "-c /etc/passwd", "https://example.org/a.whl",
        "--requirement requirements.txt", "numpy==2 --hash=md5:00", "--pre",
    ],
)  # fmt: skip
def test_a_line_that_is_no_requirement_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "requirements.txt").write_text(f"numpy\n{line}\n")
    with pytest.raises(Invalid, match=r"requirements\.txt of the model has the line"):
        read_needs(tmp_path, is_direct=False)


def test_indexes_are_left_out_and_a_lock_is_kept(tmp_path: Path) -> None:
    digest = "--hash=sha256:" + "0" * 64
    text = f"--extra-index-url https://example.org/simple\nsix==1.16.0 \\\n    {digest}  # why\nmlflow==3.1.0 {digest}\n"
    (tmp_path / "requirements.txt").write_text(text)
    found = read_needs(tmp_path, is_direct=True)
    assert found.lock == f"six==1.16.0 \\\n    {digest}\nmlflow==3.1.0 \\\n    {digest}\n"
    assert found.notes == ("requirements.txt names an index of packages; this machine's own is asked instead.",)
    (tmp_path / "requirements.txt").write_text("-c constraints.txt\nmlflow==1.0\nsix>=1 ; python_version > '3'\n")
    (tmp_path / "constraints.txt").write_text("six<2\n")
    found = read_needs(tmp_path, is_direct=True)
    assert (found.wanted, found.limits, found.lock) == (('six>=1; python_version > "3"',), ("six<2",), "")


def test_an_old_model_says_it_in_conda_yaml(tmp_path: Path) -> None:
    (tmp_path / "conda.yaml").write_text(
        "dependencies: [python=3.8.10, numpy=2.1, pip, {pip: [six==1.16.0, scikit-learn>=0.1]}]"
    )
    found = read_needs(tmp_path, is_direct=True)
    assert found.wanted == ("numpy==2.1", "six==1.16.0", "scikit-learn>=0.1") and "Python 3.8.10" in found.notes[0]
    assert [d for d in differences(found) if "scikit" in d] == []
    assert any(d.startswith("numpy==2.1 (the server's is") for d in differences(found))
    (tmp_path / "python_env.yaml").write_text("a: &a [1, 1]\nb: *a\n")
    with pytest.raises(Invalid, match="has aliases"):
        read_needs(tmp_path, is_direct=True)


# --- isolation ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def listening() -> Iterator[int]:
    """A service of this machine, such as a database."""
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made.getsockname()[1]


def attempts(plane: Plane, port: int) -> dict[str, list[Any]]:
    home = plane.config.home
    return {
        "database": ["read", str(home / "noria.db")], "desired": ["read", str(home / "serving" / "desired.json")],
        "models": ["read", str(home / "serving" / "models")], "home": ["read", str(home)],
        "blobs": ["read", str(home / "blobs")], "passwords": ["read", "/etc/shadow" if os.getuid() == 0 else str(Path.home())],
        "temporary": ["read", "/tmp"], "its own files": ["write", str(home / "serving" / "models" / "x")],
        "recorder": ["unix", str(recorder_socket(home))], "around": ["around", str(recorder_socket(home))],
        "service": ["tcp", "127.0.0.1", port], "control plane": ["tcp", "127.0.0.1", plane.config.port],
        "name": ["udp", "127.0.0.1", 53], "ring": ["ring"], "kill": ["kill"], "memory": ["memory"], "environ": ["environ"],
    }  # fmt: skip


@is_confined
@pytest.mark.protocol
def test_a_hostile_model_reaches_nothing(
    plane: Plane, listening: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = hostile(attempts(plane, listening))
    _save(model, tmp_path / "model", features(2))
    plane.registry.add("hostile", tmp_path / "model")
    plane.deploy("hostile", "hostile@1")
    *said, variables, powers = ask(plane, "hostile")[0].splitlines()
    refused = (": Permission denied", ": Operation not permitted", ": Function not implemented")
    assert [line for line in said if not line.endswith(refused)] == []
    known = set(variables.removeprefix("variables: ").split())
    assert not {k for k in known if k.startswith("NORIA_") or "TOKEN" in k} and {"PATH", "HOME", "TMPDIR"} <= known
    assert powers == "powers: 0000000000000000"
    assert replica(plane, "hostile").isolation == "confined: files, sockets, ports, signals"
    # The same attempts succeed where nothing is kept from it, so they fail above for the right reason.
    (plane.config.home / "serving" / "models" / "x").unlink(missing_ok=True)
    free = {line.partition(":")[0] for line in model.predict(features(1))[0].splitlines() if line.endswith("got through")}
    (plane.config.home / "serving" / "models" / "x").unlink(missing_ok=True)
    assert free >= {"database", "desired", "models", "home", "blobs", "temporary", "its own files", "recorder", "service",
                    "control plane", "name", "kill", "environ"}  # fmt: skip


@is_confined
@pytest.mark.protocol
def test_a_port_that_was_granted_is_reached_and_no_other(plane: Plane, listening: int, tmp_path: Path) -> None:
    _save(hostile(attempts(plane, listening)), tmp_path / "model", features(2))
    plane.registry.add("granted", tmp_path / "model")
    plane.deploy("granted", "granted@1", config=RevisionConfig(network_ports=(listening,)))
    said = dict(line.split(": ", 1) for line in ask(plane, "granted")[0].splitlines())
    assert said["service"] == "got through"
    assert (said["control plane"], said["recorder"], said["database"]) == ("Permission denied",) * 3


@pytest.mark.protocol
def test_a_request_that_ends_a_model_ends_that_model_only(plane: Plane, tmp_path: Path) -> None:
    _save(poisoned(), tmp_path / "poisoned", features(2))
    plane.registry.add("poisoned", tmp_path / "poisoned")
    plane.deploy("poisoned", "poisoned@1")
    assert ask(plane, "poisoned") == [0.0]
    others, (row,) = plane.worker_pid("flights"), features(1).to_numpy().tolist()
    poison = {"inputs": [[1e9, *row[1:]]]}
    refused = plane.http.post("/endpoints/poisoned/invocations", json=poison)
    assert refused.status_code == 503 and "stopped twice with this request" in refused.text, "not tried for ever"
    ask(plane, "flights")
    assert plane.worker_pid("flights") == others
    plane.until(lambda: _answered(plane, "poisoned", {"inputs": [row]}) is not None, "it is started again")


@is_confined
def test_it_can_be_required_of_the_machine_and_holds_for_children(tmp_path: Path) -> None:
    rules = json.dumps(
        {"read": [sys.prefix, str(Path(sys.executable).resolve().parents[1])], "list": [], "write": [str(tmp_path)]}
    )
    child = "import subprocess; print(subprocess.run(['cat', '/etc/shadow'], capture_output=True, text=True).stderr)"
    command = [sys.executable, "-I", "-S", str(confine.__file__), rules, "/bin/cat", "/etc/shadow"]
    assert b"Permission denied" in subprocess.run(command, capture_output=True, check=False).stderr
    command[-2:] = [str(Path(sys.executable).resolve()), "-c", child]
    assert b"Permission denied" in subprocess.run(command, capture_output=True, check=True).stdout


@is_confined
def test_other_protocols_are_refused_even_with_a_port_and_no_terminal_is_reached(tmp_path: Path) -> None:
    python = str(Path(sys.executable).resolve())
    rules = {"read": [sys.prefix, str(Path(python).parents[1])], "list": [], "write": [str(tmp_path)], "ports": [443]}
    deeds = """
import socket
for protocol in (0, 6, 262, 132):
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol).close()
        print(protocol, "made")
    except OSError as error:
        print(protocol, error.strerror)
socket.socket(socket.AF_INET6, socket.SOCK_DGRAM, 17).close()
try:
    print(open("/dev/tty", "w"))
except OSError as error:
    print(error.strerror)
"""
    ours, theirs = os.openpty()
    with open(ours, "rb"), open(theirs, "rb") as terminal:
        done = subprocess.run(
            [sys.executable, "-I", "-S", str(confine.__file__), json.dumps(rules), python, "-c", deeds], stdin=terminal,
            stdout=subprocess.PIPE, text=True, check=True, start_new_session=True, timeout=60,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
    refused = "Permission denied"
    assert done.stdout.splitlines() == ["0 made", "6 made", f"262 {refused}", f"132 {refused}", refused]


# --- limits ---------------------------------------------------------------------------------------------------------------

SMALL = RevisionConfig(memory_mb=400, disk_mb=16, max_tasks=40)
GREED = {
    "memory": (1e6, r"it used \d+ MB of memory, and its limit is 400 MB \(memory_mb\)"),
    "processes": (2e6, r"it had \d+ processes and threads, and its limit is 40 \(max_tasks\)"),
    "files": (3e6, r"it kept \d+ MB in files, and its limit is 16 MB \(disk_mb\)"),
}


@pytest.fixture(scope="module")
def greedy_endpoints(plane: Plane, tmp_path_factory: pytest.TempPathFactory) -> None:
    """One for each way to take too much."""
    folder = tmp_path_factory.mktemp("greedy") / "model"
    _save(greedy(), folder, features(2))
    plane.registry.add("greedy", folder)
    for name in GREED:
        plane.serving.deploy(plane.op(), name, "greedy@1", config=SMALL)
    for name in GREED:
        plane.until(lambda name=name: answers(plane, name), name)  # type: ignore[misc]


def asked(plane: Plane, endpoint: str, number: float) -> httpx.Response:
    (row,) = features(1).to_numpy().tolist()
    return plane.http.post(f"/endpoints/{endpoint}/invocations", json={"inputs": [[number, *row[1:]]]})


def answers(plane: Plane, endpoint: str) -> bool:
    return asked(plane, endpoint, 0.0).status_code == 200


def processes(revision_id: str) -> list[int]:
    """Those that run in the scratch folder of a revision's worker."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if revision_id in process.cwd():
                found.append(process.pid)
    return found


@is_confined
@pytest.mark.protocol
def test_a_worker_that_takes_too_much_is_ended_alone_and_told(plane: Plane, greedy_endpoints: None) -> None:
    neighbour = plane.worker_pid("flights")
    with ThreadPoolExecutor(3) as pool:
        tries = {name: pool.submit(asked, plane, name, number) for name, (number, _) in GREED.items()}
        while not all(t.done() for t in tries.values()):
            ask(plane, "flights")
    assert plane.worker_pid("flights") == neighbour
    for name, (_, words) in GREED.items():
        refused = tries[name].result()
        assert refused.status_code == 503 and int(refused.headers["retry-after"]) >= 1
        assert re.fullmatch(
            f"The worker of {name} stopped twice with this request: {words}. Try again.", refused.json()["message"]
        )
        plane.until(lambda name=name: answers(plane, name), f"{name} answers again")  # type: ignore[misc]
        plane.worker_pid(name)
        found = replica(plane, name)
        assert re.search(words, found.fault) and (found.memory_limit_bytes, found.restarts) == (400 << 20, 2)
        assert processes(found.revision_id) == [found.pid], "nothing that it started is left"
        with plane.app.db.read() as tx:
            facts = events_after(tx, 0, limit=100, kinds=["endpoint.worker_ended"])
        told = [e.data for e in facts if e.subject == f"endpoint:{name}"]
        assert [t["revision"] for t in told] == [found.revision_id] * 2 and all(re.search(words, t["reason"]) for t in told)


@is_confined
@pytest.mark.protocol
def test_one_large_file_or_allocation_is_refused_and_the_worker_goes_on(plane: Plane, greedy_endpoints: None) -> None:
    before = plane.worker_pid("memory")
    file, block = asked(plane, "memory", 4e6), asked(plane, "memory", 5e6)
    assert file.status_code == 500 and "File too large" in file.text
    assert block.status_code == 500 and "Unable to allocate" in block.text
    assert answers(plane, "memory") and plane.worker_pid("memory") == before


@pytest.mark.protocol
def test_a_limit_below_what_the_model_needs_fails_the_revision(plane: Plane) -> None:
    with pytest.raises(Invalid, match=r"The worker was ended: it used \d+ MB of memory, and its limit is 20 MB"):
        plane.deploy("flights", "flights@1", config=RevisionConfig(memory_mb=20))
    ask(plane, "flights")
    with pytest.raises(Invalid, match="memory_mb must be between 0 and"):
        plane.deploy("flights", "flights@1", config=RevisionConfig(memory_mb=-1))
