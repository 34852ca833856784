"""The manifest of a table: which fragments, in which order, under which layers; and where its files lie in a version."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from noria.datasets.model import Column, VersionFile
from noria.kernel.errors import Invalid

if TYPE_CHECKING:
    import pyarrow as pa

LAYOUT = 1
MANIFEST = "_table.json"
FORMAT = "noria-table"
MANIFEST_BYTES_MAX = 32 << 20


class Fragment(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Rows that lie together. `id` is unique in a table; `name` is that of its file, by content; `rows` are those stored.

    `live`: rows that are not deleted. `content`: the digest of its rows as they are now, '' when nobody computed it.
    `layers`: the numbers of the layers that change it.
    """

    id: str
    name: str
    rows: int
    live: int
    content: str = ""
    layers: list[int] = []


class LayerEntry(Struct, frozen=True, kw_only=True):
    """A file of rows that replace or remove others."""

    name: str
    rows: int


class TableManifest(Struct, frozen=True, kw_only=True, dict=True):
    """One version of a table."""

    format: str = FORMAT
    layout: int = LAYOUT
    key: list[str] = []
    schema: str  # Arrow IPC, base64
    fragments: list[Fragment] = []
    layers: list[LayerEntry] = []

    @property
    def rows(self) -> int:
        return sum(f.live for f in self.fragments)

    @cached_property
    def arrow_schema(self) -> pa.Schema:
        import pyarrow as pa

        return pa.ipc.read_schema(pa.BufferReader(base64.b64decode(self.schema)))

    def encode(self) -> bytes:
        return msgspec.json.encode(self)


_MANIFEST = msgspec.json.Decoder(TableManifest)


def columns_of(schema: pa.Schema) -> list[Column]:
    """The columns as a version describes them."""
    kinds = [(f.name, str(f.type.value_type if str(f.type).startswith("dictionary") else f.type)) for f in schema]
    return [Column(name=name, type=kind) for name, kind in kinds]


def encode_schema(schema: pa.Schema) -> str:
    return base64.b64encode(schema.serialize().to_pybytes()).decode()


def decode(data: bytes, path: str) -> TableManifest:
    """Raises Invalid when it is none, or of a newer layout."""
    try:
        found = _MANIFEST.decode(data)
    except msgspec.DecodeError as cause:
        raise Invalid(f"{path!r} does not describe a table: {cause}.", where="files") from cause
    if found.format != FORMAT or found.layout > LAYOUT:
        raise Invalid(f"{path!r} was written by a newer Noria.", hint="Upgrade this one.", where="files")
    if len({f.id for f in found.fragments}) != len(found.fragments):
        raise Invalid(f"{path!r} names a fragment twice.", where="files")
    if any(not 0 <= f.live <= f.rows or any(not 0 <= n < len(found.layers) for n in f.layers) for f in found.fragments):
        raise Invalid(f"{path!r} does not add up.", where="files")
    return found


def fragment_path(table: str, name: str) -> str:
    return f"{table}/fragments/{name}.parquet"


def layer_path(table: str, name: str) -> str:
    return f"{table}/layers/{name}.parquet"


def manifest_path(table: str) -> str:
    return f"{table}/{MANIFEST}"


def tables_in(paths: Iterable[str]) -> list[str]:
    """The paths of the tables among these paths of files."""
    end = f"/{MANIFEST}"
    return [path[: -len(end)] for path in paths if path.endswith(end)]


def table_of(path: str, tables: Iterable[str]) -> str:
    """The table that a stored file belongs to, '' for none."""
    return next((t for t in tables if path.startswith(f"{t}/")), "")


def needed_paths(table: str, found: TableManifest) -> list[str]:
    """Every file that the table consists of."""
    names = dict.fromkeys(f.name for f in found.fragments)
    return [
        manifest_path(table),
        *(fragment_path(table, n) for n in names),
        *(layer_path(table, layer.name) for layer in found.layers),
    ]


def parts_of(table: str, files: Mapping[str, VersionFile], read: Callable[[VersionFile], bytes]) -> list[VersionFile]:
    """The stored files of a table, its manifest first. Raises Invalid when some are not there."""
    head = files[manifest_path(table)]
    if head.size_bytes > MANIFEST_BYTES_MAX:
        raise Invalid(f"{head.path!r} is too large for what it is.", where="files")
    wanted = needed_paths(table, decode(read(head), head.path))
    missing = [p for p in wanted if p not in files]
    if missing:
        raise Invalid(f"The table {table!r} lacks {missing[0]!r}.", where="files")
    return [files[p] for p in wanted]
