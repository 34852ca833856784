"""The algebra of manifests, the paths they may hold, and the way files are cut."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.client.chunks import CHUNK_BYTES_MAX, CHUNK_BYTES_MIN, cut, describe
from noria.datasets import manifest
from noria.datasets.model import FILE_MODE, SMALL_FILE_BYTES, Chunk, FileEntry, VersionFile, check_path
from noria.kernel.errors import Invalid

names = st.sampled_from(["a", "b", "ab", "é", "train", "part-1.parquet", "Z", "z y", "日本"])
paths = st.lists(names, min_size=1, max_size=3).map("/".join)
GOLDEN = [520945, 196980, 276044, 197631, 204856, 291732, 153436, 193003, 310790, 654583]
digests = st.integers(0, 5).map(lambda i: f"{i:064x}")


def manifests() -> st.SearchStrategy[manifest.Manifest]:
    files = st.dictionaries(paths, st.tuples(st.integers(0, 99), digests, st.sampled_from([0o644, 0o755])), max_size=8)
    return files.map(
        lambda found: manifest.sort(
            {p: VersionFile(path=p, size_bytes=s, digest=d, mode=m) for p, (s, d, m) in found.items()}
        )
    )


@given(manifests(), st.randoms(use_true_random=False))
def test_the_root_does_not_depend_on_the_order(files: manifest.Manifest, shuffled: random.Random) -> None:
    items = list(files.items())
    shuffled.shuffle(items)
    assert manifest.root_digest(dict(items)) == manifest.root_digest(files)


@given(manifests(), manifests())
def test_the_root_tells_contents_apart(a: manifest.Manifest, b: manifest.Manifest) -> None:
    assert (manifest.root_digest(a) == manifest.root_digest(b)) == (a == b)


@given(manifests())
def test_a_manifest_is_read_back(files: manifest.Manifest) -> None:
    assert manifest.decode(manifest.encode(files)) == files
    assert list(manifest.decode(manifest.encode(files))) == list(files)


@given(manifests(), manifests())
def test_a_diff_leads_there_and_back(a: manifest.Manifest, b: manifest.Manifest) -> None:
    there = manifest.changes(a, b)
    assert manifest.apply(a, there) == b
    assert manifest.invert(there) == manifest.changes(b, a)
    assert manifest.apply(b, manifest.invert(there)) == a
    assert manifest.changes(a, a) == []


@given(manifests(), manifests(), manifests())
def test_two_diffs_in_a_row_are_one(a: manifest.Manifest, b: manifest.Manifest, c: manifest.Manifest) -> None:
    assert manifest.apply(manifest.apply(a, manifest.changes(a, b)), manifest.changes(b, c)) == c


def test_the_root_of_a_known_manifest_never_changes() -> None:
    """A version's id is for ever: this digest may only change together with a layout number."""
    files = {
        "b/é": VersionFile(path="b/é", size_bytes=5, digest=blake3(b"hello").hexdigest(), mode=0o755),
        "a": VersionFile(path="a", size_bytes=0, digest=blake3(b"").hexdigest()),
    }
    lines = manifest.encode(files).decode().splitlines()
    assert lines == [
        '["a",420,0,"af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"]',
        '["b/é",493,5,"ea8f163db38682925e4491c5e58d4bb3506ef8c14eb78a86e908c5624a67200f"]',
    ]
    assert manifest.root_digest(files) == blake3(("\n".join(lines) + "\n").encode()).hexdigest()


WAYS_OUT = [
    "", "/", "/etc/passwd", "..", "../x", "a/../b", "a/..", ".", "./a", "a/./b", "a//b", "a/", "//a", "\\\\host\\share",
    "a\\..\\b", "..\\x", "C:/x", "c:x", "C:\\x", "~", "~/x", "a\x00b", "a\nb", "a\x7fb", "... ", "...", ".. /x", ". ./x", " ",
    "%2e%2e/x", "%2E%2E%2Fx", "a/%2e%2e/%2e%2e/x", "%252e%252e/x", "%2fetc", "a%5c..%5cb", "a%00b", "%25252e%25252e/x",
    "\uff0e\uff0e/x", "\u2025/x", "\u2024\u2024/x", "a\uff0f..\uff0fb", "\uff0fetc", "a\uff3c..", "%ef%bc%8e%ef%bc%8e/x",
    "%\uff12e%2e/x", "\ud800", "a" * 256, "a/" * 600 + "a", "é" * 128,
]  # fmt: skip


@pytest.mark.parametrize("path", WAYS_OUT)
def test_a_path_that_could_leave_the_folder_is_refused(path: str) -> None:
    with pytest.raises(Invalid):
        check_path(path)


@pytest.mark.parametrize(
    "path",
    [
        "a",
        "a/b.txt",
        "..a",
        "a..b",
        "a...",
        ".hidden",
        "100%",
        "50%off.csv",
        "2013-01T10:00.csv",
        "é/日本",
        "a b",
        "~a",
        "x=1/y",
    ],
)
def test_an_ordinary_path_is_kept_as_it_is(path: str) -> None:
    assert check_path(path) == path


pieces = st.lists(
    st.sampled_from(
        [".", "..", "/", "\\", "%", "2", "e", "f", "%2e", "%2f", "\uff0e", "\u2025", "a", "b", ":", "~", " ", "%25"]
    ),
    max_size=12,
).map("".join)


@given(pieces | st.text(max_size=20))
@settings(max_examples=500)
def test_an_accepted_path_stays_inside_however_it_is_decoded(path: str) -> None:
    import unicodedata
    from urllib.parse import unquote

    try:
        check_path(path)
    except Invalid:
        return
    root = Path("/srv/data")
    for _ in range(6):
        for spelled in (path, path.replace("\\", "/")):
            parts = spelled.split("/")
            assert ".." not in parts and not spelled.startswith("/")
            assert (root / spelled).resolve().is_relative_to(root)
        path = unicodedata.normalize("NFKC", unquote(path))


def entry(path: str, **change: object) -> FileEntry:
    fields = {"path": path, "size_bytes": 1, "digest": "a" * 64, "mode": FILE_MODE, **change}
    return FileEntry(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ([], "no file"),
        ([entry("a"), entry("a")], "occurs twice"),
        ([entry("a"), entry("a/b")], "needs it to be a folder"),
        ([entry("a/b/c"), entry("a")], "needs it to be a folder"),
        ([entry("a", size_bytes=-1)], "negative"),
        ([entry("a", digest="a" * 63)], "64 lower-case"),
        ([entry("a", digest="a" * 64 + "\n")], "64 lower-case"),
        ([entry("a", mode=0)], "mode"),
        ([entry("../a")], "could leave"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(entries: list[FileEntry], says: str) -> None:
    with pytest.raises(Invalid, match=says):
        manifest.check_files(entries)


# --- cutting ----------------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**32), st.integers(0, 4_000_000))
@settings(max_examples=25, deadline=None)
def test_chunks_joined_are_the_file(seed: int, size: int) -> None:
    data = random.Random(seed).randbytes(size)
    found = [bytes(piece) for piece in cut(io.BytesIO(data))]
    assert b"".join(found) == data
    assert all(CHUNK_BYTES_MIN <= len(piece) <= CHUNK_BYTES_MAX for piece in found[:-1])


@given(st.integers(0, 2**32), st.sampled_from([0, 1, SMALL_FILE_BYTES, SMALL_FILE_BYTES + 1, 1_500_000]))
@settings(max_examples=20, deadline=None)
def test_a_file_is_described_by_what_it_holds(seed: int, size: int) -> None:
    data, blobs = random.Random(seed).randbytes(size), list[Chunk]()
    found = describe(io.BytesIO(data), "x", size, mode=FILE_MODE, each=blobs.append)
    assert (found.digest, found.size_bytes) == (blake3(data).hexdigest(), size)
    assert bool(found.chunks) == (size > SMALL_FILE_BYTES)
    assert sum(b.size_bytes for b in blobs) == size
    assert [c.digest for c in found.chunks or blobs] == [b.digest for b in blobs]


def test_the_cuts_of_a_known_stream_never_move() -> None:
    """With other cuts the same file would be stored twice: this may only change together with a layout number."""
    data = random.Random(2013).randbytes(3_000_000)
    assert [len(piece) for piece in cut(io.BytesIO(data))] == GOLDEN
    assert [len(piece) for piece in cut(Dripping(data))] == GOLDEN, "whatever a read returns at once"


class Dripping(io.BytesIO):
    """Gives less than it is asked for, as pipes and network files do."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(size, 10_007) if size and size > 0 else size)

    def readinto(self, buffer: Any, /) -> int:
        return super().readinto(memoryview(buffer)[:10_007])


def test_an_edit_moves_the_cuts_around_it_only() -> None:
    data = random.Random(1).randbytes(8_000_000)
    edited = data[:3_000_000] + b"edit" + data[3_000_000:]
    before = {blake3(p).hexdigest() for p in cut(io.BytesIO(data))}
    after = [blake3(p).hexdigest() for p in cut(io.BytesIO(edited))]
    assert len([d for d in after if d not in before]) <= 3
