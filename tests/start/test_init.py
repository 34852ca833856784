"""`noria init` in folders such as people have, and what it writes, run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner, Result

from noria.cli.main import main
from noria.client import api, project
from noria.kernel.errors import Invalid
from tests.protocol.test_demo import ROOT
from tests.server.test_server import Server
from tests.start.test_readme import type_in

SCRIPT = """
import pandas as pd
from sklearn.linear_model import LogisticRegression

rows = pd.read_csv("data/customers.csv")
model = LogisticRegression().fit(rows[["age"]], rows["churn"])
print("accuracy", model.score(rows[["age"]], rows["churn"]))
"""
ROWS = "age,churn\n" + "\n".join(f"{age},{int(age > 50)}" for age in range(18, 90))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as a data scientist has it."""
    for name in ("NORIA_URL", "NORIA_HOME", "NORIA_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    root = tmp_path / "churn"
    (root / "data").mkdir(parents=True)
    (root / "data" / "customers.csv").write_text(ROWS)
    (root / "train.py").write_text(SCRIPT)
    (root / "helpers.py").write_text("import sklearn\n\ndef double(x):\n    return 2 * x\n")
    (root / "broken.py").write_text("def (:\n")
    (root / "look.ipynb").write_text("{}")
    (root / ".venv").mkdir()
    (root / ".venv" / "pyvenv.cfg").touch()
    (root / ".venv" / "train.py").write_text(SCRIPT)
    monkeypatch.chdir(root)
    return root


def init(*args: str) -> Result:
    done = CliRunner().invoke(main, ["init", *args])
    assert done.exit_code == 0, done.output
    return done


def test_it_finds_the_script_that_trains_and_its_data(folder: Path) -> None:
    said = json.loads(init("--json").stdout)
    assert said["found"]["scripts"] == [{"path": "train.py", "frameworks": ["scikit-learn"], "logs": False}]
    assert said["found"]["data"] == [{"name": "churn", "path": "data/", "files": 1, "size_bytes": len(ROWS)}]
    assert said["found"]["notebooks"] == ["look.ipynb"]
    assert [line.split(":")[0] for line in said["found"]["unread"]] == ["broken.py"]
    assert sorted(said["written"]) == ["noria.toml", "pipeline.py"]
    assert project.read(folder / "noria.toml").data == {"churn": "data/"}


def test_it_leaves_what_is_there(folder: Path) -> None:
    (folder / "pipeline.py").write_text("# mine\n")
    assert "pipeline.py exists and was left as it is" in init().stdout
    assert (folder / "pipeline.py").read_text() == "# mine\n"
    before = (folder / "noria.toml").read_text()
    init("--url", "https://other.example.org")
    assert (folder / "noria.toml").read_text() == before


def test_a_dry_run_writes_nothing(folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    assert "@noria.step" in init("--dry-run").stdout
    assert sorted(folder.rglob("*")) == before


def test_an_empty_folder_gets_an_example_that_is_python(tmp_path: Path) -> None:
    said = init(str(tmp_path)).stdout
    assert "Nothing that trains" in said
    compile((tmp_path / "pipeline.py").read_text(), "pipeline.py", "exec")


@pytest.mark.parametrize(
    ("script", "data"),
    [
        ("src/fit.py", ["data/a.csv", "labels/b.csv"]), ("train.py", ["train.csv"]), ("train.py", []),
        ("train.py", ["noria/x.csv", "import/y.csv", "3d/z.csv"]),
    ],
)  # fmt: skip
def test_what_it_writes_is_python_for_every_layout(tmp_path: Path, script: str, data: list[str]) -> None:
    (tmp_path / script).parent.mkdir(exist_ok=True)
    (tmp_path / script).write_text(SCRIPT + "".join(f"# {d}\npath = {d!r}\n" for d in data))
    for at in data:
        (tmp_path / at).parent.mkdir(exist_ok=True)
        (tmp_path / at).write_text(ROWS)
    init(str(tmp_path))
    text = (tmp_path / "pipeline.py").read_text()
    compile(text, "pipeline.py", "exec")
    assert text.count(".checkout(") == len(data)
    assert len(project.read(tmp_path / "noria.toml").data) == len(data)


def test_a_loop_that_nothing_records_by_itself_becomes_a_run(tmp_path: Path) -> None:
    """MLflow's autologging knows scikit-learn; of a loop in PyTorch it would record nothing, silently."""
    (tmp_path / "train.py").write_text("import torch\nloss = torch.zeros(1)\nloss.backward()\n")
    assert "logs nothing yet: noria.log" in init(str(tmp_path)).stdout
    text = (tmp_path / "pipeline.py").read_text()
    compile(text, "pipeline.py", "exec")
    assert "with noria.init(" in text and "autolog" not in text


def test_a_model_of_somebody_else_needs_no_pipeline(tmp_path: Path) -> None:
    (tmp_path / "vendor").mkdir()
    (tmp_path / "vendor" / "MLmodel").touch()
    said = init(str(tmp_path)).stdout
    assert "noria model register vendor vendor" in said and not (tmp_path / "pipeline.py").exists()


# --- the project's file ----------------------------------------------------------------------------------------------------


def test_a_token_in_the_file_is_refused(folder: Path) -> None:
    (folder / "noria.toml").write_text('token = "nrk_secret"\n')
    with pytest.raises(Invalid, match="no place for it"):
        project.find()


def test_a_word_it_does_not_know_is_named(folder: Path) -> None:
    (folder / "noria.toml").write_text("workers = 3\n")
    with pytest.raises(Invalid, match="workers"):
        project.find()


def test_the_file_counts_below_its_folder_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "noria.toml").write_text('url = "http://127.0.0.1:1"\n')
    monkeypatch.chdir(folder / "data")
    assert api.find_server() == "http://127.0.0.1:1"
    monkeypatch.setenv("NORIA_URL", "http://127.0.0.1:2")
    assert api.find_server() == "http://127.0.0.1:2"


def test_a_token_of_the_environment_is_not_sent_where_a_file_says(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "noria.toml").write_text('url = "http://127.0.0.1:1"\n')
    monkeypatch.setenv("NORIA_TOKEN", "nrk_secret")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder))
    assert api.token_for(api.find_server()) == ""
    monkeypatch.setenv("NORIA_URL", "http://127.0.0.1:1")
    assert api.token_for(api.find_server()) == "nrk_secret"


def test_data_without_a_path_is_asked_for(folder: Path) -> None:
    done = CliRunner().invoke(main, ["data", "commit", "elsewhere"])
    assert done.exit_code == 3 and "noria data commit elsewhere PATH" in done.output


# --- what it writes, run ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("server") / "home")
    made.wait_ready()
    yield made
    made.stop()


@pytest.mark.protocol
def test_the_next_commands_work(folder: Path, server: Server) -> None:
    said = json.loads(init("--json").stdout)
    commands = "\n".join(command for command, _ in said["next"] if command != "noria server")
    assert "accuracy" in type_in(commands, folder, server)
    runs = httpx.get(f"{server.url}/api/v1/runs", params={"columns": "metrics.training_score,status"}).json()
    assert [s for s in runs["columns"]["metrics.training_score"] if s is not None]  # autologging was switched on


@pytest.mark.protocol
def test_somebody_elses_model_is_registered_and_served(tmp_path: Path, server: Server) -> None:
    make = """
import mlflow, pandas
from sklearn.linear_model import LogisticRegression
rows = pandas.DataFrame({"age": [20.0, 30.0, 60.0, 70.0]})
mlflow.sklearn.save_model(LogisticRegression().fit(rows, [0, 0, 1, 1]), "vendor", input_example=rows.head(1))
"""
    subprocess.run([sys.executable, "-c", make], cwd=tmp_path, check=True, capture_output=True, timeout=120)
    commands = """
noria model register risk vendor -m "From the vendor"
noria endpoint deploy risk@1 --name risk
noria endpoint predict risk '[{"age": 65}]'
"""
    said = type_in(commands, tmp_path, server)
    assert """Ask it: noria endpoint predict risk '[{"age": 20.0}]'""" in said
    assert said.rstrip().endswith("\n1")
    refused = CliRunner().invoke(main, ["model", "register", "risk", str(ROOT / "examples")])
    assert refused.exit_code == 3 and "no file MLmodel" in refused.output
