"""The rows of a segment, wherever they lie: in its own Arrow file, or in a Parquet file with those of its neighbours."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import Any

from noria.kernel.blobs import BlobStore
from noria.kernel.errors import Invalid, NotFound
from noria.monitoring.segments import Inferences, inferences_of, read_row, read_table
from noria.monitoring.segments_store import SegmentRow

NEEDED = ("prediction_id", "revision_id", "model_version", "at_ms", "event_at_ms")


def whole(archive: Archive, segments: Iterable[SegmentRow]) -> Iterator[tuple[int, Inferences]]:
    """The segments with their rows, without those that were deleted."""
    for segment in segments:
        try:
            yield segment.id, archive.inferences(segment)
        except NotFound:
            continue


class Archive:
    """Reads segments one after the other; the file that was read last is kept, since neighbours lie in one file."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._digest = ""
        self._file: Any = None

    def table(self, segment: SegmentRow) -> Any:
        """The rows of a segment as an Arrow table. Raises NotFound when they were deleted."""
        if segment.file is None:
            return read_table(self._blobs.get(segment.digest), needs=NEEDED)
        if segment.file != self._digest:
            self._file, self._digest = _parquet(self._blobs.get(segment.file)).read(), segment.file
        return self._file.slice(segment.offset, segment.rows)

    def inferences(self, segment: SegmentRow) -> Inferences:
        """The rows of an inference segment. Raises NotFound."""
        return inferences_of(self.table(segment))


def row_of(blobs: BlobStore, segment: SegmentRow, row: int) -> dict[str, Any]:
    """One row of a segment with every column, for the page of one prediction. Raises NotFound, Invalid."""
    if segment.file is None:
        return read_row(blobs.get(segment.digest), row)
    file, at = _parquet(blobs.get(segment.file)), segment.offset + row
    for group in range(file.metadata.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        if at < rows:
            found: dict[str, Any] = file.read_row_group(group).slice(at, 1).to_pylist()[0]
            return found
        at -= rows
    raise Invalid(f"The file {segment.file[:12]} has no row {segment.offset + row}.")


def _parquet(data: bytes) -> Any:
    from pyarrow import parquet

    return parquet.ParquetFile(io.BytesIO(data))
