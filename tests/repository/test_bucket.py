"""The same repository in a real S3 bucket: commits, compare-and-set, clone, partial reads, collecting beside writers."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from noria.kernel import crash
from noria.kernel.crash import Crashed
from noria.kernel.errors import Conflict, Invalid
from noria.repository.check import verify
from noria.repository.checkout import checkout
from noria.repository.collect import collect
from noria.repository.ingest import gather
from noria.repository.objects import BucketObjects
from noria.repository.repository import NewCommit, Repository, open_repository
from noria.repository.transfer import pull, push
from tests.kernel.test_blobs import s3
from tests.repository.conftest import commit_files, content, write_files

__all__ = ["s3"]
pytestmark = pytest.mark.slow
NOISE = random.Random(5).randbytes(2_000_000)
FILES = {"big.bin": NOISE, "small.txt": b"small", "d/other.txt": b"other" * 1000}


@pytest.fixture
def bucket(s3: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of an empty prefix."""
    for name, value in {
        "ENDPOINT_URL": s3, "ALLOW_HTTP": "true", "ACCESS_KEY_ID": "any", "SECRET_ACCESS_KEY": "any", "REGION": "us-east-1",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"AWS_{name}", value)
    return f"s3://noria/r{time.time_ns()}"


def requests(repository: Repository) -> int:
    assert isinstance(repository.objects, BucketObjects)
    return repository.objects.requests_count


def test_a_version_has_the_same_id_in_a_bucket_and_on_disk(bucket: str, repository: Repository, tmp_path: Path) -> None:
    there = open_repository(bucket)
    ours = commit_files(repository, "d", FILES, tmp_path / "s")
    theirs = commit_files(there, "d", FILES, tmp_path / "s")
    assert ours.commit.root == theirs.commit.root
    again = open_repository(bucket)
    assert content(again, again.version("d")) == FILES
    assert verify(again).faults == []
    keys = {item.key.split("/")[0] for item in again.objects.list("")}
    assert keys == {"format.json", "packs", "trees", "commits", "refs"}


def test_of_writers_at_the_same_time_each_makes_a_version(bucket: str, tmp_path: Path) -> None:
    def work(i: int) -> int | None:
        return commit_files(open_repository(bucket), "d", {"f": b"%d" % i * 1000}, tmp_path / f"s{i}").number

    with ThreadPoolExecutor(5) as pool:
        assert sorted(n or 0 for n in pool.map(work, range(10))) == list(range(1, 11))
    repository = open_repository(bucket)
    assert [v.number for v in repository.versions("d", branch="main")] == list(range(10, 0, -1))


def test_of_movers_with_the_same_expectation_one_wins(bucket: str, tmp_path: Path) -> None:
    commit_files(open_repository(bucket), "d", {"f": b"1"}, tmp_path / "s")

    def move(_: int) -> bool:
        try:
            open_repository(bucket).move_alias("d", "train", "1", expect=0, actor=str(_))
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        won = list(pool.map(move, range(6)))
    assert sum(won) == 1


def test_clone_costs_few_requests_and_a_part_costs_less(bucket: str, repository: Repository, tmp_path: Path) -> None:
    files = {f"d{i % 10}/{i}": b"%d" % i * 50 for i in range(2000)}
    commit_files(repository, "d", {**files, **FILES}, tmp_path / "s")
    remote = open_repository(bucket)
    push(repository, remote, "d")
    assert requests(remote) < 60, "packs, not files"
    remote = open_repository(bucket)
    other = open_repository(str(tmp_path / "other"))
    pull(other, remote, "d")
    assert requests(remote) < 40
    assert content(other, other.version("d")) == {**files, **FILES}
    remote = open_repository(bucket)
    wanted = {p: f for p, f in remote.manifest(remote.version("d").commit.root).items() if p.startswith("d3/")}
    out = checkout(remote, wanted, tmp_path / "part")
    assert len(list((out / "d3").iterdir())) == 200
    assert requests(remote) < 15


def test_an_interrupted_upload_goes_on(bucket: str, repository: Repository, tmp_path: Path) -> None:
    commit_files(repository, "d", FILES, tmp_path / "s")
    commit_files(repository, "d", {**FILES, "more": NOISE[::-1]}, tmp_path / "s")
    crash.arm("pack.published")
    with pytest.raises(Crashed):
        push(repository, open_repository(bucket), "d")
    crash.arm("transfer.packs_sent")
    with pytest.raises(Crashed):
        push(repository, open_repository(bucket), "d")
    remote = open_repository(bucket)
    assert remote.datasets() == []
    assert push(repository, remote, "d").sent_bytes == 0, "all of it had arrived"
    assert content(remote, remote.version("d")) == {**FILES, "more": NOISE[::-1]}


def test_collecting_beside_writers(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps with tombstones: a writer that relied on what is about to go is refused, and its next try stores it anew."""
    repository = open_repository(bucket)
    commit_files(repository, "d", FILES, tmp_path / "s")
    commit_files(repository, "d", {"x": b"x"}, tmp_path / "s")
    repository.delete_version("d", "1")
    with pytest.raises(Invalid, match="at least 60"):
        collect(repository, grace_s=0)
    monkeypatch.setattr("noria.repository.collect.GRACE_S_MIN_BUCKET", -100.0)
    source = write_files(tmp_path / "again", FILES)
    with repository.writing() as early:
        found = gather(early, source)
        first = collect(open_repository(bucket), grace_s=-10)
        assert (first.packs_count, first.waiting_count) == (0, 1), "the first step only marks"
        with pytest.raises(Conflict, match="being collected"):
            early.commit("d", found.files, NewCommit(), root=found.root)
    with repository.writing() as late:  # does not rely on what is marked
        found = gather(late, source)
        assert found.stored_bytes > 2_000_000
        made, _ = late.commit("d", found.files, NewCommit(), root=found.root)
    done = collect(open_repository(bucket), grace_s=-10)
    assert done.packs_count == 1
    fresh = open_repository(bucket)
    assert content(fresh, made) == FILES
    assert verify(fresh).faults == [] and fresh.tombstones() == {}
