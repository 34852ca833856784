"""A home as one tar file: the database, the blobs, the keys, the settings, and at the end a manifest of digests.

Safe while the server runs: SQLite's online copy comes first, blobs after it, and a blob is always stored before a row names it,
so every blob that the copied rows name is in the archive. Checkpoints that were signed after the copy are left out; a restored
log would otherwise look as if facts had been taken from it.

Invariant: nothing is written outside the new home, and a home appears whole or not at all: it is unpacked beside its place,
checked against the manifest, and moved there.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import sqlite3
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import IO, Any

from noria import __version__
from noria.config import Config
from noria.kernel.clock import SystemClock
from noria.kernel.errors import AlreadyExists, Invalid, NotFound

FORMAT = 1
MANIFEST = "manifest.json"
MANIFEST_BYTES_MAX = 1 << 30
CHUNK_BYTES = 1 << 20
_NOT_KEPT = {"tmp", "files", "locks"}  # of a repository: drafts, copies that can be made again, locks
ANCHORS = "blobs/named/audit/checkpoints"
_NAME = re.compile(r"^(?:noria\.db|noria\.toml|manifest\.json|(?:blobs|keys)(?:/[A-Za-z0-9_\-=][A-Za-z0-9_\-.=]*)+)\Z")


def create(config: Config, target: Path, *, with_database: bool = True, with_blobs: bool = True) -> dict[str, Any]:
    """Write the home of `config` to `target` (.tar, or .tar.gz to compress); returns the manifest.

    Raises AlreadyExists when the file exists, Invalid when rows or bytes live outside the home, NotFound without a home.
    """
    if target.exists():
        raise AlreadyExists(f"{target} exists already.", hint="Name a new file.")
    if not config.home.is_dir():
        raise NotFound(f"There is no Noria at {config.home}.", hint="Name another with --home or NORIA_HOME.")
    database = _sqlite_path(config)
    if database is None and with_database:
        raise Invalid(
            "The database is not SQLite.", where="database",
            hint="Copy it with pg_dump, and the rest with: noria backup create FILE --without-database.",
        )  # fmt: skip
    if with_blobs and "://" in config.blobs_url and not config.blobs_url.startswith("file://"):
        raise Invalid(
            f"The blobs live in {config.blobs_url}, not in the home.", where="blobs",
            hint="Keep them safe with versioning and replication of the bucket, and the keys and settings with --without-blobs.",
        )  # fmt: skip
    partial = target.with_name(target.name + ".partial")
    try:
        with partial.open("xb") as raw:
            partial.chmod(0o600)  # it holds the keys
            manifest = _write(config, raw, target, database if with_database else None, with_blobs=with_blobs)
            raw.flush()
            os.fsync(raw.fileno())
        partial.rename(target)
    finally:
        partial.unlink(missing_ok=True)
    return manifest


def _write(config: Config, raw: IO[bytes], target: Path, database: Path | None, *, with_blobs: bool) -> dict[str, Any]:
    files: dict[str, dict[str, Any]] = {}
    facts: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="noria-backup-") as scratch, _tar(raw, target) as tar:
        if database is not None:
            copy = Path(scratch) / "noria.db"
            copy_database(database, copy)
            facts = describe_database(copy)
            _add(tar, files, "noria.db", copy)
        for name, path in _members(config, sealed=facts.get("sealed")):
            if with_blobs or not name.startswith("blobs/"):
                _add(tar, files, name, path)
        manifest = {
            "format": FORMAT, "noria": __version__, "created_at_ms": SystemClock().now_ms(), "database": facts,
            "files": files, "blobs": with_blobs,
        }  # fmt: skip
        encoded = json.dumps(manifest, sort_keys=True).encode()
        info = tarfile.TarInfo(MANIFEST)
        info.size, info.mode = len(encoded), 0o600
        tar.addfile(info, io.BytesIO(encoded))
    return manifest


def _tar(raw: IO[bytes], target: Path) -> tarfile.TarFile:
    if target.name.endswith((".gz", ".tgz")):
        return tarfile.open(fileobj=raw, mode="w|gz")
    return tarfile.open(fileobj=raw, mode="w|")


def copy_database(source: Path, target: Path) -> None:
    """SQLite's online copy: one consistent moment, while the server goes on writing."""
    with (
        closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True, timeout=30)) as old,
        closing(sqlite3.connect(target)) as new,
    ):
        old.backup(new, pages=-1)
        new.execute("pragma journal_mode=delete")


def describe_database(path: Path) -> dict[str, Any]:
    """Schema, last fact and how far it was sealed. Raises Invalid when the file is damaged."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        try:
            problems = [row[0] for row in db.execute("pragma integrity_check(3)")]
            if problems != ["ok"]:
                raise Invalid("The database is damaged: " + "; ".join(map(str, problems)))
            schema = db.execute("select version_num from alembic_version").fetchone()
            last = db.execute("select coalesce(max(seq), 0) from event").fetchone()
            sealed = db.execute("select coalesce(max(size), 0) from audit_tree").fetchone()
        except sqlite3.DatabaseError as cause:
            raise Invalid("The database cannot be read.", hint="Is it one of Noria's?") from cause
    return {"schema": schema[0], "facts": last[0], "sealed": sealed[0]}


def _members(config: Config, *, sealed: int | None) -> Iterator[tuple[str, Path]]:
    """Name and path of every file to keep, besides the database."""
    settings = config.home / "noria.toml"
    if settings.is_file():
        yield "noria.toml", settings
    blobs = Path(config.blobs_url.removeprefix("file://"))
    # The references of datasets before what they reach, so that what they reach is in the archive too.
    for top, folder, found in (
        ("keys", config.home / "keys", "*"), ("blobs", blobs, "refs/*"), ("blobs", blobs, "*"),
    ):  # fmt: skip
        for path in sorted(folder.rglob(found)):
            if top == "blobs" and path.relative_to(folder).parts[0] in (_NOT_KEPT if found != "*" else {*_NOT_KEPT, "refs"}):
                continue
            name = f"{top}/{path.relative_to(folder).as_posix()}"
            is_later = sealed is not None and name.startswith(ANCHORS + "/") and int(path.name) > sealed
            if path.is_file() and not path.is_symlink() and _NAME.match(name) and not is_later:
                yield name, path


def _add(tar: tarfile.TarFile, files: dict[str, dict[str, Any]], name: str, path: Path) -> None:
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return  # collected in the meantime: no row that was copied names it
    with file:
        info = tarfile.TarInfo(name)
        info.size, info.mode = os.fstat(file.fileno()).st_size, 0o600 if name.startswith("keys/") else 0o644
        counted = _Counted(file)
        tar.addfile(info, counted)
    files[name] = {"size_bytes": info.size, "sha256": counted.digest.hexdigest()}


class _Counted(io.RawIOBase):
    """A file that is hashed while it is read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.digest.update(data)
        return data


# --- reading ----------------------------------------------------------------------------------------------------------


def check(source: Path) -> dict[str, Any]:
    """The manifest of an archive whose every byte agrees with it. Raises Invalid naming the first file that does not."""
    try:
        found, manifest = _digests(source)
    except (tarfile.TarError, EOFError, OSError, zlib.error) as cause:
        raise Invalid(f"{source} cannot be read to its end.", hint="Is it a backup of Noria, and whole?") from cause
    if manifest is None:
        raise Invalid(f"{source} has no end: it was cut off.", hint="Take another backup.")
    wanted = manifest["files"]
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            what = "is missing" if name not in found else "does not belong" if name not in wanted else "was changed"
            raise Invalid(f"{source} is damaged: {name} {what}.", hint="Take another backup.")
    return manifest


def _digests(source: Path) -> tuple[dict[str, dict[str, Any]], dict[str, Any] | None]:
    """What every member really holds, and what the manifest says, if there is one."""
    found: dict[str, dict[str, Any]] = {}
    manifest: dict[str, Any] | None = None
    for name, _, file in _entries(source):
        if name in found or manifest is not None:
            raise Invalid(f"{source} has {name} twice, or something after its end.")
        if name == MANIFEST:
            manifest = _manifest(file.read(MANIFEST_BYTES_MAX))
            continue
        digest, size = hashlib.sha256(), 0
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
        found[name] = {"size_bytes": size, "sha256": digest.hexdigest()}
    return found, manifest


def restore(source: Path, home: Path) -> dict[str, Any]:
    """Make `home` from an archive; returns the manifest. Raises AlreadyExists unless it is new or empty, Invalid if damaged."""
    if home.exists() and (not home.is_dir() or any(home.iterdir())):
        raise AlreadyExists(f"{home} is not empty.", hint="Restore into a new folder, then start the server on it.")
    manifest = check(source)
    home.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{home.name}-", dir=home.parent))
    try:
        for name, info, file in _entries(source):
            if name == MANIFEST:
                continue
            path = fresh / name
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700 if name.startswith("keys/") else 0o755)
            with path.open("xb") as out:
                path.chmod(0o600 if name.startswith("keys/") and not name.endswith(".pub") else 0o644)
                shutil.copyfileobj(file, out, CHUNK_BYTES)
            if path.stat().st_size != info.size:
                raise Invalid(f"{source} changed while it was read.")
        if home.exists():
            home.rmdir()
        fresh.chmod(0o755)
        fresh.rename(home)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return manifest


def _entries(source: Path) -> Iterator[tuple[str, tarfile.TarInfo, IO[bytes]]]:
    """Every member in order. Raises Invalid for anything but plain files under names that a backup has."""
    if not source.is_file():
        raise NotFound(f"There is no file {source}.")
    with tarfile.open(source, mode="r|*") as tar:
        for info in tar:
            file = tar.extractfile(info) if info.isreg() else None
            if file is None or not _NAME.match(info.name) or ".." in info.name.split("/"):
                raise Invalid(f"{source} holds {info.name[:100]!r}, which no backup has.")
            yield info.name, info, file


def _manifest(encoded: bytes) -> dict[str, Any]:
    try:
        manifest = json.loads(encoded)
        is_known = manifest["format"] == FORMAT and isinstance(manifest["files"], dict)
    except (ValueError, KeyError, TypeError, RecursionError) as cause:
        raise Invalid("The manifest of the backup cannot be read.") from cause
    if not is_known:
        raise Invalid("This backup was written by another version of Noria.", hint=f"This one reads format {FORMAT}.")
    return dict(manifest)


def _sqlite_path(config: Config) -> Path | None:
    """The file of the database; None when it is another kind."""
    url = config.database_url
    return Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else None
