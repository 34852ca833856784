"""Other stores from the server's side: only those that NORIA_REMOTES names; bytes go between the stores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner
from msgspec import structs

from noria.cli.main import main
from noria.client.api import Api
from noria.client.datasets import Dataset
from noria.client.repositories import LocalDataset
from noria.config import Config
from noria.kernel.errors import Conflict, Forbidden, Invalid, NotFound, Unavailable
from noria.repository.repository import open_repository
from tests.conftest import Noria

FRAME = pd.DataFrame({"x": range(50), "y": [f"v{i}" for i in range(50)]})


@pytest.fixture
def config(config: Config, tmp_path: Path) -> Config:
    """Of a server that may go to two stores."""
    return structs.replace(config, remotes=((tmp_path / "shared").as_uri(), "s3://noria/shared"))


@pytest.fixture
def shared(tmp_path: Path) -> str:
    (tmp_path / "shared").mkdir()
    return (tmp_path / "shared").as_uri()


def post(data: Dataset, path: str, **body: Any) -> Any:
    return data._api.post(f"/datasets/flights/{path}", body)


def test_versions_go_out_and_come_back(shared: str, noria: Noria, data: Dataset, tmp_path: Path) -> None:
    first = data.commit({"t.parquet": FRAME, "big.bin": bytes(range(256)) * 2_000}, message="one", alias="train")
    done = post(data, "push", remote=shared)
    assert (done["commits_count"], done["dataset"]) == (1, "flights")
    elsewhere = LocalDataset("flights", open_repository(shared))
    assert elsewhere.version("train").id == first.id
    second = elsewhere.commit({"t.parquet": FRAME.head(9)}, message="two")
    done = post(data, "pull", remote=shared)
    assert done["commits_count"] == 1
    assert data.version().id == second.id and data.version().to_pandas()["x"].tolist() == list(range(9))
    assert [f.data["versions"] for f in noria.facts("dataset.pushed", "dataset.pulled")] == [1, 1]
    assert noria.facts("dataset_version.committed")[-1].data["number"] == 2
    assert post(data, "push", remote=shared)["commits_count"] == 0


def test_a_dataset_that_is_not_here_is_pulled_whole(shared: str, data: Dataset) -> None:
    elsewhere = LocalDataset("flights", open_repository(shared))
    elsewhere.commit({"a.txt": b"1"}, alias="train")
    elsewhere.commit({"a.txt": b"2"})
    assert data._api.get("/datasets/blobs/remote", remote=shared) == [{"name": "flights", "versions_count": 2}]
    assert post(data, "pull", remote=shared)["commits_count"] == 2
    assert data.version("train").read("a.txt") == b"1" and data.version().number == 2


def test_what_both_changed_is_a_branch_and_a_conflict(shared: str, data: Dataset) -> None:
    data.commit({"a.txt": b"0"})
    post(data, "push", remote=shared)
    LocalDataset("flights", open_repository(shared)).commit({"a.txt": b"theirs"})
    data.commit({"a.txt": b"ours"})
    with pytest.raises(Conflict, match=r"a\.txt"):
        post(data, "pull", remote=shared)
    assert data.version("remote.main").read("a.txt") == b"theirs"
    merged, outcome = data.merge("remote.main", strategy="ours")
    assert outcome == "merged" and merged.read("a.txt") == b"ours"
    assert post(data, "push", remote=shared)["commits_count"] == 2


@pytest.mark.parametrize(
    "where", ["file:///etc", "s3://other/shared", "s3://noria/shared/../other", "s3://noria/sharedmore", "/etc", ""]
)
def test_the_server_goes_nowhere_else(shared: str, data: Dataset, where: str) -> None:
    data.commit({"a.txt": b"1"})
    for path, body in (("push", {"remote": where}), ("pull", {"remote": where}), ("link", {"uri": where})):
        with pytest.raises((Forbidden, Invalid)):
            post(data, path, **body)
    with pytest.raises((Forbidden, Invalid)):
        data._api.get("/datasets/blobs/remote", remote=where)
    with pytest.raises((Forbidden, Invalid)):
        data._api.post("/datasets/blobs/repair", {"remote": where})


def test_a_link_of_this_home_to_elsewhere_is_not_read_by_the_server(data: Dataset, noria: Noria, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "a.txt").write_text("secret")
    from noria.repository.links import link_files
    from noria.repository.repository import NewCommit

    repository, uri = open_repository(str(noria.config.blobs_url)), (tmp_path / "secret").as_uri()
    with repository.writing() as writing:
        writing.commit("flights", link_files(uri)[0], NewCommit(actor="eve", link=uri))
    noria.settle()
    with pytest.raises(Forbidden, match="may not go"):
        data.version().read("a.txt")


def test_files_that_stay_where_they_are(shared: str, data: Dataset, tmp_path: Path) -> None:
    place = tmp_path / "shared" / "raw"
    place.mkdir()
    FRAME.to_csv(place / "t.csv", index=False)
    made = post(data, "link", uri=f"{shared}/raw", message="As delivered", alias="raw")
    assert made["is_new"] and made["version"]["files_count"] == 1
    version = data.version("raw")
    assert version.to_pandas()["x"].tolist() == list(range(50))
    assert version.sample().rows[0][0] in (0, "0")
    assert version.profile().tables[0].rows_count == 50
    assert not version.verify().damaged
    (place / "t.csv").write_text("x,y\n1,other\n")
    with pytest.raises(Unavailable, match="changed since it was linked"):
        data.version("raw").read("t.csv")
    assert data.version("raw").verify().damaged
    assert post(data, "link", uri=f"{shared}/raw")["version"]["number"] != 1


def test_damage_is_healed_from_another_store(shared: str, data: Dataset, noria: Noria) -> None:
    version = data.commit({"a.bin": b"precious" * 1000})
    post(data, "push", remote=shared)
    packs = list(Path(str(noria.config.blobs_url)).rglob("*.pack"))
    for pack in packs:
        raw = bytearray(pack.read_bytes())
        raw[len(raw) // 2] ^= 1
        pack.chmod(0o644)
        pack.write_bytes(raw)
    assert data.version().verify().damaged
    done = data._api.post("/datasets/blobs/repair", {"remote": shared})
    assert done["healed"] and not done["left"]
    assert not data.version().verify().damaged and version.read("a.bin") == b"precious" * 1000


def test_who_may(shared: str, noria: Noria, data: Dataset) -> None:
    data.commit({"a.txt": b"1"})
    for role in ("viewer", "contributor", "auditor"):
        api = Api(noria.as_(f"a-{role}", role), url=noria.config.control_url)
        for path, body in (("push", {"remote": shared}), ("pull", {"remote": shared}), ("link", {"uri": shared})):
            with pytest.raises(Forbidden):
                api.post(f"/datasets/flights/{path}", body)
    api = Api(noria.as_("max", "maintainer"), url=noria.config.control_url)
    assert api.post("/datasets/flights/push", {"remote": shared})["commits_count"] == 1
    with pytest.raises(Forbidden):
        api.post("/datasets/blobs/repair", {"remote": shared})
    with pytest.raises(NotFound):
        data._api.post("/datasets/nothing/push", {"remote": shared})


def test_the_commands_ask_the_server(shared: str, data: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NORIA_URL", data._api.url)
    monkeypatch.setenv("NORIA_HOME", str(tmp_path / "nowhere"))
    for module in ("noria.cli.data_stores", "noria.cli.data_group"):
        monkeypatch.setattr(f"{module}.api", lambda: data._api)
    data.commit({"a.txt": b"1"})

    def run(*args: str) -> Any:
        done = CliRunner().invoke(main, ["data", *args, "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    assert run("push", "flights", shared)["commits_count"] == 1
    assert run("pull", "flights", shared)["commits_count"] == 0
    assert [d["dataset"] for d in run("clone", shared)] == ["flights"]
    (tmp_path / "shared" / "raw").mkdir()
    (tmp_path / "shared" / "raw" / "a.txt").write_text("x")
    assert run("link", "raw", f"{shared}/raw")["is_new"]
    assert run("repair", shared)["left"] == []
    assert run("gc", "--dry-run")["is_dry_run"]
    assert {row["dataset"] for row in run("du")} == {"flights", "raw"}
    assert {row["dataset"] for row in run("du", "--remote", shared)} == {"flights"}
