"""Given: a repository in a folder, and a way to commit dictionaries to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from noria.kernel import crash
from noria.repository.ingest import gather
from noria.repository.repository import NewCommit, Repository, Version, open_repository
from noria.repository.scan import StatCache

Commit = Callable[..., Version]


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return open_repository(str(tmp_path / "store"))


@pytest.fixture(autouse=True)
def _disarm() -> Iterator[None]:
    yield
    crash.disarm()


def write_files(folder: Path, files: Mapping[str, bytes]) -> Path:
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


def commit_folder(
    repository: Repository, name: str, source: Path, *, cache: StatCache | None = None, **said: object
) -> Version:
    """As the command does it: against the head of the branch, through the stat cache if given."""
    new = NewCommit(**said)  # type: ignore[arg-type]
    with repository.writing() as writing:
        found = repository._refs(name)
        head = found and found[0].branches.get(new.branch)
        root = repository.commit(head).root if head else ""
        files = repository.manifest(root) if root else None
        gathered = gather(writing, source, cache=cache, base=files, base_root=root)
        return writing.commit(name, gathered.files, new, root=gathered.root)[0]


def commit_files(repository: Repository, name: str, files: Mapping[str, bytes], folder: Path, **said: object) -> Version:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
    return commit_folder(repository, name, write_files(folder, files), **said)


def content(repository: Repository, version: Version) -> dict[str, bytes]:
    files = repository.manifest(version.commit.root)
    return {path: b"".join(repository.read(file)) for path, file in files.items()}
