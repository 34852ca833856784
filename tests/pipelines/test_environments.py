"""Environments of their own for steps, built by uv. Tiny packages; uv takes them from its cache or from where it is told."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from noria.client.api import Api
from noria.client.packages import uv
from noria.kernel.environments import ENVIRONMENTS_MAX, uv_program
from noria.kernel.errors import Invalid
from noria.kernel.linking import link_packages
from noria.pipelines.worker.environments import Environments
from noria.pipelines.worker.server import Server as Connection
from tests.pipelines.processes import Server, ended, imported, logs

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("home"))
    yield made
    made.stop()


@pytest.fixture(scope="module")
def worker(server: Server) -> Iterator[int]:
    with server.worker(slots=3) as process:
        yield process.pid


@pytest.fixture
def api(server: Server) -> Iterator[Api]:
    with server.api() as made:
        yield made


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    folder = tmp_path_factory.mktemp("code")
    (folder / "broken.lock").write_text("iniconfig==2.0.0 \\\n    --hash=sha256:" + "0" * 64 + "\n")
    with imported(HERE / "environments.py.txt", folder) as module:
        yield module


def result(view: dict[str, Any], name: str = "result") -> Any:
    assert view["run"]["state"] == "succeeded", view["run"]["error"]
    return view["run"]["outputs"][name]["value"]


@pytest.mark.protocol
def test_a_step_has_exactly_its_packages_and_the_client(api: Api, worker: int, steps: ModuleType, server: Server) -> None:
    view = ended(api, steps.packages.submit(api=api)["id"])
    inside, outside = result(view, "inside"), result(view, "outside")
    assert inside["installed"] == ["iniconfig"] and "pandas" in outside
    assert inside["pandas"] == "No module named 'pandas'"
    assert Path(inside["prefix"]).is_relative_to(server.config.home) and inside["prefix"] in inside["file"]
    from noria import __version__

    assert inside["child"] == __version__ + "\n"  # a process that the step starts finds both, too
    text = logs(api, view, "inside")
    assert "building the environment: iniconfig==2.0.0" in text and "+ iniconfig==2.0.0" in text and "built in" in text
    digests = {s["step"]["name"]: s["attempts"][0]["environment_digest"] for s in view["steps"]}
    captured = api.get(f"/blobs/{digests['inside']}")
    assert captured["packages"] == {"iniconfig": "2.0.0"}
    assert inside["tags"]["noria.environment_digest"] == digests["inside"]


@pytest.mark.protocol
def test_three_steps_at_once_build_it_once(steps: ModuleType, tmp_path: Path) -> None:
    server = Server(tmp_path / "home")
    try:
        with server.api() as api, server.worker(slots=3):
            view = ended(api, steps.twice.submit(api=api)["id"])
            assert len(result(view)) == 3
            said = [logs(api, view, s["step"]["name"]) for s in view["steps"]]
        assert sum("building the environment" in text for text in said) == 1
        (built,) = server.config.home.glob("worker/*/environments/*/ready")
        assert built.parent.is_dir()
    finally:
        server.stop()


@pytest.mark.protocol
def test_the_client_works_in_it(api: Api, worker: int, steps: ModuleType) -> None:
    found = result(ended(api, steps.client.submit(api=api)["id"]))
    assert "client" in found["names"]
    run = api.get(f"/runs/{found['run']}")
    assert run["metrics"]["loss"] == 0.5 and run["tags"]["noria.step"] == "speaks"


@pytest.mark.protocol
def test_a_cached_result_counts_for_its_environment_only(api: Api, worker: int, steps: ModuleType, tmp_path: Path) -> None:
    assert result(ended(api, steps.remembered.submit(api=api)["id"])) == "1.16.0 1"
    again = ended(api, steps.remembered.submit(api=api)["id"])
    assert again["steps"][0]["step"]["cached_from"]
    steps.cached.options["env"] = uv("six==1.17.0")
    changed = ended(api, steps.remembered.submit(api=api)["id"])
    assert result(changed) == "1.17.0 1"
    assert changed["steps"][0]["step"]["reason"] == "Its environment changed since its last result."


@pytest.mark.protocol
def test_an_environment_that_cannot_be_built_fails_its_step(api: Api, worker: int, steps: ModuleType) -> None:
    view = ended(api, steps.not_built.submit(api=api)["id"])
    assert "The environment could not be built" in view["run"]["error"]
    assert "Hash mismatch" in logs(api, view, "unbuildable")


@pytest.mark.protocol
def test_a_package_that_was_forgotten_is_missing(api: Api, worker: int, steps: ModuleType) -> None:
    view = ended(api, steps.missing.submit(api=api)["id"])
    assert "No module named 'pandas'" in view["run"]["error"]


@pytest.mark.protocol
def test_a_file_that_does_not_import_there_says_where(api: Api, worker: int, tmp_path: Path) -> None:
    (tmp_path / "heavy_top.py").write_text(
        "import noria, pandas\n"
        "@noria.step(env=noria.uv('iniconfig==2.0.0'))\ndef a():\n    return 1\n\n@noria.pipeline\ndef heavy():\n    return a()\n"
    )
    sys.path.insert(0, str(tmp_path))
    try:
        import heavy_top  # type: ignore[import-not-found]

        view = ended(api, heavy_top.heavy.submit(api=api)["id"])
    finally:
        sys.path.remove(str(tmp_path))
    assert "No module named 'pandas' (in the step's environment: iniconfig==2.0.0)" in view["run"]["error"]


def test_what_cannot_be_resolved_is_refused_at_submit(steps: ModuleType) -> None:
    with pytest.raises(Invalid, match="cannot be resolved"):
        steps.not_resolved.trace()


def test_a_lock_has_exact_versions_with_digests_and_no_address(tmp_path: Path) -> None:
    spec, lock = uv("iniconfig>=2,<2.1").resolved(tmp_path)
    text = lock.decode()
    assert text.startswith("iniconfig==2.0.0 \\\n    --hash=sha256:") and "http" not in text and "index" not in text
    assert spec.python == f"3.{sys.version_info[1]}" and spec.asked == ["iniconfig>=2,<2.1"]
    assert uv("iniconfig>=2,<2.1").resolved(tmp_path) == (spec, lock)


def test_a_requirements_file_a_lock_and_a_project_are_read(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("--index-url https://example.org/simple\niniconfig==2.0.0  # why\n")
    spec, lock = uv(requirements="requirements.txt").resolved(tmp_path)
    assert lock.startswith(b"iniconfig==2.0.0") and b"example.org" not in lock
    (tmp_path / "exact.lock").write_bytes(b"--extra-index-url https://example.org/simple\n" + lock)
    assert uv(lock="exact.lock").resolved(tmp_path)[1] == lock
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "mine"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = ["iniconfig==2.0.0"]\n'
    )
    with pytest.raises(Invalid, match=r"no uv\.lock"):
        uv(project=".").resolved(tmp_path)
    subprocess.run([uv_program(), "lock", "-q"], cwd=tmp_path, check=True)
    (exported,) = [line for line in uv(project=".").resolved(tmp_path)[1].decode().splitlines() if line.startswith("i")]
    assert exported.startswith("iniconfig==2.0.0")
    assert spec.asked == ["-r requirements.txt"]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"lock": "loose.txt"}, "not an exact version"), ({"requirements": "local.txt"}, "a folder of this machine"),
        ({"requirements": "url.txt"}, "names an address"), ({"requirements": "missing.txt"}, "cannot be read"),
    ],
)  # fmt: skip
def test_files_that_do_not_hold_elsewhere_are_refused(tmp_path: Path, given: dict[str, str], why: str) -> None:
    (tmp_path / "loose.txt").write_text("iniconfig>=2\n")
    (tmp_path / "local.txt").write_text("-e ./mine\n")
    (tmp_path / "url.txt").write_text("mine @ git+https://example.org/mine.git\n")
    with pytest.raises(Invalid, match=why):
        uv(**given).resolved(tmp_path)


@pytest.mark.parametrize("given", [{}, {"lock": "a", "project": "."}, {"python": "2.7"}, {"python": "3.10"}])
def test_what_is_no_environment_is_refused(given: dict[str, str]) -> None:
    with pytest.raises(Invalid):
        uv(*(["six"] if "python" in given else []), **given)


def test_those_used_longest_ago_are_removed(tmp_path: Path) -> None:
    found = Environments(tmp_path, tmp_path / "client", tmp_path / "blobs", Connection("http://127.0.0.1:9", ""))
    for i in range(ENVIRONMENTS_MAX + 3):
        (tmp_path / f"env{i:02}" / "venv").mkdir(parents=True)
        ready = tmp_path / f"env{i:02}" / "ready"
        ready.touch()
        os.utime(ready, (time.time() - 1000 + i, time.time() - 1000 + i))
    (tmp_path / "half").mkdir()  # one that is being built has no mark yet
    found.prune({"env01"})
    left = {p.name for p in tmp_path.iterdir()}
    assert {"env01", "half", f"env{ENVIRONMENTS_MAX + 2:02}"} <= left and not {"env00", "env02"} & left


def test_the_folder_of_the_client_has_no_metadata(tmp_path: Path) -> None:
    link_packages(tmp_path)
    link_packages(tmp_path)
    names = {p.name for p in tmp_path.iterdir()}
    assert {"noria", "msgspec", "blake3", "httpx"} <= names and not [n for n in names if n.endswith(("info", ".pth"))]
    clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    code = "import sys; sys.path[:0] = [sys.argv[1]]; import noria.client.zygote, noria.client.logger, httpx"
    base = shutil.which("python3", path="/usr/bin:/usr/local/bin")
    assert base
    same = subprocess.run(
        [base, "-c", "import sys; print(sys.version_info[:2])"], capture_output=True, text=True, check=True
    )
    if same.stdout.strip() != str(sys.version_info[:2]):
        pytest.skip("no interpreter of this version without packages")
    subprocess.run([base, "-I", "-S", "-c", code, str(tmp_path)], check=True, env=clean)
