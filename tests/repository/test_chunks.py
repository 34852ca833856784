"""Big files: the same bytes are cut in the same places, whatever is known of what they were before."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from blake3 import blake3

from noria.client.chunks import cut
from noria.repository.repository import Repository, open_repository
from tests.repository.conftest import commit_folder, write_files

WINDOW = 8 << 20  # what is looked at together
SIZE = 2 * WINDOW + 1_234_567
BASE = random.Random(4).randbytes(SIZE)


def inserted(at: int, data: bytes) -> Callable[[bytes], bytes]:
    return lambda base: base[:at] + data + base[at:]


EDITS: dict[str, Callable[[bytes], bytes]] = {
    "the same with another tail": lambda base: base[:-1] + bytes([base[-1] ^ 1]),
    "written over in the middle": lambda base: base[:WINDOW] + bytes(100_000) + base[WINDOW + 100_000 :],
    "written over near the end of a window": lambda base: base[: WINDOW - 700] + b"x" * 900 + base[WINDOW + 200 :],
    "put in front": inserted(0, b"new"),
    "put in later": inserted(WINDOW + 77, bytes(range(256)) * 5000),
    "cut off": lambda base: base[: WINDOW + 500_000],
    "cut off where a window ends": lambda base: base[:WINDOW],
    "longer": lambda base: base + random.Random(5).randbytes(3 * WINDOW),
    "a little longer": lambda base: base + b"z",
    "the end in front": lambda base: base[WINDOW:] + base[:WINDOW],
    "all the same byte": lambda base: bytes(len(base)),
    "something else": lambda base: random.Random(6).randbytes(len(base)),
}


def chunks(repository: Repository, number: int) -> list[tuple[bytes, int]]:
    root = repository.version("d", str(number)).commit.root
    return repository.pieces(repository.manifest(root)["f"])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    folder = tmp_path_factory.mktemp("chunks")
    repository = open_repository(str(folder / "store"))
    commit_folder(repository, "d", write_files(folder / "first", {"f": BASE}))
    return repository


@pytest.mark.parametrize("edit", EDITS)
def test_a_file_that_changed_is_cut_as_a_new_one(store: Repository, edit: str, tmp_path: Path) -> None:
    data = EDITS[edit](BASE)
    commit_folder(store, "d", write_files(tmp_path, {"f": BASE}))  # what the next one is compared with
    made = commit_folder(store, "d", write_files(tmp_path, {"f": data}))
    assert made.number is not None
    found = chunks(store, made.number)
    assert found == [(blake3(piece).digest(), len(piece)) for piece in cut(io.BytesIO(data))]
    assert b"".join(store.read(store.manifest(made.commit.root)["f"])) == data
    assert store.manifest(made.commit.root)["f"].digest == blake3(data).hexdigest()


def test_a_file_of_which_little_changed_adds_little(tmp_path: Path) -> None:
    repository = open_repository(str(tmp_path / "store"))
    commit_folder(repository, "d", write_files(tmp_path / "source", {"f": BASE}))
    repository.packs.refresh()
    before = sum(i.stored_bytes for i in repository.packs.indexes().values())
    commit_folder(repository, "d", write_files(tmp_path / "source", {"f": EDITS["put in later"](BASE)}))
    repository.packs.refresh()
    assert sum(i.stored_bytes for i in repository.packs.indexes().values()) - before < 4 << 20
