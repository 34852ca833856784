"""Frames that are committed: from whatever holds rows to the stored files of the next version of a table."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from noria.client.datasets import TABLE_FILE
from noria.datasets.model import VersionFile
from noria.kernel.errors import Invalid, NotFound
from noria.repository.tables.frames import Frame, frame_of, is_frame
from noria.repository.tables.table import Table
from noria.repository.tables.writing import Written, compact, write_table

Files = tuple[dict[str, Path], list[VersionFile]]  # new ones by their path, and those that are stored


def is_table(source: Any, key: Any, table: bool) -> bool:
    """Does `source` become a table? Raises Invalid when it should and cannot."""
    if is_frame(source):
        return True
    if not table and key is None:
        return False
    if isinstance(source, str | Path) and str(source).lower().endswith((".parquet", ".pq")) and Path(source).is_file():
        return True
    raise Invalid(
        "Only a frame or a Parquet file becomes a table.", where="source", hint="Convert it, or leave out the key."
    )


def as_table(
    source: Any, base: Table | None, folder: Path, *, key: str | Iterable[str] | None, expect: Any, label: str,
    say: Callable[[str], None] | None,
) -> Files:  # fmt: skip
    """The files of the table that `source` makes, beside those of `base`. Raises Invalid."""
    if say:
        say("comparing rows")
    wanted = base.key if key is None and base else [key] if isinstance(key, str) else list(key or [])
    frame = frame_of(Path(source) if isinstance(source, str) else source, folder, has_key=bool(wanted))
    if expect is not None:
        _require(frame, expect, label, folder)
    return _files(write_table(TABLE_FILE, base, frame, folder, key=wanted))


def as_compacted(table: Table | None, label: str, folder: Path) -> Files:
    """The files of the table without layers. Raises NotFound."""
    if table is None:
        raise NotFound(f"{label} has no table.", hint="Tables are what frames become: noria data commit NAME FILE --table.")
    return _files(compact(table, folder))


def _files(written: Written) -> Files:
    return written.new, list(written.kept.values())


def _require(frame: Frame, expect: Any, label: str, folder: Path) -> None:
    """Raises Invalid when the rows are not as expected."""
    from pyarrow import parquet

    from noria.client.expecting import require_source

    place = folder / "expected.parquet"
    with parquet.ParquetWriter(place, frame.schema) as out:
        for step in frame.steps():
            out.write_table(step.replace_schema_metadata(frame.schema.metadata).cast(frame.schema))
    require_source({TABLE_FILE: place}, expect, label)
    place.unlink()
