"""What folders can hold: links, devices, odd names, files that change, vanish or cannot be read."""

from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path

import pytest

from noria.kernel.errors import Conflict, Invalid, NoriaError
from noria.repository.checkout import checkout
from noria.repository.ingest import gather, look
from noria.repository.repository import Repository
from noria.repository.scan import StatCache, row_of, scan
from tests.repository.conftest import commit_files, commit_folder, content, write_files


def refuse(repository: Repository, source: Path, match: str) -> NoriaError:
    with pytest.raises(NoriaError, match=match) as caught:
        commit_folder(repository, "d", source)
    assert caught.value.hint
    assert repository.datasets() == [], "nothing was made of it"
    return caught.value


def test_what_is_no_file_is_refused_by_name(repository: Repository, tmp_path: Path) -> None:
    for make in (
        lambda p: os.mkfifo(p),
        lambda p: p.symlink_to("/dev/null"),
        lambda p: socket.socket(socket.AF_UNIX).bind(os.fspath(p)),
        lambda p: p.symlink_to(tmp_path / "nowhere"),
        lambda p: p.symlink_to("/tmp"),
    ):
        source = write_files(tmp_path / "source", {"fine": b"fine"})
        odd = source / "odd"
        make(odd)
        error = refuse(repository, source, "odd")
        assert isinstance(error, Invalid)
        odd.unlink()


def test_a_file_that_cannot_be_read_is_refused_by_name(repository: Repository, tmp_path: Path) -> None:
    source = write_files(tmp_path / "source", {"fine": b"fine"})
    (source / "memory").symlink_to("/proc/self/mem")  # a regular file that nobody can read from its start, root neither
    refuse(repository, source, "memory cannot be read")


def test_a_name_that_is_not_utf8_is_refused(repository: Repository, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    Path(os.fsdecode(os.fsencode(source) + b"/\xff.txt")).write_bytes(b"x")
    refuse(repository, source, "not valid Unicode")


@pytest.mark.parametrize("name", ["a\\b", "a\nb", "a%2e%2e", "..\u3000", "c:x"])
def test_names_that_could_leave_a_folder_are_refused(repository: Repository, tmp_path: Path, name: str) -> None:
    source = tmp_path / "source"
    source.mkdir()
    try:
        (source / name).write_bytes(b"x")
        commit_folder(repository, "d", source)
    except Invalid:
        assert repository.datasets() == []
    else:  # a harmless reading of it comes back as the same file
        checkout(repository, repository.manifest(repository.version("d").commit.root), tmp_path / "out")
        assert [p.name for p in (tmp_path / "out").iterdir()] == [name]


def test_names_that_differ_in_capitals_or_accents_are_two_files(repository: Repository, tmp_path: Path) -> None:
    files = {"A.txt": b"big", "a.txt": b"small", "\u00e9": b"one", "e\u0301": b"two"}
    made = commit_files(repository, "d", files, tmp_path / "source")
    assert content(repository, made) == files
    out = checkout(repository, repository.manifest(made.commit.root), tmp_path / "out")
    assert {p.name: p.read_bytes() for p in out.iterdir()} == files


def test_a_checkout_does_not_follow_links_out_of_its_folder(repository: Repository, tmp_path: Path) -> None:
    made = commit_files(repository, "d", {"sub/f": b"new"}, tmp_path / "source")
    outside = write_files(tmp_path / "outside", {"f": b"old"})
    target = tmp_path / "out"
    target.mkdir()
    (target / "sub").symlink_to(outside)
    with pytest.raises(Invalid, match="leads out"):
        checkout(repository, repository.manifest(made.commit.root), target, overwrite=True)
    assert (outside / "f").read_bytes() == b"old"


def test_a_file_that_keeps_changing_is_refused_and_one_that_stops_is_read(repository: Repository, tmp_path: Path) -> None:
    """A version is never a mixture of two states of a file."""
    source = write_files(tmp_path / "source", {"growing": b"a" * 3_000_000})
    stop = threading.Event()

    def write() -> None:
        with (source / "growing").open("r+b") as file:
            for i in range(1_000_000):
                if stop.is_set():
                    return
                file.seek(0)
                file.write(bytes([i % 256]) * 4096)
                file.seek(2_900_000)
                file.write(bytes([i % 256]) * 4096)
                file.flush()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with pytest.raises(Conflict, match="changed while it was read"):
            for _ in range(20):
                commit_folder(repository, "d", source)
    finally:
        stop.set()
        writer.join()
    made = commit_folder(repository, "d", source)
    assert content(repository, made) == {"growing": (source / "growing").read_bytes()}


class Vanishing(dict[str, Path]):
    """Files by path that go away between the look and the reading."""

    def __getitem__(self, path: str) -> Path:
        place = super().__getitem__(path)
        place.unlink(missing_ok=True)
        return place


def test_a_file_that_vanishes_is_said(repository: Repository, tmp_path: Path) -> None:
    source = write_files(tmp_path / "source", {"a": b"1", "b": b"2"})
    files = Vanishing({name: source / name for name in ("a", "b")})
    with repository.writing() as writing, pytest.raises(Conflict, match="vanished"):
        gather(writing, files)


def test_an_unchanged_file_is_not_read_and_a_changed_one_is_seen(repository: Repository, tmp_path: Path) -> None:
    source = write_files(tmp_path / "source", {f"{i}": b"x" * 100 for i in range(20)})
    cache = StatCache(tmp_path / "cache", source)
    _age(source)
    commit_folder(repository, "d", source, cache=cache)
    root = repository.version("d").commit.root
    assert look(source, cache, {}, root) is None, "told by status alone"
    status = (source / "3").stat()
    (source / "3").write_bytes(b"y" * 100)  # the same size, and the same time of writing
    os.utime(source / "3", ns=(status.st_atime_ns, status.st_mtime_ns))
    seen = look(source, cache, repository.manifest(root), root)
    assert seen is not None and seen[1] != root
    made = commit_folder(repository, "d", source, cache=cache)
    assert content(repository, made)["3"] == b"y" * 100


def _age(folder: Path) -> None:
    """Let the clock of the file system move on from what was just written."""
    newest = max(p.stat().st_ctime_ns for p in folder.iterdir())
    while time.clock_gettime_ns(time.CLOCK_REALTIME) < newest + 50_000_000:
        time.sleep(0.01)


def test_a_file_written_in_the_same_tick_as_the_look_is_read_again(repository: Repository, tmp_path: Path) -> None:
    """The clock of a file system is coarse: what was written right before a look may have been written after it as well."""
    source = write_files(tmp_path / "source", {"f": b"one"})
    cache = StatCache(tmp_path / "cache", source)
    commit_folder(repository, "d", source, cache=cache)
    seen = cache.load()
    assert seen is not None
    row = seen.rows[0]
    assert not seen.is_settled((row[0], row[1], seen.looked_at_ns, seen.looked_at_ns, *row[4:]))
    assert seen.is_settled((row[0], row[1], seen.looked_at_ns - 10**9 + 1, seen.looked_at_ns - 10**9 + 1, *row[4:]))


def test_the_cache_is_not_believed_about_what_is_stored(tmp_path: Path) -> None:
    from noria.repository.repository import open_repository

    source = write_files(tmp_path / "source", {"f": b"content", "big": b"b" * 400_000})
    cache = StatCache(tmp_path / "cache", source)
    _age(source)
    for store in ("one", "two"):
        repository = open_repository(str(tmp_path / store))
        assert content(repository, commit_folder(repository, "d", source, cache=cache)) == {
            "f": b"content", "big": b"b" * 400_000,
        }  # fmt: skip


def test_of_many_files_none_is_missed_and_what_is_odd_is_refused(repository: Repository, tmp_path: Path) -> None:
    """Another process looks at half of the folders, and leaves what is not plain to this one."""
    source = write_files(tmp_path / "source", {f"d{i % 24:02d}/deep/{i}": b"%d" % i for i in range(6_000)})
    (source / "d03" / "link").symlink_to("deep/3")
    (source / "d04" / "deep" / "link").symlink_to("4")
    (source / "d05" / "deep" / "5").chmod(0o755)
    rows = scan(source)
    places = sorted(p for p in source.rglob("*") if p.is_file())
    assert rows == sorted(row_of(p.relative_to(source).as_posix(), p.stat()) for p in places)
    assert len(rows) == 6_002 and [r[0] for r in rows if r[5]] == ["d05/deep/5"]
    version = commit_folder(repository, "d", source)
    assert content(repository, version) == {p.relative_to(source).as_posix(): p.read_bytes() for p in places}
    checkout(repository, repository.manifest(version.commit.root), tmp_path / "out")
    assert {p.relative_to(tmp_path / "out"): p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()} == {
        p.relative_to(source): p.read_bytes() for p in places
    }
    for i in range(24):
        odd = source / f"d{i:02d}" / "odd"
        odd.symlink_to("deep")
        with pytest.raises(Invalid, match=f"d{i:02d}/odd"):
            scan(source)
        odd.unlink()
