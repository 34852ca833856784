"""What leads from one version of a table to another, told from fragments and layers; and the merge of two by key.

Fragments that both have under the same layers are passed over. Where layers differ, what they say decides, since a replaced row
is never what its fragment holds. Only rows of fragments that one side lacks have to be read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from msgspec import Struct

from noria.kernel.errors import Conflict, TooLarge
from noria.repository.tables.keys import places_among
from noria.repository.tables.layers import REMOVED, REPLACED, RESTORED, Patch, concat
from noria.repository.tables.model import Fragment
from noria.repository.tables.rows import Numbers, bare, differing
from noria.repository.tables.table import Table
from noria.repository.tables.writing import TableWriter, Written

if TYPE_CHECKING:
    import pyarrow as pa

KEYS_NAMED = 20
ROWS_MAX = 5_000_000  # that differ between two versions, when they are merged


class Spot(Struct, frozen=True):
    """Rows of one fragment; all that are alive when `positions` is None."""

    fragment: Fragment
    positions: Any = None


class Changed(Struct, frozen=True):
    """Rows that both versions have at one place, and that say something else. `keys`: their keys, if the table has one."""

    before: Spot
    after: Spot
    keys: Any

    def __len__(self) -> int:
        return len(self.before.positions)


class Compared(Struct, frozen=True, kw_only=True):
    """What differs between two versions. A key may be among `gone` and `came`: the row then lies elsewhere, changed or not."""

    changed: list[Changed]
    gone: list[Spot]
    came: list[Spot]


def compare(a: Table, b: Table) -> Compared:
    """What leads from `a` to `b`, as places; nothing but layers is read."""
    mine, theirs = {f.id: f for f in a.fragments}, {f.id: f for f in b.fragments}
    changed, gone, came = list[Changed](), list[Spot](), list[Spot]()
    for name, fragment in mine.items():
        other = theirs.get(name)
        if other is None or other.name != fragment.name:
            gone.append(Spot(fragment))
        elif a.mark(fragment) != b.mark(other):
            _compare_layers(a, b, fragment, other, changed, gone, came)
    came += [Spot(f) for name, f in theirs.items() if name not in mine or mine[name].name != f.name]
    return Compared(changed=changed, gone=gone, came=came)


def _compare_layers(
    a: Table, b: Table, fragment: Fragment, other: Fragment, changed: list[Changed], gone: list[Spot], came: list[Spot]
) -> None:
    x, y = _said(a, fragment), _said(b, other)
    places = np.union1d(x.positions if x else np.arange(0), y.positions if y else np.arange(0)).astype(np.int64)
    left, right = _states(x, places), _states(y, places)
    is_gone, is_new = (left != REMOVED) & (right == REMOVED), (left == REMOVED) & (right != REMOVED)
    moved = (left == REPLACED) ^ (right == REPLACED)
    both = (left == REPLACED) & (right == REPLACED)
    if both.any():
        assert x is not None and y is not None
        rows = [p.rows.take(np.searchsorted(p.positions, places[both])) for p in (x, y)]
        moved[both] = differing(*rows)
    moved &= (left != REMOVED) & (right != REMOVED)
    if moved.any():
        at = places[moved]
        changed.append(Changed(Spot(fragment, at), Spot(other, at), _keys_at(a, x, y, at)))
    if is_gone.any():
        gone.append(Spot(fragment, places[is_gone]))
    if is_new.any():
        came.append(Spot(other, places[is_new]))


def _said(table: Table, fragment: Fragment) -> Patch | None:
    found = table.patches.get(fragment.id)
    return found and found.where(found.states != RESTORED)


def _states(patch: Patch | None, places: Numbers) -> Numbers:
    """What a patch says about these places; RESTORED where it says nothing."""
    states = np.full(len(places), RESTORED, dtype=np.int8)
    if patch is not None and len(patch.positions):
        states[np.searchsorted(places, patch.positions)] = patch.states
    return states


def _keys_at(table: Table, x: Patch | None, y: Patch | None, at: Numbers) -> Any:
    if not table.key:
        return None
    parts = [p.rows.select(table.key) for p in (x, y) if p is not None]
    positions = np.concatenate([p.positions for p in (x, y) if p is not None])
    order = np.argsort(positions, kind="stable")
    return concat(parts).take(order[np.searchsorted(positions[order], at)])


def rows_of(table: Table, spots: list[Spot]) -> Iterator[pa.Table]:
    """The rows at these places, fragment by fragment."""
    for spot in spots:
        yield table.fragment(spot.fragment) if spot.positions is None else table.rows_at(spot.fragment, spot.positions)


def rows_count(spots: list[Spot]) -> int:
    return sum(s.fragment.live if s.positions is None else len(s.positions) for s in spots)


# --- merging ----------------------------------------------------------------------------------------------------------


class Changes(Struct, frozen=True):
    """Rows to put in by their keys, and the keys of rows to take out."""

    rows: Any
    removed: Any


def changes(a: Table, b: Table, folder: Path) -> Changes:
    """What leads from `a` to `b`, as rows. Raises TooLarge."""
    found = compare(a, b)
    schema = bare(b.schema)
    if rows_count(found.gone) + rows_count(found.came) > ROWS_MAX:
        raise TooLarge(
            f"More than {ROWS_MAX:,} rows of {b.path!r} lie elsewhere now.", hint="Decide with --ours or --theirs."
        )
    rows = [table.cast(schema) for c in found.changed for table in rows_of(b, [c.after])]
    came = concat([schema.empty_table(), *(t.cast(schema) for t in rows_of(b, found.came))])
    gone = concat([schema.empty_table(), *(t.cast(schema) for t in rows_of(a, found.gone))])
    places = places_among(gone, came, a.key, folder)
    is_moved = places >= 0
    same = np.zeros(len(places), dtype=bool)
    same[is_moved] = ~differing(gone.take(places[is_moved]), came.filter(is_moved))
    is_left = np.ones(gone.num_rows, dtype=bool)
    is_left[places[is_moved]] = False
    return Changes(concat([schema.empty_table(), *rows, came.filter(~same)]), gone.filter(is_left).select(a.key))


class KeyConflict(Conflict):
    """Rows that both sides changed, each in its own way."""


def merge_tables(
    base: Table, ours: Table, theirs: Table, folder: Path, *, strategy: Literal["", "ours", "theirs"] = "", scale: int = 1
) -> Written:
    """Our version with what they changed since `base`. Raises KeyConflict naming the keys that both changed, unless decided."""
    mine, other = changes(base, ours, folder), changes(base, theirs, folder)
    clash = _clashes(mine, other, ours.key, folder)
    if clash.num_rows and not strategy:
        named = [", ".join(str(v) for v in row.values()) for row in clash.slice(0, KEYS_NAMED).to_pylist()]
        more = f" and {clash.num_rows - KEYS_NAMED:,} more" if clash.num_rows > KEYS_NAMED else ""
        raise KeyConflict(
            f"Both sides changed the rows of {ours.path} with {', '.join(ours.key)} {'; '.join(named)}{more}.",
            hint="Decide with --ours or --theirs, or commit the rows as they shall be.", where="keys",
        )  # fmt: skip
    if strategy != "theirs":
        other = Changes(_without(other.rows, clash, ours.key, folder), _without(other.removed, clash, ours.key, folder))
    writer = TableWriter(ours.path, ours, ours.schema, ours.key, folder, scale=scale)
    writer.apply(other.rows, other.removed)
    return writer.finish()


def _clashes(mine: Changes, other: Changes, key: list[str], folder: Path) -> pa.Table:
    """The keys that both changed to something else."""
    both = places_among(mine.rows, other.rows, key, folder)
    seen = np.flatnonzero(both >= 0)
    unlike = seen[differing(mine.rows.take(both[seen]), other.rows.take(seen))]
    found = [other.rows.select(key).take(unlike)]
    for removed, rows in ((mine.removed, other.rows), (other.removed, mine.rows)):
        found.append(rows.select(key).filter(places_among(removed, rows, key, folder) >= 0))
    return concat(found)


def _without(rows: pa.Table, keys: pa.Table, key: list[str], folder: Path) -> pa.Table:
    if not keys.num_rows or not rows.num_rows:
        return rows
    return rows.filter(places_among(keys, rows, key, folder) < 0)
