"""Exports: everything of a run as files, readable without Noria; and back again into another Noria, the same."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from noria.app import App, build
from noria.client.api import Api
from noria.client.local import InProcess
from noria.client.moving.exported import Exported
from noria.client.moving.exporter import export
from noria.client.moving.mover import Mover
from noria.client.moving.noria_server import NoriaServer
from noria.client.moving.sinks import open_sink
from noria.client.moving.verify import verify_all
from noria.config import load_config
from noria.http.asgi import asgi
from noria.kernel.errors import AlreadyExists, Invalid, NoriaError, NotFound
from noria.kernel.ids import new_id
from noria.kernel.op import Actor, Op
from noria.tracking.model import DatasetInput, Point

ROOT = Path(__file__).parents[2]
FORMS = ["folder", "x.zip", "x.tar", "x.tar.gz"]


class Place:
    """A Noria of its own, on SQLite."""

    def __init__(self, folder: Path, template: Path) -> None:
        folder.mkdir()
        shutil.copy(template, folder / "noria.db")
        config = load_config({}, home=str(folder / "home"), database=f"sqlite:///{folder / 'noria.db'}")
        self.app: App = build(config)
        import httpx

        self._transport = InProcess(asgi(self.app, checks=True))
        self.api = Api(
            httpx.Client(transport=self._transport, base_url=config.control_url, timeout=60), url=config.control_url
        )

    def op(self) -> Op:
        return self.app.ops.mint(Actor(kind="user", id="local", name="ada"))

    def close(self) -> None:
        self.api.close()
        self._transport.close()
        self.app.db.close()


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[tuple[Place, Place]]:
    made = tuple(Place(tmp_path_factory.mktemp("place") / "noria", sqlite_template) for _ in range(2))
    yield made  # type: ignore[misc]
    for place in made:
        place.close()


def a_run(place: Place, experiment: str = "flights", **more: Any) -> str:
    """A run with one of everything; its id."""
    op, tracking = place.op(), place.app.tracking
    found = tracking.experiment_by_name(op, experiment, create=True)
    run = tracking.create_run(
        op, found.id, more.get("name", "first"), more.get("tags", {"k": "v"}), started_at_ms=5, run_id=new_id()
    )
    points = more.get(
        "points", [Point(key="loss", value=v, at_ms=7 + i, step=i) for i, v in enumerate((1.0, math.nan, -math.inf))]
    )
    tracking.log_batch(op, run.id, points, more.get("params", {"lr": "0.1"}))
    for path, data in more.get("files", {"plots/ü 1.png": b"\x89PNG", "empty": b""}).items():
        tracking.put_artifact(op, run.id, path, data)
    if text := more.get("log", "one\nzwei ü\n"):
        tracking.append_log(op, run.id, text)
    tracking.log_inputs(
        op, run.id, [DatasetInput(name="d", digest="1", source="s3://x", schema="{}", tags={"context": "train"})]
    )
    if more.get("has_model", True):
        model = tracking.models.create(op, found.id, name="model", run_id=run.id, params={"p": "1"}, tags={"t": "1"})
        tracking.log_batch(op, run.id, [Point(key="acc", value=0.5, at_ms=9, step=1, model_id=model.id, dataset_name="d")])
        tracking.put_at(op, tracking.place(op, f"models:/{model.id}/MLmodel"), b"flavors: {}\n")
        tracking.models.finalize(op, model.id, "LOGGED_MODEL_READY")
    tracking.finish_run(op, run.id, more.get("status", "FAILED"), 99)
    return str(run.id)


def written(
    place: Place, target: Path, *, runs: list[str] | None = None, metrics: str = "parquet", **more: Any
) -> dict[str, Any]:
    source = NoriaServer(place.api, experiments=more.pop("experiments", []), runs=runs or [], **more)
    with open_sink(target) as sink:
        return export(source, sink, metrics=metrics)


def state(place: Place, run_id: str) -> dict[str, Any]:
    """Everything of a run but its experiment's id and who sent it."""
    op, tracking = place.op(), place.app.tracking
    run = tracking.run(op, run_id)
    points = {
        key: [(p.step, p.at_ms, repr(p.value)) for p in tracking.history(op, run_id, key, limit=5_000).items]
        for key in run.metrics
    }
    models = [tracking.models.get(op, use.model_id) for use in run.models]
    return {
        "run": (run.name, run.status, run.stage, run.user, run.started_at_ms, run.ended_at_ms, run.params, run.inputs, run.models),
        "tags": {k: v for k, v in run.tags.items() if not k.startswith("noria.import.")},
        "points": points, "log": tracking.log_page(op, run_id).text,
        "files": {f.path: f.digest for f in tracking.files(op, run_id)},
        "models": [
            (m.name, m.status, m.params, {k: v for k, v in m.tags.items() if not k.startswith("noria.import.")}, m.created_at_ms,
             m.source_run_id, m.points)
            for m in models
        ],
    }  # fmt: skip


def arrive(place: Place, path: Path) -> Any:
    opened = Exported(path)
    try:
        report = Mover(place.api, opened).move()
        verify_all(place.api, opened, report, only=None)
        return report
    finally:
        opened.close()


_text = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\x00"), max_size=20)
_key = st.text("abc/_ .-", min_size=1, max_size=6).filter(
    lambda k: all(p.strip(" .") and p == p.strip() for p in k.split("/"))
)
_float = st.floats(width=64)
_int64 = st.integers(-(2**63), 2**63 - 1)
_points = st.lists(
    st.builds(Point, key=_key, value=_float, at_ms=st.integers(0, 2**63 - 1), step=_int64),
    max_size=30,
    unique_by=lambda p: (p.key, p.step),
)
_file = st.text("ab%ü. ", min_size=1, max_size=6).filter(lambda n: n.strip() and set(n) != {"."} and n == n.strip())
_files = st.dictionaries(_file, st.binary(max_size=50), max_size=4)


@given(
    params=st.dictionaries(_key, _text, max_size=5), tags=st.dictionaries(_key, _text, max_size=5), points=_points, files=_files,
    log=st.text(st.characters(blacklist_categories=["Cs", "Cc"]) | st.just("\n"), max_size=40), has_model=st.booleans(),
    form=st.sampled_from(FORMS), metrics=st.sampled_from(["parquet", "csv"]), status=st.sampled_from(["FINISHED", "FAILED", "KILLED"]),
)  # fmt: skip
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_run_is_the_same_after_a_journey(
    places: tuple[Place, Place], tmp_path_factory: pytest.TempPathFactory, form: str, metrics: str, **more: Any
) -> None:
    here, there = places
    try:
        run_id = a_run(here, **more)
    except Invalid:
        reject()  # by the rules of names
    target = tmp_path_factory.mktemp("export") / form
    written(here, target, runs=[run_id], metrics=metrics)
    report = arrive(there, target)
    assert report.is_clean, (report.left_out, report.differences)
    assert state(there, run_id) == state(here, run_id)
    assert arrive(there, target).counts["runs"]["already"] == 1


def test_an_experiment_is_written_as_files_that_need_no_noria(
    places: tuple[Place, Place], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("noria.client.moving.noria_server.RUNS_PER_PAGE", 2)  # so that pages follow pages
    monkeypatch.setattr("noria.client.moving.mlflow_server.POINTS_PER_PAGE", 2)
    here, there = places
    ids = [a_run(here, "wholly", name=f"run {i}") for i in range(3)]
    gone = a_run(here, "wholly", name="gone", has_model=False)
    here.app.tracking.delete_run(here.op(), gone)
    target = tmp_path / "out"
    counts = written(here, target, experiments=["wholly"])
    assert (counts["runs"], counts["models"], counts["points"], counts["files"]) == (3, 3, 12, 9)
    about = json.loads((target / "export.json").read_text())
    assert about["format"] == 1 and sorted(about["runs"]) == sorted(ids)
    for run_id in ids:
        run = json.loads((target / f"runs/{run_id}/run.json").read_text())
        assert run["params"] == {"lr": "0.1"} and run["status"] == "FAILED" and run["ended_at_ms"] == 99
        table = pq.read_table(target / f"runs/{run_id}/metrics.parquet").to_pydict()
        assert table["key"] == ["acc", "loss", "loss", "loss"] and table["step"] == [1, 0, 1, 2]
        assert repr(table["value"]) == "[0.5, 1.0, nan, -inf]"
        assert (target / f"runs/{run_id}/console.log").read_text() == "one\nzwei ü\n"
        assert (target / f"runs/{run_id}/artifacts/plots/ü 1.png").read_bytes() == b"\x89PNG"
    summed = subprocess.run(
        ["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=target, capture_output=True, text=True, check=False
    )
    assert summed.returncode == 0, summed.stderr
    listed = {line.split("  ", 1)[1] for line in (target / "SHA256SUMS").read_text().splitlines()}
    assert listed == {p.relative_to(target).as_posix() for p in target.rglob("*") if p.is_file()} - {"SHA256SUMS"}
    assert written(here, tmp_path / "all.zip", experiments=["wholly"], with_deleted=True)["runs"] == 4
    assert arrive(there, tmp_path / "all.zip").counts["runs"]["new"] == 4
    assert there.app.tracking.run(there.op(), gone).stage == "deleted"


def test_points_as_csv(places: tuple[Place, Place], tmp_path: Path) -> None:
    run_id = a_run(places[0])
    written(places[0], tmp_path / "out", runs=[run_id], metrics="csv")
    rows = list(csv.reader((tmp_path / f"out/runs/{run_id}/metrics.csv").open()))
    assert rows == [
        ["key", "step", "at_ms", "value"], ["acc", "1", "9", "0.5"], ["loss", "0", "7", "1.0"], ["loss", "1", "8", "NaN"],
        ["loss", "2", "9", "-Infinity"],
    ]  # fmt: skip


def test_an_export_appears_whole_or_not_at_all(
    places: tuple[Place, Place], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = a_run(places[0])
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").write_bytes(b"")
    (tmp_path / "x.zip").write_bytes(b"")
    for name in ("there", "x.zip"):
        with pytest.raises(AlreadyExists):
            written(places[0], tmp_path / name, runs=[run_id])
    for wrong in ({"runs": ["nothing"]}, {"experiments": ["nothing"]}):
        with pytest.raises(NotFound):
            written(places[0], tmp_path / "out", **wrong)  # type: ignore[arg-type]
    with pytest.raises(Invalid):
        written(places[0], tmp_path / "x.rar", runs=[run_id])
    before = sorted(tmp_path.iterdir())
    for form in ("out", "out.zip", "out.tar"):
        monkeypatch.setattr(NoriaServer, "read", lambda *_: iter([b"short"]))  # a file that is not as long as it was said
        with pytest.raises(NoriaError):
            written(places[0], tmp_path / form, runs=[run_id])
        assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("form", FORMS)
def test_what_was_changed_on_the_way_is_refused(places: tuple[Place, Place], tmp_path: Path, form: str) -> None:
    here, there = places
    run_id = a_run(here)
    written(here, tmp_path / "good" / form, runs=[run_id])
    folder = tmp_path / "folder"
    unpack(tmp_path / "good" / form, folder)
    Exported(folder).close()
    artifact = folder / f"runs/{run_id}/artifacts/plots/ü 1.png"
    for harm in (
        lambda: artifact.write_bytes(b"other"), artifact.unlink, lambda: (artifact.unlink(), artifact.symlink_to("/etc/hostname")),
        lambda: edit(folder / "SHA256SUMS", lambda text: text.replace("runs/", "../runs/")),
        lambda: edit(folder / "SHA256SUMS", lambda text: text.replace("runs/", "/etc/")),
        lambda: edit(folder / "SHA256SUMS", lambda text: text.replace("  ", " ")),
        lambda: (folder / "SHA256SUMS").unlink(),
    ):  # fmt: skip
        harm()
        packed = tmp_path / f"bad-{form}"
        pack(folder, packed)
        with pytest.raises(Invalid):
            Exported(packed)
        remove(packed)
        shutil.rmtree(folder)
        unpack(tmp_path / "good" / form, folder)
    facts = {"run.json": '{"id": "r1"}', "export.json": '{"format": 2}'}
    for name, text in facts.items():
        path = next(folder.rglob(name))
        path.write_text(text)
        resum(folder)
        with pytest.raises(Invalid):
            arrive(there, folder)
        shutil.rmtree(folder)
        unpack(tmp_path / "good" / form, folder)


def test_an_archive_cannot_write_elsewhere(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("../out", "x")
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        link = tarfile.TarInfo("a")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        archive.addfile(link)
    (tmp_path / "x.tgz").write_bytes(b"nonsense")
    for name in ("x.zip", "x.tar", "x.tgz"):
        with pytest.raises(Invalid):
            Exported(tmp_path / name)
    assert not (tmp_path.parent / "out").exists()
    with pytest.raises(NotFound):
        Exported(tmp_path / "nothing")


def edit(path: Path, change: Any) -> None:
    path.write_text(change(path.read_text()))


def unpack(source: Path, folder: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, folder)
    elif source.suffix == ".zip":
        zipfile.ZipFile(source).extractall(folder)
    else:
        with tarfile.open(source) as archive:
            archive.extractall(folder, filter="data")


def pack(folder: Path, target: Path) -> None:
    if target.suffix == ".zip":
        with zipfile.ZipFile(target, "w") as archive:
            for path in sorted(p for p in folder.rglob("*") if p.exists()):
                archive.write(path, path.relative_to(folder))
    elif ".tar" in target.name:
        with tarfile.open(target, "w:gz" if target.name.endswith("gz") else "w") as archive:
            archive.add(folder, ".", recursive=False)
            for path in sorted(p for p in folder.rglob("*") if p.exists() or p.is_symlink()):
                archive.add(path, path.relative_to(folder).as_posix(), recursive=False)
    else:
        shutil.copytree(folder, target, symlinks=True)


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def resum(folder: Path) -> None:
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "SHA256SUMS")
    lines = [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.relative_to(folder).as_posix()}\n" for p in files]
    (folder / "SHA256SUMS").write_text("".join(lines))


@pytest.mark.slow
def test_the_commands_as_a_user_has_them(tmp_path: Path) -> None:
    def noria(home: str, *args: str, code: int = 0) -> str:
        plain = {k: v for k, v in os.environ.items() if not k.startswith(("NORIA", "MLFLOW"))}
        done = subprocess.run(
            [sys.executable, "-m", "noria.cli.main", *args], capture_output=True, text=True, timeout=120, cwd=tmp_path,
            env=plain | {"NORIA_HOME": str(tmp_path / home), "PYTHONPATH": str(ROOT), "NORIA_JOURNALS": str(tmp_path / "j")},
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    app = build(load_config({}, home=str(tmp_path / "one")))
    op = app.ops.mint(Actor(kind="user", id="local", name="ada"))
    experiment = app.tracking.create_experiment(op, "flights")
    run = app.tracking.create_run(op, experiment.id, "first")
    app.tracking.log_batch(op, run.id, [Point(key="loss", value=0.5, at_ms=1)], {"lr": "1"})
    app.tracking.finish_run(op, run.id)
    app.db.close()
    assert "Wrote 1 runs with 1 points" in noria("one", "run", "export", "-e", "flights", "-o", "flights.tgz")
    assert "exists already" in noria("one", "run", "export", run.id, "-o", "flights.tgz", code=7)
    assert "Name the runs" in noria("one", "run", "export", "-o", "x", code=3)
    assert "Nothing was changed" in noria("two", "import", "runs", "flights.tgz", "--dry-run")
    assert "Verified: 1 runs, 1 points" in noria("two", "import", "runs", "flights.tgz", "--verify")
    assert '"lr": "1"' in noria("two", "run", "show", run.id, "--json")
    (tmp_path / "flights.tgz").write_bytes((tmp_path / "flights.tgz").read_bytes()[:-40])
    assert "no archive that can be read to its end" in noria("two", "import", "runs", "flights.tgz", code=3)
