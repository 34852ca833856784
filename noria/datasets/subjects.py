"""A person's rows: which versions hold them, what was made from those, and taking the rows out.

A row belongs to a subject when a column, read as text, has the subject's value. The value itself is kept nowhere: facts and commit
messages carry a hash of it. Erasing makes the heads of all branches anew without the rows and takes the older versions that have
them out of the history, except those that a name or a model protects; they are named. The collector then frees the bytes.
"""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from blake3 import blake3

from noria.datasets.contents import Contents
from noria.datasets.manifest import Manifest
from noria.datasets.model import (
    Committed,
    DatasetVersion,
    Erased,
    FileEntry,
    Kept,
    NewVersion,
    SubjectFound,
    SubjectIn,
    SubjectRequest,
    TableFile,
    VersionFile,
    table_format,
)
from noria.datasets.tables import Unreadable, closed_duckdb, load
from noria.kernel.db import Database
from noria.kernel.edges import dependents
from noria.kernel.errors import Conflict, Invalid
from noria.kernel.ids import Ref
from noria.kernel.op import Op
from noria.kernel.paging import Page
from noria.repository.tables.frames import Frame
from noria.repository.tables.writing import write_table

BYTES_PER_REQUEST = 1 << 30  # read in one request; the caller goes on after the version it ended with
BATCH_ROWS = 64 << 10
RESTS_ON = frozenset({"read", "trained_on", "built_by", "scored_by", "serves", "has"})
TOLD = ("run", "logged_model", "model_version", "endpoint", "dataset_version")


class Versions(Protocol):
    """What is needed of the datasets service."""

    def version(self, op: Op, handle: str) -> DatasetVersion: ...
    def versions(self, op: Op, name: str, *, limit: int | None = None, page: str = "") -> Page[DatasetVersion]: ...
    def manifest(self, op: Op, version: DatasetVersion | str) -> Manifest: ...
    def heads(self, op: Op, name: str) -> dict[str, str]: ...
    def receive(self, op: Op, name: str, new: NewVersion) -> Committed: ...
    def delete_version(self, op: Op, handle: str) -> DatasetVersion: ...
    def is_link(self, version: DatasetVersion) -> bool: ...


class Subjects:
    """Part of the datasets service."""

    def __init__(self, db: Database, contents: Contents, versions: Versions) -> None:
        self._db, self._contents, self._versions = db, contents, versions

    @staticmethod
    def mark(asked: SubjectRequest) -> str:
        """Names a subject without saying who it is."""
        return subject_mark(asked)

    def find(self, op: Op, name: str, asked: SubjectRequest) -> SubjectFound:
        """The versions of a dataset that hold rows of the subject, oldest first, and what rests on them.

        Reads at most a GiB of tables; `next` is the number to go on after. Raises NotFound, Invalid, Forbidden.
        """
        op.require("blob.read", on=Ref("dataset", name))
        _check(asked)
        found, counts, read, upto = list[SubjectIn](), dict[str, int](), 0, 0
        unread = list[str]()
        for version in self._oldest_first(op, name):
            if version.number <= asked.after:
                continue
            if read >= BYTES_PER_REQUEST:
                return SubjectFound(versions=found, dependents=self._dependents(found), unread=unread, next=upto)
            upto = version.number
            if self._versions.is_link(version):
                unread.append(f"{name}@{version.number}: its files are a link")
                continue
            for path, file in self._versions.manifest(op, version).items():
                kind = table_format(path)
                if kind is None:
                    continue
                if file.digest not in counts:
                    counts[file.digest], read = self._count(file, kind, asked), read + file.size_bytes
                if counts[file.digest] < 0:
                    unread.append(f"{name}@{version.number} {path}: it cannot be read as a table")
                elif counts[file.digest]:
                    found.append(SubjectIn(id=version.id, number=version.number, path=path, rows=counts[file.digest]))
        return SubjectFound(versions=found, dependents=self._dependents(found), unread=unread)

    def erase(self, op: Op, name: str, asked: SubjectRequest, *, mark: str = "") -> Erased:
        """Make every branch anew without the subject's rows, and delete the versions that have them where nothing forbids it.

        `mark` names the subject in what is kept for ever; a hash of the value, which can be guessed, unless given.
        Raises NotFound, Invalid, Forbidden, Conflict (somebody committed meanwhile).
        """
        op.require("dataset.commit", on=Ref("dataset", name))
        op.require("dataset.delete", on=Ref("dataset", name))
        op.require("blob.read", on=Ref("dataset", name))
        _check(asked)
        mark = mark or subject_mark(asked)
        made = [
            v
            for branch, head in self._versions.heads(op, name).items()
            for v in self._without(op, name, branch, head, asked, mark)
        ]
        deleted, kept = list[int](), list[Kept]()
        after, rows = 0, 0
        while True:
            found = self.find(op, name, SubjectRequest(column=asked.column, value=asked.value, after=after))
            for number in sorted({v.number for v in found.versions}):
                rows += sum(v.rows for v in found.versions if v.number == number)
                try:
                    self._versions.delete_version(op, f"{name}@{number}")
                    deleted.append(number)
                except (Conflict, Invalid) as needed:
                    kept.append(Kept(number=number, why=needed.message))
            if not found.next:
                break
            after = found.next
        with self._db.write(op) as tx:
            tx.emit(
                "subject.erased", Ref("dataset", name), subject=mark, column=asked.column, made=[v.number for v in made],
                deleted=deleted, kept=[k.number for k in kept],
            )  # fmt: skip
        return Erased(made=[v.number for v in made], deleted=deleted, kept=kept, rows=rows, subject=mark)

    def _oldest_first(self, op: Op, name: str) -> Iterator[DatasetVersion]:
        found, page = list[DatasetVersion](), ""
        while True:
            part = self._versions.versions(op, name, limit=1000, page=page)
            found += part.items
            if not part.next:
                return iter(found[::-1])
            page = part.next

    def _count(self, file: VersionFile, kind: Any, asked: SubjectRequest) -> int:
        """Rows of the subject in one table; -1 when it cannot be read."""
        with closed_duckdb() as (connection, folder):
            try:
                table = load(connection, self._contents.save(file, folder / f"t.{kind}"), kind, "t", "c")
            except Unreadable:
                return -1
            places = [f"c{i}" for i, c in enumerate(table.columns) if c.name == asked.column]
            if not places:
                return 0
            return int(
                connection.execute(f"select count(*) from t where {places[0]}::varchar = ?", [asked.value]).fetchone()[0]
            )

    def _dependents(self, found: list[SubjectIn]) -> list[str]:
        if not found:
            return []
        refs = [str(Ref("dataset_version", v.id)) for v in found]
        with self._db.read() as tx:
            return [ref for ref in dependents(tx, refs, RESTS_ON) if ref.partition(":")[0] in TOLD]

    def _without(self, op: Op, name: str, branch: str, head: str, asked: SubjectRequest, mark: str) -> list[DatasetVersion]:
        """The new head of a branch, if the old one has rows of the subject."""
        version = self._versions.version(op, f"{name}@{head}")
        if self._versions.is_link(version):
            return []
        entries, changed = list[FileEntry](), False
        for path, file in self._versions.manifest(op, version).items():
            kind = table_format(path)
            has_rows = kind is not None and self._count(file, kind, asked) > 0
            changed |= has_rows
            if isinstance(file, TableFile):
                entries += self._table_without(file, asked) if has_rows else map(_entry, file.parts)
            else:
                entries.append(self._rewritten(file, kind, asked) if has_rows else _entry(file))
        if not changed:
            return []
        new_version = NewVersion(
            files=entries, message=f"Rows of a subject erased ({mark})", branch=branch, parent=version.id
        )
        return [self._versions.receive(op, name, new_version).version]

    def _table_without(self, file: TableFile, asked: SubjectRequest) -> list[FileEntry]:
        """The table made anew, so that no fragment and no layer holds the rows any more."""
        table = self._contents.table(file)

        def read(columns: Sequence[str] | None) -> Iterator[Any]:
            for batch in table.batches():
                rest = _without_rows(batch, batch.schema.get_field_index(asked.column), asked)
                yield rest if columns is None else rest.select(list(columns))

        with tempfile.TemporaryDirectory(prefix="noria-erase-") as made:
            written = write_table(file.path, None, Frame(table.schema, read), Path(made), key=table.key)
            found = list[FileEntry]()
            for path, place in written.new.items():
                digest, size = self._contents.store_file(place)
                found.append(FileEntry(path=path, size_bytes=size, digest=digest))
        return found

    def _rewritten(self, file: VersionFile, kind: Any, asked: SubjectRequest) -> FileEntry:
        with tempfile.TemporaryDirectory(prefix="noria-erase-") as made:
            source, target = self._contents.save(file, Path(made) / "old"), Path(made) / "new"
            if kind == "parquet":
                _parquet_without(source, target, asked)
            else:
                _csv_without(source, target, asked, "\t" if file.path.lower().endswith(".tsv") else ",")
            digest, size = self._contents.store_file(target)
        return FileEntry(path=file.path, size_bytes=size, digest=digest, mode=file.mode)


def subject_mark(asked: SubjectRequest) -> str:
    """Names a subject without saying who it is."""
    return str(blake3(f"{asked.column}\0{asked.value}".encode()).hexdigest(length=8))


def _check(asked: SubjectRequest) -> None:
    if not asked.column or not asked.value:
        raise Invalid("Say the column and the value that name the subject.", where="column")


def _parquet_without(source: Path, target: Path, asked: SubjectRequest) -> None:
    """The same columns, types and metadata; row groups may end elsewhere."""
    from pyarrow import parquet

    found = parquet.ParquetFile(source)
    i = found.schema_arrow.names.index(asked.column)
    with parquet.ParquetWriter(target, found.schema_arrow, compression="zstd", use_content_defined_chunking=True) as out:
        for group in range(found.num_row_groups):  # one call for all groups would hold what it read of every one
            for batch in found.iter_batches(BATCH_ROWS, row_groups=[group]):
                out.write_batch(_without_rows(batch, i, asked))


def _without_rows(batch: Any, i: int, asked: SubjectRequest) -> Any:
    """A batch without the rows whose column `i` is the subject's value."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column = batch.column(i)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    is_theirs = pc.equal(pc.cast(column, pa.string()), asked.value)
    return batch.filter(pc.invert(pc.fill_null(is_theirs, False)))


def _entry(file: VersionFile) -> FileEntry:
    return FileEntry(path=file.path, size_bytes=file.size_bytes, digest=file.digest, mode=file.mode)


def _csv_without(source: Path, target: Path, asked: SubjectRequest, delimiter: str) -> None:
    with source.open(newline="", encoding="utf-8") as old, target.open("w", newline="", encoding="utf-8") as new:
        reader, writer = csv.reader(old, delimiter=delimiter), csv.writer(new, delimiter=delimiter, lineterminator="\n")
        head = next(reader)
        i = head.index(asked.column)
        writer.writerow(head)
        writer.writerows(row for row in reader if len(row) <= i or not _same(row[i], asked.value))


def _same(text: str, value: str) -> bool:
    """As the count sees it: 7 and 7.0 are one number there, 007 and 7 too."""
    if text == value:
        return True
    try:
        return float(text) == float(value)
    except ValueError:
        return False
