"""Layers: rows that replace, remove or restore rows of fragments, by fragment and position; and the files of both.

A layer is a Parquet file with three columns of ours before those of the table. Of several layers that speak of one row the last
one is right. Invariant: a replaced row is not what its fragment holds, so that versions are compared without reading fragments;
going back to what the fragment holds is written as *restored*. A removed row keeps its key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from blake3 import blake3
from msgspec import Struct

if TYPE_CHECKING:
    import pyarrow as pa

REPLACED, REMOVED, RESTORED = 0, 1, 2
GROUP_ROWS = 32 << 10  # what is decoded to see one row
OURS = ("__noria_fragment", "__noria_position", "__noria_state")
_IDS = b"noria.fragments"


class Patch(Struct, frozen=True):
    """What layers say about one fragment: positions (rising), states, and a row for each (only the key of removed ones)."""

    positions: Any
    states: Any
    rows: Any

    def where(self, mask: Any) -> Patch:
        import numpy as np

        places = np.flatnonzero(mask)
        return Patch(self.positions[places], self.states[places], self.rows.take(places))


def join(patches: Sequence[Patch]) -> Patch:
    """Several of one fragment as one, the later ones first of all."""
    import numpy as np
    import pyarrow as pa

    if len(patches) == 1:
        return patches[0]
    positions = np.concatenate([p.positions for p in patches])
    order = np.argsort(positions, kind="stable")
    is_last = np.append(positions[order][1:] != positions[order][:-1], True)
    kept = order[is_last]
    rows = pa.concat_tables([p.rows for p in patches]).unify_dictionaries().take(kept)
    return Patch(positions[kept], np.concatenate([p.states for p in patches])[kept], rows)


def write_layer(patches: Mapping[str, Patch], schema: pa.Schema, folder: Path) -> tuple[str, int, Path]:
    """Write a layer; returns its name, by content, its rows and its file."""
    import numpy as np
    import pyarrow as pa
    from pyarrow import parquet

    listed = sorted(patches)
    fields = [pa.field(OURS[0], pa.int32()), pa.field(OURS[1], pa.int32()), pa.field(OURS[2], pa.int8())]
    fields += [field.with_nullable(True).remove_metadata() for field in schema]
    whole = pa.schema(fields, metadata={_IDS: msgspec.json.encode(listed)})
    parts = []
    for i, fragment in enumerate(listed):
        patch = patches[fragment]
        ours = [np.full(len(patch.positions), i), patch.positions, patch.states]
        columns = [pa.array(x, type=f.type) for x, f in zip(ours, fields, strict=False)]
        parts.append(pa.Table.from_arrays([*columns, *patch.rows.columns], names=whole.names).cast(whole))
    table = pa.concat_tables(parts).unify_dictionaries()
    draft = folder / f"layer-{len(listed)}-{table.num_rows}.parquet"
    parquet.write_table(
        table, draft, compression="zstd", compression_level=3, use_dictionary=_dictionaries(whole), write_statistics=False
    )
    name = blake3(draft.read_bytes()).hexdigest(length=16)
    return name, table.num_rows, draft.rename(folder / f"{name}.layer.parquet")


def read_layer(file: Any, schema: pa.Schema) -> dict[str, Patch]:
    """What a layer says, by fragment."""
    import numpy as np
    from pyarrow import parquet

    table = parquet.read_table(file)
    listed = msgspec.json.decode((table.schema.metadata or {})[_IDS], type=list[str])
    number, position, state = (table.column(name).to_numpy() for name in OURS)
    rows = table.select([name for name in table.column_names if name not in OURS]).cast(nullable(schema))
    ends = np.searchsorted(number, np.arange(len(listed) + 1))
    return {
        fragment: Patch(position[low:high].astype(np.int64), state[low:high], rows.slice(low, high - low))
        for fragment, low, high in zip(listed, ends, ends[1:], strict=False)
    }


def nullable(schema: pa.Schema) -> pa.Schema:
    """The same columns, any of which may be null: of a removed row only the key is kept."""
    import pyarrow as pa

    return pa.schema([field.with_nullable(True).remove_metadata() for field in schema])


def write_fragment(table: pa.Table, target: Path) -> None:
    """Rows as a plain Parquet file, which says nothing but the rows."""
    from pyarrow import parquet

    parquet.write_table(
        table.replace_schema_metadata(None), target, compression="zstd", compression_level=1, row_group_size=GROUP_ROWS,
        use_dictionary=_dictionaries(table.schema),
    )  # fmt: skip


def _dictionaries(schema: pa.Schema) -> list[str]:
    """The columns that are worth a dictionary: texts. Numbers seldom repeat enough to pay for it."""
    import pyarrow as pa

    def pays(kind: Any) -> bool:
        return not (pa.types.is_floating(kind) or pa.types.is_temporal(kind) or pa.types.is_nested(kind))

    return [f.name for f in schema if pays(f.type)]


def concat(tables: Iterable[pa.Table]) -> pa.Table:
    import pyarrow as pa

    return pa.concat_tables(list(tables)).unify_dictionaries()
