"""Collecting, verifying, repairing, pushing and pulling between repositories in folders."""

from __future__ import annotations

import random
import resource
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from noria.datasets import manifest
from noria.kernel import crash
from noria.kernel.crash import Crashed
from noria.kernel.errors import Conflict, Invalid, NotFound, Unavailable
from noria.repository import trees
from noria.repository.check import repair, verify
from noria.repository.checkout import checkout
from noria.repository.collect import collect, usage
from noria.repository.links import link_files, read_linked
from noria.repository.merge import MergeConflict, merge, merge_files
from noria.repository.repository import Repository, open_repository
from noria.repository.transfer import pull, push
from tests.repository.conftest import commit_files, commit_folder, content, write_files

NOISE = random.Random(11).randbytes(3_000_000)
FILES = {"big.bin": NOISE, "small.txt": b"small", "d/other.txt": b"other" * 1000}


def packs(repository: Repository) -> list[Path]:
    return sorted(Path(repository.url.removeprefix("file://")).glob("packs/*/*.pack"))


def stored(repository: Repository) -> int:
    return sum(p.stat().st_size for p in packs(repository))


def test_an_edit_in_a_big_file_costs_the_chunks_around_it(repository: Repository, tmp_path: Path) -> None:
    commit_files(repository, "d", {"f": NOISE}, tmp_path / "s")
    before = stored(repository)
    edited = NOISE[:1_500_000] + b"an edit" + NOISE[1_500_000:]
    made = commit_files(repository, "other", {"g": edited}, tmp_path / "s")
    assert content(repository, made) == {"g": edited}
    assert stored(repository) - before < 1_200_000
    assert {u.dataset: u.versions_count for u in usage(repository)} == {"d": 1, "other": 1}
    shared = {u.dataset: u.stored_bytes - u.only_here_bytes for u in usage(repository)}
    assert shared["d"] == shared["other"] > 1_500_000


def test_what_compresses_is_stored_compressed(repository: Repository, tmp_path: Path) -> None:
    text = b"".join(b"%d,%d\n" % (i, i % 7) for i in range(200_000))
    made = commit_files(repository, "d", {"t.csv": text}, tmp_path / "s")
    assert stored(repository) < len(text) / 2
    assert content(repository, made) == {"t.csv": text}


def test_a_small_change_writes_a_small_tree(repository: Repository, tmp_path: Path) -> None:
    files = {f"d{i % 50}/{i}": b"%d" % i for i in range(3000)}
    first = commit_files(repository, "d", files, tmp_path / "s")
    second = commit_files(repository, "d", {**files, "d1/1": b"changed"}, tmp_path / "s")
    root = Path(repository.url.removeprefix("file://")) / "trees"
    sizes = [(root / v.commit.root[:2] / v.commit.root).stat().st_size for v in (first, second)]
    assert sizes[1] < 1000 < sizes[0]
    assert content(open_repository(str(tmp_path / "store")), second)["d1/1"] == b"changed"


def test_an_empty_file_beside_others_is_no_damage(repository: Repository, tmp_path: Path) -> None:
    for data in (b"b", b"c", b"d", b"e", b"f"):  # an empty payload lies before or behind another, by their digests
        commit_files(repository, data.decode(), {"a": b"", "f": data}, tmp_path / data.decode())
    assert verify(repository).faults == []


def test_collecting_frees_deleted_versions_and_keeps_the_rest(repository: Repository, tmp_path: Path) -> None:
    commit_files(repository, "d", FILES, tmp_path / "s")
    kept = commit_files(repository, "d", {"small.txt": b"small"}, tmp_path / "s")
    repository.delete_version("d", "1")
    size = stored(repository)
    assert collect(repository).freed_bytes < 1000, "younger than the grace time: only an old tree may go"
    assert collect(repository, grace_s=-1, dry_run=True).freed_bytes > 2_900_000
    assert stored(repository) == size, "a dry run removes nothing"
    done = collect(repository, grace_s=-1)
    assert (done.rewritten_count, stored(repository) < 1000) == (1, True)
    assert content(repository, kept) == {"small.txt": b"small"}
    assert content(open_repository(str(tmp_path / "store")), kept) == {"small.txt": b"small"}
    assert verify(repository).faults == []


def test_collecting_waits_for_writers(repository: Repository, tmp_path: Path) -> None:
    """A writer relies on bytes that nothing else needs; the collector cannot take them from under it."""
    commit_files(repository, "d", FILES, tmp_path / "s")
    commit_files(repository, "d", {"x": b"x"}, tmp_path / "s")
    repository.delete_version("d", "1")
    from noria.repository.ingest import gather
    from noria.repository.repository import NewCommit

    with ThreadPoolExecutor(1) as pool:
        with repository.writing() as writing:
            found = gather(writing, write_files(tmp_path / "again", FILES))
            collecting = pool.submit(collect, open_repository(str(tmp_path / "store")), grace_s=-1)
            made, _ = writing.commit("d", found.files, NewCommit(), root=found.root)
        collecting.result(60)
    assert content(open_repository(str(tmp_path / "store")), made) == FILES


def test_writers_at_the_same_time_each_make_a_version(repository: Repository, tmp_path: Path) -> None:
    def work(i: int) -> int | None:
        mine = open_repository(str(tmp_path / "store"))
        return commit_files(mine, "d", {"f": b"%d" % i * 1000, "same": NOISE[:300_000]}, tmp_path / f"s{i}").number

    with ThreadPoolExecutor(6) as pool:
        assert sorted(n or 0 for n in pool.map(work, range(12))) == list(range(1, 13))
    chain = [v.number for v in repository.versions("d", branch="main")]
    assert chain == list(range(12, 0, -1)), "one chain of parents"
    assert verify(repository).faults == []


def flip(path: Path, at: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_what_changed_is_told_by_the_steps_between_two_versions(repository: Repository, tmp_path: Path) -> None:
    """Of any two versions, on two branches: the same as from the whole lists of files."""
    rng = random.Random(3)
    now = {f"d{i % 7}/{i:03d}": b"%d" % i for i in range(300)}
    heads = {"main": dict(now)}
    commit_files(repository, "d", now, tmp_path / "s")
    repository.branch("d", "side")
    heads["side"] = dict(now)
    for i in range(24):
        branch = "main" if i % 3 else "side"
        files = heads[branch]
        for path in rng.sample(sorted(files), 3):
            if rng.random() < 0.4:
                del files[path]
            else:
                files[path] = rng.randbytes(4)
        files[f"new/{rng.randrange(40)}"] = b"new"
        commit_files(repository, "d", files, tmp_path / "s", branch=branch)
    roots = [v.commit.root for v in repository.versions("d")]
    assert len({bool(trees.read_head(repository.objects.read(trees.tree_key(r)), r).base) for r in roots}) == 2
    for a in roots:
        for b in roots:
            assert repository.changes(a, b) == manifest.changes(repository.manifest(a), repository.manifest(b))


@pytest.mark.parametrize("what", ["packs/*/*.pack", "packs/*/*.idx", "trees/*/*", "commits/*/*"])
@pytest.mark.parametrize("how", ["flipped", "gone"])
def test_damage_is_found_and_healed_from_a_remote(repository: Repository, tmp_path: Path, what: str, how: str) -> None:
    commit_files(repository, "d", {"small.txt": b"first"}, tmp_path / "s")
    made = commit_files(repository, "d", FILES, tmp_path / "s")
    remote = open_repository(str(tmp_path / "remote"))
    push(repository, remote, "d")
    for path in (tmp_path / "store").glob(what):
        flip(path) if how == "flipped" else path.unlink()
    broken = open_repository(str(tmp_path / "store"))
    assert verify(broken).faults
    with pytest.raises((Unavailable, NotFound)):
        content(broken, broken.version("d"))
    if what.startswith("packs"):
        with pytest.raises(Unavailable):
            collect(broken, grace_s=-1) if what.endswith("idx") else content(broken, broken.version("d"))
    done = repair(broken, remote)
    assert done.left == [] and done.healed
    healed = open_repository(str(tmp_path / "store"))
    assert verify(healed).faults == []
    assert content(healed, made) == FILES


def test_damage_that_no_remote_can_heal_is_left_and_said(repository: Repository, tmp_path: Path) -> None:
    commit_files(repository, "d", FILES, tmp_path / "s")
    flip(packs(repository)[0])
    done = repair(repository, open_repository(str(tmp_path / "empty")))
    assert [f.kind for f in done.left] == ["bytes"] and done.healed == []
    assert packs(repository), "what is damaged is not thrown away"


def test_push_pull_and_clone(repository: Repository, tmp_path: Path) -> None:
    remote, other = open_repository(str(tmp_path / "remote")), open_repository(str(tmp_path / "other"))
    commit_files(repository, "secret", {"s": b"not for others" * 50}, tmp_path / "s")
    first = commit_files(repository, "d", FILES, tmp_path / "s", alias="train")
    repository.tag("d", "paper")
    assert push(repository, remote, "d").packs_count == 1
    assert push(repository, remote, "d").sent_bytes == 0, "nothing is sent twice"
    pull(other, remote, "d")
    assert content(other, other.version("d", "paper")) == FILES
    assert [r.dataset for r in remote.datasets()] == ["d"]
    # Both go on; who is second to push has to pull, and keeps the published numbers.
    mine = commit_files(repository, "d", {**FILES, "mine": b"m"}, tmp_path / "s")
    commit_files(other, "d", {**FILES, "theirs": b"t"}, tmp_path / "s")
    push(repository, remote, "d")
    with pytest.raises(Conflict, match="not here"):
        push(other, remote, "d")
    done = pull(other, remote, "d")
    assert (done.outcome, done.renumbered) == ("merged", {2: 3})
    assert other.version("d", "2").id == mine.id
    assert content(other, other.version("d")) == {**FILES, "mine": b"m", "theirs": b"t"}
    push(other, remote, "d")
    pull(repository, remote, "d")
    assert repository.version("d").id == other.version("d").id
    assert repository.refs("d").numbers == other.refs("d").numbers
    assert first.id == repository.version("d", "train").id
    assert verify(remote).faults == verify(other).faults == []


def test_bytes_of_another_dataset_do_not_travel(repository: Repository, tmp_path: Path) -> None:
    """One pack may hold bytes of two datasets, after the collector joined them; a push sends only what was asked for."""
    commit_files(repository, "both", {"shared": b"shared" * 100, "secret": b"secret" * 100}, tmp_path / "s")
    commit_files(repository, "d", {"shared": b"shared" * 100}, tmp_path / "s")
    remote = open_repository(str(tmp_path / "remote"))
    push(repository, remote, "d")
    assert sum(i.count for i in remote.packs.indexes().values()) == 1
    assert content(remote, remote.version("d")) == {"shared": b"shared" * 100}


def test_a_pull_that_conflicts_names_the_paths_and_keeps_both(repository: Repository, tmp_path: Path) -> None:
    remote, other = open_repository(str(tmp_path / "remote")), open_repository(str(tmp_path / "other"))
    commit_files(repository, "d", {"f": b"0"}, tmp_path / "s")
    push(repository, remote, "d")
    pull(other, remote, "d")
    commit_files(repository, "d", {"f": b"1"}, tmp_path / "s")
    push(repository, remote, "d")
    commit_files(other, "d", {"f": b"2"}, tmp_path / "s")
    with pytest.raises(MergeConflict, match="Both sides changed f"):
        pull(other, remote, "d")
    assert content(other, other.version("d")) == {"f": b"2"}
    theirs = other.version("d", "remote.main")
    assert content(other, theirs) == {"f": b"1"}
    with other.writing() as writing:
        made, outcome = merge(other, writing, "d", theirs.id, strategy="theirs")
    assert (outcome, content(other, made)) == ("merged", {"f": b"1"})
    push(other, remote, "d")
    assert "remote.main" not in remote.refs("d").branches


@pytest.mark.parametrize("point", ["index.published", "transfer.packs_sent", "transfer.commits_sent"])
def test_an_interrupted_push_goes_on_where_it_stopped(repository: Repository, tmp_path: Path, point: str) -> None:
    for i in range(3):
        commit_files(repository, "d", {**FILES, "n": b"%d" % i * 600}, tmp_path / "s")
    remote = open_repository(str(tmp_path / "remote"))
    crash.arm(point)
    with pytest.raises(Crashed):
        push(repository, remote, "d")
    remote = open_repository(str(tmp_path / "remote"))
    assert remote.datasets() == [], "no reference before everything is there"
    total = stored(repository)
    done = push(repository, remote, "d")
    assert done.sent_bytes < total, "what arrived is not sent again"
    assert [v.number for v in remote.versions("d")] == [3, 2, 1]
    assert verify(remote).faults == []


def test_an_address_is_decoded_and_a_path_is_not(tmp_path: Path) -> None:
    for place in (tmp_path / "a b", tmp_path / "a%20b"):
        made = commit_files(open_repository(place.as_uri()), "d", {"f": b"1"}, tmp_path / "s")
        assert open_repository(str(place)).version("d").id == made.id
        assert open_repository(open_repository(str(place)).url).version("d").id == made.id
    assert not (tmp_path / "a%2520b").exists()


def test_linked_files_stay_where_they_are_and_a_change_is_noticed(repository: Repository, tmp_path: Path) -> None:
    raw = write_files(tmp_path / "raw", {"a.bin": b"0123456789", "sub/b": b"b"})
    uri = raw.as_uri()
    files, table = link_files(uri)
    assert table == ""
    assert b"".join(read_linked(uri, files["a.bin"], 2, 5)) == b"234"
    (raw / "a.bin").write_bytes(b"012345678X")
    with pytest.raises(Unavailable, match="changed since it was linked"):
        list(read_linked(uri, files["a.bin"]))
    (raw / "sub/b").unlink()
    with pytest.raises(Unavailable, match="is gone"):
        list(read_linked(uri, files["sub/b"]))
    write_files(raw, {"_delta_log/0.json": b"{}"})
    with pytest.raises(Invalid, match="Delta table needs its library"):
        link_files(uri)
    assert "_delta_log/0.json" in link_files(uri, as_files=True)[0]


def test_links_save_copies(repository: Repository, tmp_path: Path) -> None:
    made = commit_files(repository, "d", FILES, tmp_path / "s")
    files = repository.manifest(made.commit.root)
    one, two = (checkout(repository, files, tmp_path / name, link=True) for name in ("one", "two"))
    assert (one / "big.bin").stat().st_ino == (two / "big.bin").stat().st_ino
    assert (one / "big.bin").read_bytes() == NOISE
    assert not (one / "big.bin").stat().st_mode & 0o222


def test_merge_takes_each_file_from_the_side_that_changed_it(repository: Repository, tmp_path: Path) -> None:
    files = {"same": b"s", "mine": b"0", "theirs": b"0", "gone": b"0", "both": b"0"}
    base = repository.manifest(commit_files(repository, "d", files, tmp_path / "s").commit.root)
    mine = repository.manifest(
        commit_files(repository, "d", {**files, "mine": b"1", "both": b"1"}, tmp_path / "s").commit.root
    )
    other_files = {**files, "theirs": b"2", "both": b"2", "new": b"2"}
    del other_files["gone"]
    other = repository.manifest(commit_files(repository, "d", other_files, tmp_path / "s").commit.root)
    merged, conflicts = merge_files(base, mine, other)
    assert conflicts == ["both"]
    assert {p: f.digest for p, f in merged.items() if p != "both"} == {
        "same": base["same"].digest, "mine": mine["mine"].digest, "theirs": other["theirs"].digest, "new": other["new"].digest,
    }  # fmt: skip
    assert merge_files(base, mine, other, "theirs")[0]["both"] == other["both"]
    folder = {"same/is/a/folder": other["new"]}
    assert merge_files({}, {"same": base["same"]}, folder)[1] == ["same"]


def test_a_repository_of_another_layout_is_refused(repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "store" / "format.json").write_text('{"layout": 99}')
    with pytest.raises(Unavailable, match="layout 99"):
        commit_files(repository, "d", FILES, tmp_path / "s")


def test_a_full_disk_is_said_and_leaves_no_torn_version(repository: Repository, tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: writes fail in the middle of a pack."""
    source = write_files(tmp_path / "s", {f"{i}": NOISE[i : i + 200_000] for i in range(20)})
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        with pytest.raises((Unavailable, OSError)):
            commit_folder(repository, "d", source)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert repository.datasets() == [] and packs(repository) == []
    assert commit_folder(repository, "d", source).commit.files_count == 20
