"""Branches, tags, merges and the store, through the door; and the same home with and without a server."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from noria.client.datasets import Dataset
from noria.client.repositories import LocalDataset
from noria.kernel.clock import ManualClock
from noria.kernel.errors import AlreadyExists, Conflict, Invalid, NotFound
from noria.repository.repository import open_repository
from tests.conftest import Noria


def read(data: Dataset, selector: str | int = "latest") -> dict[str, bytes]:
    version = data.version(selector)
    return {f.path: version.read(f.path) for f in version.files()}


def test_a_branch_goes_its_own_way_and_comes_back(data: Dataset, noria: Noria) -> None:
    data.commit({"a": b"1", "b": b"1"})
    data.branch("trial")
    with pytest.raises(AlreadyExists):
        data.branch("trial")
    made = data.commit({"a": b"1", "b": b"2"}, branch="trial")
    assert (made.number, made.info.branch, data.version().number) == (2, "trial", 1)
    data.commit({"a": b"3", "b": b"1"})
    head, outcome = data.merge("trial")
    assert (outcome, head.number, len(head.info.parents)) == ("merged", 4, 2)
    assert read(data) == {"a": b"3", "b": b"2"}
    assert [v.number for v in data.versions(branch="main")] == [4, 3, 1]
    assert data.merge("trial")[1] == "nothing"
    assert data.merge("main", into="trial")[1] == "fast-forward"
    assert {n: v.number for n, v in data.branches().items()} == {"main": 4, "trial": 4}
    data.delete_branch("trial")
    with pytest.raises(NotFound):
        data.version("trial")
    moved = [e.data["number"] for e in noria.facts("dataset_branch.moved")]
    assert moved == [1, 2, 4, None]


def test_a_merge_that_conflicts_names_the_paths(data: Dataset) -> None:
    data.commit({"a": b"0"})
    data.branch("trial")
    data.commit({"a": b"1"}, branch="trial")
    data.commit({"a": b"2"})
    with pytest.raises(Conflict, match="Both sides changed a"):
        data.merge("trial")
    assert data.version().number == 3
    data.merge("trial", strategy="theirs", message="theirs is right")
    assert read(data) == {"a": b"1"} and data.version().message == "theirs is right"


def test_a_tag_never_moves_and_keeps_its_version(data: Dataset, noria: Noria) -> None:
    data.commit({"a": b"1"})
    data.tag("paper")
    data.tag("paper", 1)
    data.commit({"a": b"2"})
    with pytest.raises(AlreadyExists):
        data.tag("paper")
    with pytest.raises(Conflict, match="called paper"):
        data.delete(1)
    assert read(data, "paper") == {"a": b"1"}
    data.delete_tag("paper")
    data.delete(1)
    assert [e.data["number"] for e in noria.facts("dataset_tag.set")] == [1, None]
    for name in ("latest", "3", "a b"):
        with pytest.raises(Invalid):
            data.tag(name)


def test_the_server_collects_by_itself(data: Dataset, noria: Noria, clock: ManualClock) -> None:
    data.commit({"a.bin": b"1" * 1000})
    data.commit({"a.bin": b"2" * 1000})
    data.delete(1)
    for pack in Path(str(noria.config.blobs_url)).rglob("*"):  # as if two days had passed: the store keeps the real time
        os.utime(pack, (1, 1))

    def packs() -> int:
        return len(list(Path(str(noria.config.blobs_url)).rglob("*.pack")))

    noria.settle()
    assert packs() == 2
    clock.advance(25 * 3600)
    noria.settle()
    assert packs() == 1
    assert data.version().read("a.bin") == b"2" * 1000


def test_what_is_deleted_is_collected_through_the_door(data: Dataset, noria: Noria) -> None:
    data.commit({"a": b"1" * 5000})
    data.commit({"a": b"2" * 5000})
    data.delete(1)
    collect = "/api/v1/datasets/blobs/collect?grace_s=-1"
    assert noria.http.post(collect + "&dry_run=true").json()["packs_count"] == 1
    assert noria.as_("eve", "viewer").post(collect).status_code in (403, 404)
    assert noria.http.post(collect).json()["packs_count"] == 1
    assert read(data) == {"a": b"2" * 5000}
    usage = noria.http.get("/api/v1/datasets/blobs/usage").json()
    assert [(u["dataset"], u["versions_count"]) for u in usage] == [("flights", 1)]


@pytest.mark.parametrize("grace", ["NaN", "Infinity", "-Infinity", "1e300"])
def test_a_grace_time_that_is_none_is_refused(noria: Noria, grace: str) -> None:
    refused = noria.http.post(f"/api/v1/datasets/blobs/collect?grace_s={grace}")
    assert refused.status_code == 400 and refused.json()["error"]["where"] == "grace_s"


def test_a_home_is_the_same_with_and_without_a_server(data: Dataset, noria: Noria, tmp_path: Path) -> None:
    """What the command line commits on the home is a version of the server, and the other way round."""
    one = data.commit({"a": b"1"}, alias="train")
    local = LocalDataset("flights", open_repository(noria.config.blobs_url))
    assert local.version("train").id == one.id
    two = local.commit({"a": b"2"}, message="without a server")
    local.move_alias("train", two.number)
    local.tag("paper", 1)
    noria.app.datasets.adopter(noria.system).reconcile()
    assert (data.version("train").id, data.version("paper").id) == (two.id, one.id)
    assert data.version().message == "without a server"
    assert [e.data["number"] for e in noria.facts("dataset_version.committed")] == [1, 2]
    local.commit({"a": b"3"})
    assert data.commit({"a": b"4"}).number == 4, "a change catches up by itself"
    assert [v.number for v in data.versions()] == [4, 3, 2, 1]
    assert [v.id for v in local.versions()] == [v.id for v in data.versions()]
    noria.app.datasets.adopter(noria.system).reconcile()
    assert len(noria.facts("dataset_version.committed")) == 4, "nothing is taken over twice"


def test_an_index_that_fell_behind_catches_up(data: Dataset, noria: Noria) -> None:
    """The process died after the references moved and before the rows did."""
    from noria.kernel import crash
    from noria.kernel.crash import Crashed

    data.commit({"a": b"1"})
    service, op = noria.app.datasets, noria.op()
    files = data.version().files()
    crash.arm("ref.moved")
    from noria.datasets.model import FileEntry

    entries = [FileEntry(path="b", size_bytes=f.size_bytes, digest=f.digest) for f in files]
    with pytest.raises(Crashed):
        service.commit(op, "flights", entries)
    assert data.version().number == 1
    noria.app.datasets.adopter(noria.system).reconcile()
    assert data.version().number == 2 and read(data) == {"b": b"1"}
