"""How the tables of a version are seen by readers of files, and what a commit checks of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from noria.datasets.manifest import Manifest, sort
from noria.datasets.model import TableFile, VersionFile
from noria.kernel.errors import Invalid, NoriaError
from noria.repository.tables.keys import check_key
from noria.repository.tables.layers import REMOVED, Patch, nullable
from noria.repository.tables.model import Fragment, manifest_path, parts_of, tables_in

if TYPE_CHECKING:
    from noria.repository.tables.table import Table


def see(files: Manifest, read: Callable[[VersionFile], bytes]) -> Manifest:
    """`files` with each table as one TableFile. Raises Invalid when what should be a table is none."""
    tables = tables_in(files)
    if not tables:
        return files
    found = {path: file for path, file in files.items() if not any(path.startswith(f"{t}/") for t in tables)}
    for table in tables:
        if table in found:
            raise Invalid(f"{table!r} is a file and a table.", where="files")
        found[table] = table_file(table, files, read)
    return sort(found)


def table_file(table: str, files: Mapping[str, VersionFile], read: Callable[[VersionFile], bytes]) -> TableFile:
    """One table of a version. Raises Invalid."""
    parts = parts_of(table, files, read)
    return TableFile(
        path=table, size_bytes=sum(p.size_bytes for p in parts), digest=parts[0].digest, mode=parts[0].mode, parts=parts
    )


def seen_count(files: Mapping[str, VersionFile]) -> int:
    """How many files readers see."""
    tables = tables_in(files)
    return len(files) if not tables else len(tables) + sum(not any(p.startswith(f"{t}/") for t in tables) for p in files)


Footer = tuple[str, int, str]  # the digest of a fragment's file, its rows, its columns


def footers(table: Table) -> list[Footer]:
    """What the manifest of a table says about the ends of its fragments."""
    columns = str(nullable(table.schema))
    return [(table.file_of(f).digest, f.rows, columns) for f in table.fragments]


class Reads(Protocol):
    """What is needed of a repository."""

    def seen(self, files: Manifest) -> Manifest: ...
    def table(self, file: TableFile) -> Table: ...


def check_tables(files: Manifest, repository: Reads, *, known: frozenset[Footer] = frozenset()) -> None:
    """Raises Invalid unless every table among the files can be read as its manifest says, without a file too many.

    Fragments whose footers are `known` were checked before.
    """
    for table in tables_in(files):
        stored = {path for path in files if path.startswith(f"{table}/")}
        file = repository.seen(files)[table]
        assert isinstance(file, TableFile)
        if extra := sorted(stored - {p.path for p in file.parts}):
            raise Invalid(f"{extra[0]!r} is no part of the table {table!r}.", where="files")
        try:
            _check(repository.table(file), known)
        except NoriaError as cause:
            raise Invalid(f"The table {table!r} cannot be read: {cause.message}", where="files") from cause


def _check(table: Table, known: frozenset[Footer]) -> None:
    """Footers and layers; not the rows."""
    import pyarrow as pa
    from pyarrow import parquet

    check_key(table.schema, table.key)
    wanted = nullable(table.schema)
    patches = table.patches
    for fragment, footer_of in zip(table.fragments, footers(table), strict=True):
        if footer_of in known:
            _check_patch(table, fragment, patches.get(fragment.id))
            continue
        try:
            with table.open(fragment) as file:
                footer = parquet.ParquetFile(file)
                rows, schema = footer.metadata.num_rows, nullable(footer.schema_arrow)
        except (pa.ArrowException, OSError, ValueError) as cause:
            raise Invalid(f"{fragment.name} is no Parquet file.", where="files") from cause
        if rows != fragment.rows or schema != wanted:
            raise Invalid(f"{fragment.name} is not the fragment that {manifest_path(table.path)} describes.", where="files")
        _check_patch(table, fragment, patches.get(fragment.id))


def _check_patch(table: Table, fragment: Fragment, patch: Patch | None) -> None:
    gone = 0
    if patch is not None:
        if len(patch.positions) and not 0 <= patch.positions[0] <= patch.positions[-1] < fragment.rows:
            raise Invalid(f"A layer changes rows that {fragment.name} does not have.", where="files")
        gone = int((patch.states == REMOVED).sum())
    if fragment.live != fragment.rows - gone:
        raise Invalid(f"{manifest_path(table.path)} counts the rows of {fragment.name} wrongly.", where="files")
