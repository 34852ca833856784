"""Runs made again from what was captured: real files, real processes, a real server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from noria.client.api import Api
from noria.client.rebuild import command_of, pinned_packages
from noria.client.reproduce import compare
from noria.kernel.environments import uv_program
from noria.kernel.errors import Invalid
from noria.kernel.linking import link_packages
from tests.pipelines.processes import ROOT, Server, ended, imported

TRAIN = """
import random, sys
import six
import helper
import noria

noria.seed(7)
table = noria.dataset("numbers").version("latest").read("numbers.txt").decode().split()
total = sum(map(int, table)) * helper.FACTOR
print("training on", len(table), six.__version__)
with noria.init(experiment="again", params={"depth": sys.argv[1]}):
    noria.log({"total": total, "drawn": random.random(), "depth": float(sys.argv[1])})
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("home"))
    yield made
    made.stop()


@pytest.fixture
def api(server: Server) -> Iterator[Api]:
    with server.api() as made:
        yield made


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The user's environment: one package, and Noria's client."""
    folder = tmp_path_factory.mktemp("env")
    subprocess.run([uv_program(), "venv", "-q", "--python", sys.executable, str(folder / "venv")], check=True)
    found = folder / "venv" / "bin" / "python"
    subprocess.run([uv_program(), "pip", "install", "-q", "--python", str(found), "six==1.16.0"], check=True)
    link_packages(folder / "client")
    (next((folder / "venv").glob("lib/*/site-packages")) / "client.pth").write_text(str(folder / "client") + "\n")
    return found


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository with a commit, and uncommitted changes in it."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "train.py").write_text(TRAIN)
    (folder / "helper.py").write_text("FACTOR = 1\n")
    for args in (["init", "-q"], ["add", "."], ["-c", "user.name=x", "-c", "user.email=x@y", "commit", "-qm", "first"]):
        subprocess.run(["git", *args], cwd=folder, check=True)
    (folder / "helper.py").write_text("FACTOR = 10\n")
    return folder


def variables(server: Server, tmp_path: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("NORIA_", "MLFLOW_")) and k != "PYTHONPATH"}
    return {**kept, "NORIA_URL": server.url, "NORIA_JOURNALS": str(tmp_path / "journals"), "NORIA_SYSTEM_INTERVAL_S": "0"}


def noria(server: Server, tmp_path: Path, *args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    env = {**variables(server, tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-P", "-m", "noria.cli.main", *args]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=120, check=False)


def latest(api: Api) -> dict[str, Any]:
    found = api.get("/runs", experiment="again", order_by="started_at_ms desc", limit=1)
    return dict(api.get(f"/runs/{found['ids'][0]}"))


def commit(api: Api, text: str) -> str:
    from noria.client.datasets import dataset

    return str(dataset("numbers", api=api).commit({"numbers.txt": text.encode()}).info.id)


@pytest.mark.protocol
def test_a_run_of_init_is_made_again(server: Server, api: Api, python: Path, project: Path, tmp_path: Path) -> None:
    version = commit(api, "1 2 3")
    done = subprocess.run([python, "train.py", "3"], cwd=project, env=variables(server, tmp_path), check=True)
    assert done.returncode == 0
    run = latest(api)
    assert run["metrics"]["total"] == 60.0 and run["params"] == {"depth": "3"}
    tags = run["tags"]
    assert (tags["noria.seed"], tags["noria.dataset_version"]) == ("7", version)
    assert tags["noria.seeded"] == "random" and json.loads(tags["noria.argv"]) == ["python", "train.py", "3"]
    # Everything moves on: the data, the code, the packages.
    commit(api, "100 200")
    (project / "helper.py").write_text("FACTOR = 99\n")
    again = noria(server, tmp_path, "run", "reproduce", run["id"], "--json", cwd=tmp_path)
    assert again.returncode == 0, again.stderr + again.stdout
    found = json.loads(again.stdout)
    assert found["matches"] and {m["key"] for m in found["metrics"]} == {"total", "drawn", "depth"}
    new = api.get(f"/runs/{found['made_again']}")
    assert new["tags"]["noria.reproduces"] == run["id"] and new["tags"]["noria.dataset_version"] == version
    assert new["tags"]["noria.environment_digest"] == tags["noria.environment_digest"]
    assert "training on 3 1.16.0" in api.get(f"/runs/{new['id']}/logs")["text"]
    assert not Path(found["place"]).exists()


@pytest.mark.protocol
def test_a_launched_command_is_made_again_and_a_difference_is_found(
    server: Server, api: Api, python: Path, project: Path, tmp_path: Path
) -> None:
    commit(api, "5 6")
    (project / "train.py").write_text(TRAIN.replace("noria.seed(7)", ""))
    launched = noria(server, tmp_path, "run", "-e", "again", "--", str(python), "train.py", "4", cwd=project)
    assert launched.returncode == 0, launched.stderr
    run = latest(api)
    assert run["tags"]["noria.dataset_version"], run["tags"]
    again = noria(server, tmp_path, "run", "reproduce", run["id"], "--dir", str(tmp_path / "here"), cwd=tmp_path)
    assert again.returncode == 1, again.stderr + again.stdout
    assert "2 of 3 numbers match" in again.stdout and "No seed was recorded" in again.stdout
    lines = [line.split() for line in again.stdout.splitlines()]
    assert [line[-1] for line in lines if line[:1] == ["drawn"]] == ["DIFFERS"]
    assert (tmp_path / "here" / "code" / "helper.py").read_text() == "FACTOR = 10\n"


@pytest.mark.protocol
def test_without_an_archive_the_commit_and_the_difference_are_taken(
    server: Server, api: Api, python: Path, project: Path, tmp_path: Path
) -> None:
    commit(api, "1 2")
    (project / "enormous.py").write_text("# nothing\n" * (33 << 17))
    subprocess.run([python, "train.py", "3"], cwd=project, env=variables(server, tmp_path), check=True)
    run = latest(api)
    assert "more than 32 MiB" in run["tags"]["noria.source.left_out"]
    missing = noria(server, tmp_path, "run", "reproduce", run["id"], cwd=tmp_path)
    assert missing.returncode != 0 and "is not to be had from" in missing.stderr
    again = noria(server, tmp_path, "run", "reproduce", run["id"], "--repository", str(project), cwd=tmp_path)
    assert again.returncode == 0, again.stderr + again.stdout
    assert "commit" in again.stderr and "uncommitted changes" in again.stderr


PIPELINE = """
import noria

@noria.step(cache=True)
def draw(n: int) -> float:
    import random
    noria.seed(n)
    return random.random()

@noria.step
def double(x: float) -> dict:
    import six
    return {"twice": 2 * x, "version": six.__version__}

@noria.pipeline(name="chain")
def chain(n: int = 3):
    return {"drawn": draw(n), "result": double(draw(n + 1))}
"""


@pytest.mark.protocol
def test_a_pipeline_run_is_made_again(server: Server, api: Api, tmp_path: Path) -> None:
    text = PIPELINE.replace("@noria.step\n", '@noria.step(env=noria.uv("six==1.17.0"))\n').replace(
        "cache=True", 'cache=True, env=noria.uv("six==1.16.0")'
    )
    (tmp_path / "chain.py.txt").write_text(text)
    (tmp_path / "code").mkdir()
    with server.worker(slots=2), imported(tmp_path / "chain.py.txt", tmp_path / "code") as module:
        view = ended(api, module.chain.submit(n=5, api=api)["id"])
        assert view["run"]["state"] == "succeeded", view["run"]["error"]
        again = noria(server, tmp_path, "run", "reproduce", view["run"]["id"], "--json", cwd=tmp_path)
    assert again.returncode == 0, again.stderr + again.stdout
    found = json.loads(again.stdout)
    assert {m["key"] for m in found["metrics"]} == {"outputs.drawn", "outputs.result.twice"}
    new = api.get(f"/pipeline-runs/{found['made_again']}")
    assert new["run"]["pipeline"] == "chain-reproduced" and new["run"]["params"] == {"n": 5}
    assert not any(s["step"]["cached_from"] for s in new["steps"])
    edges = api.get(f"/lineage/pipeline_run:{new['run']['id']}")["edges"]
    assert f"pipeline_run:{view['run']['id']}" in [e["dst"] for e in edges if e["kind"] == "reproduces"]


def test_what_is_no_run_is_refused(server: Server, api: Api, tmp_path: Path) -> None:
    refused = noria(server, tmp_path, "run", "reproduce", "0" * 32, cwd=tmp_path)
    assert refused.returncode != 0 and "neither of tracking nor of a pipeline" in refused.stderr


def test_packages_that_no_index_has_are_left_out_and_said() -> None:
    lines, notes = pinned_packages(
        {"noria": "1", "six": "1.16.0", "mine": "0.1+editable", "forked": "2.0+0123456789ab", "odd": "a b"}
    )
    assert lines == ["six==1.16.0"] and len(notes) == 3 and "mine" in " ".join(notes)


def test_paths_below_the_code_move_with_it(tmp_path: Path) -> None:
    tags = {"noria.argv": '["/old/venv/bin/python3", "/old/code/train.py", "--in=/old/x"]', "noria.source.root": "/old/code"}
    assert command_of(tags, tmp_path, Path("/new/python")) == ["/new/python", str(tmp_path / "train.py"), "--in=/old/x"]
    with pytest.raises(Invalid, match="had a secret"):
        command_of({"noria.argv": '["train.py", "--token", "[left out]"]'}, tmp_path, Path("/p"))


@pytest.mark.parametrize(
    ("was", "now", "same"),
    [(1.0, 1.0 + 1e-9, True), (1.0, 1.01, False), (float("nan"), float("nan"), True), (float("inf"), float("inf"), True),
     (0.0, 1e-9, True), (1e9, 1e9 + 100, True)],
)  # fmt: skip
def test_numbers_match_within_the_tolerance(was: float, now: float, same: bool) -> None:
    (found,) = compare({"k": was}, {"k": now}, 1e-6)
    assert found.matches is same
    assert not any(c.matches for c in compare({"k": was}, {}, 1e-6))


def test_a_seed_is_a_number_and_says_what_it_set() -> None:
    code = "import noria, random; print(noria.seed(3)); a = random.random(); noria.seed(3); assert a == random.random()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert "'random', 'numpy'" in done.stdout
    import noria as package

    with pytest.raises(Invalid, match="A seed is"):
        package.seed(-1)
