"""Tables of other formats at a fixed version: Delta, Iceberg and Lance, each read by its own library (`pip install 'noria[tables]'`).

A link to one holds the data files of that version. What the format removes or rewrites later makes reading fail loudly; nothing else
is passed off as the version. A table whose files alone would show rows that were deleted is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from msgspec import Struct

from noria.kernel.errors import Invalid, NotFound, Unavailable

Format = Literal["delta", "iceberg", "lance"]
_PACKAGES: dict[Format, tuple[str, str]] = {
    "delta": ("deltalake", "Delta"), "iceberg": ("pyiceberg", "Iceberg"), "lance": ("lance", "Lance"),
}  # fmt: skip
_METADATA = re.compile(r"^metadata/.*\.metadata\.json\Z")


class LakeTable(Struct, frozen=True):
    """A table at a version; `paths` are its data files, below its address."""

    format: Format
    version: str
    paths: list[str]

    @property
    def mark(self) -> str:
        """`delta@12`: as a commit keeps it."""
        return f"{self.format}@{self.version}"


def format_of(keys: Iterable[str]) -> Format | None:
    """What kind of table files below one address are, if any."""
    for key in keys:
        if key.startswith("_delta_log/"):
            return "delta"
        if key.startswith("_versions/"):
            return "lance"
        if _METADATA.match(key):
            return "iceberg"
    return None


def table_at(uri: str, keys: Iterable[str], at: str = "") -> LakeTable | None:
    """The table that lies at `uri`, at the version `at` or the one it has now; None when it is no table. Raises Invalid, NotFound."""
    listed = sorted(keys)
    kind = format_of(listed)
    if kind is None:
        if at:
            raise Invalid(f"There is no table at {uri}, so it has no version {at!r}.", where="at")
        return None
    if at and not re.fullmatch(r"\d{1,20}", at):
        raise Invalid(f"{at!r} is not a version of a table: a number.", where="at")
    found = {"delta": _delta, "iceberg": _iceberg, "lance": _lance}[kind](uri, listed, at)
    there, paths = set(listed), list[str]()
    for path in found.paths:
        known = next((p for p in (path, unquote(path)) if p in there), None)
        if known is None:
            raise NotFound(f"{path} of version {found.version} is gone from {uri}.", hint="Choose a later version.")
        paths.append(known)
    return LakeTable(found.format, found.version, paths)


def open_lake(uri: str, mark: str) -> Any:
    """A linked table as an Arrow dataset. Raises Unavailable when its version is gone."""
    kind, _, version = mark.partition("@")
    if kind not in _PACKAGES:
        raise Invalid(f"{mark!r} is no table that this Noria knows.", hint="Upgrade it.")
    try:
        return {"delta": _read_delta, "iceberg": _read_iceberg, "lance": _read_lance}[kind](uri, version)
    except (OSError, ValueError, KeyError, _errors(kind)) as cause:
        raise Unavailable(
            f"Version {version} of the table at {uri} cannot be read any more: {str(cause)[:300]}",
            hint="Link a new version.",
        ) from cause


def _library(kind: Format) -> Any:
    import importlib

    package, name = _PACKAGES[kind]
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as missing:
        raise Invalid(f"A {name} table needs its library.", where="uri", hint="pip install 'noria[tables]'") from missing


def _errors(kind: Format) -> type[Exception]:
    if kind == "delta":
        found: type[Exception] = _library("delta").exceptions.DeltaError
        return found
    return OSError


def _relative(uri: str, place: str) -> str:
    """Where a file lies below the address of its table. Raises Invalid when it lies elsewhere."""
    base, full = _plain(uri), _plain(place)
    if not full.startswith(base + "/"):
        raise Invalid(
            f"{place} lies outside of {uri}.", where="uri", hint="Link the folder that holds all files of the table."
        )
    return full[len(base) + 1 :]


def _plain(uri: str) -> str:
    """Without the scheme of local files; s3a and s3 are one."""
    if uri.startswith("file:"):
        return unquote(urlsplit(uri).path).rstrip("/")
    return uri.replace("s3a://", "s3://", 1).rstrip("/")


def _local(uri: str) -> str:
    return _plain(uri) if uri.startswith("file:") else uri


# --- Delta --------------------------------------------------------------------------------------------------------------


def _delta_table(uri: str, at: str) -> Any:
    delta = _library("delta")
    try:
        return delta.DeltaTable(_local(uri), version=int(at) if at else None)
    except delta.exceptions.DeltaError as cause:
        raise NotFound(
            f"The table at {uri} has no version {at or 'that can be read'}: {str(cause)[:200]}", where="at"
        ) from cause


def _delta(uri: str, _: list[str], at: str) -> LakeTable:
    table = _delta_table(uri, at)
    if "deletionVectors" in (table.protocol().reader_features or []):
        raise Invalid(
            f"The Delta table at {uri} keeps deleted rows in its files (deletion vectors).", where="uri",
            hint="Rewrite it without (REORG TABLE … APPLY (PURGE), and drop the feature), or commit a copy.",
        )  # fmt: skip
    import pyarrow as pa

    added = pa.table(table.get_add_actions(flatten=True)).column("path").to_pylist()  # as the log has them
    paths = [_relative(uri, path) if "://" in path or path.startswith("/") else path for path in added]
    return LakeTable("delta", str(table.version()), paths)


def _read_delta(uri: str, version: str) -> Any:
    return _delta_table(uri, version).to_pyarrow_dataset()


# --- Iceberg ------------------------------------------------------------------------------------------------------------


def _iceberg_table(uri: str, metadata: str) -> Any:
    _library("iceberg")
    from pyiceberg.table import StaticTable

    return StaticTable.from_metadata(f"{uri.rstrip('/')}/{metadata}")


def _newest_metadata(keys: list[str]) -> str:
    """The one written last: `v12.metadata.json` or `00012-….metadata.json`."""

    def number(key: str) -> int:
        found = re.search(r"(\d+)", key.rsplit("/", 1)[-1])
        return int(found[1]) if found else -1

    return max((k for k in keys if _METADATA.match(k)), key=number)


def _iceberg(uri: str, keys: list[str], at: str) -> LakeTable:
    table = _iceberg_table(uri, _newest_metadata(keys))
    snapshot = table.snapshot_by_id(int(at)) if at else table.current_snapshot()
    if snapshot is None:
        raise NotFound(f"The Iceberg table at {uri} has no snapshot {at or 'yet'}.", where="at")
    tasks = list(table.scan(snapshot_id=snapshot.snapshot_id).plan_files())
    if any(task.delete_files for task in tasks):
        raise Invalid(
            f"The Iceberg table at {uri} keeps deleted rows in its files (delete files).", where="uri",
            hint="Rewrite its data files, or commit a copy.",
        )  # fmt: skip
    return LakeTable("iceberg", str(snapshot.snapshot_id), [_relative(uri, task.file.file_path) for task in tasks])


def _read_iceberg(uri: str, version: str) -> Any:
    import pyarrow.dataset as pads

    from noria.repository.objects import open_objects

    keys = [item.key for item in open_objects(uri, create=False).list("metadata")]
    table = _iceberg_table(uri, _newest_metadata(keys))
    if table.snapshot_by_id(int(version)) is None:
        raise KeyError(f"snapshot {version} has expired")
    return pads.dataset(table.scan(snapshot_id=int(version)).to_arrow())


# --- Lance --------------------------------------------------------------------------------------------------------------


def _lance(uri: str, _: list[str], at: str) -> LakeTable:
    lance = _library("lance")
    try:
        table = lance.dataset(_local(uri), version=int(at) if at else None)
    except (ValueError, OSError) as cause:
        raise NotFound(f"The Lance table at {uri} has no version {at}: {str(cause)[:200]}", where="at") from cause
    paths = [f"data/{file.path}" for fragment in table.get_fragments() for file in fragment.data_files()]
    deleted = [
        fragment.deletion_file() for fragment in table.get_fragments()
    ]  # Lance reads these itself; they are part of it
    return LakeTable("lance", str(table.version), [*paths, *(d for d in deleted if d)])


def _read_lance(uri: str, version: str) -> Any:
    return _library("lance").dataset(_local(uri), version=int(version))
