"""From a frame to the next version of a table: what changed becomes rows of a layer, or new fragments where much changed.

Fragments of the frame that say what the table's say are taken over unread. Where the keys (without a key: the number of rows) of a
fragment did not move, rows are compared one by one; else, with a key, every row is looked up by it. Memory holds a fragment or
two and what changed. With a key a table is a set of rows: the order in which they come does not count.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from msgspec import Struct

from noria.datasets.model import VersionFile
from noria.repository.tables.cutting import ROWS_MIN, Cutter
from noria.repository.tables.frames import Frame
from noria.repository.tables.keys import check_key, places_in, places_of, require_unique
from noria.repository.tables.layers import (
    REMOVED,
    REPLACED,
    RESTORED,
    Patch,
    concat,
    join,
    nullable,
    write_fragment,
    write_layer,
)
from noria.repository.tables.model import (
    Fragment,
    LayerEntry,
    TableManifest,
    encode_schema,
    fragment_path,
    layer_path,
    manifest_path,
    needed_paths,
)
from noria.repository.tables.rows import Numbers, bare, differing, digest
from noria.repository.tables.table import Table

if TYPE_CHECKING:
    import pyarrow as pa

SHARE_MAX = 0.05  # of the rows of a fragment that layers may change; beyond, it is written anew
PATCH_ROWS_MAX = 1_000_000  # of all layers together, which readers hold in memory
LAYERS_MAX = 16  # then they become one
OPEN_MAX = 200  # files that rows wait in while they are sorted
SMALL_MAX = 16  # fragments of less than a quarter of the least; then they become one

_POSITION = "__noria_position"


class Written(Struct, frozen=True, kw_only=True):
    """The stored files of a version of a table: new ones, by their path here, and those that were there."""

    manifest: TableManifest
    new: dict[str, Path]
    kept: dict[str, VersionFile]


def write_table(
    path: str, base: Table | None, frame: Frame, folder: Path, *, key: Sequence[str] | None = None, scale: int = 1
) -> Written:
    """The table `path` as `frame` has it. `key` None: that of the base. Raises Invalid (a key that names no row, or two)."""
    frame = frame if base is None else frame.like(base.schema)
    wanted = check_key(frame.schema, base.key if key is None and base is not None else key or [])
    if base is not None and (base.key != wanted or bare(base.schema) != bare(frame.schema)):
        base = None
    writer = TableWriter(path, base, frame.schema, wanted, folder, scale=scale)
    writer.take(frame)
    return writer.finish()


class TableWriter:
    """Collects the fragments and patches of the next version."""

    def __init__(
        self, path: str, base: Table | None, schema: pa.Schema, key: list[str], folder: Path, *, scale: int = 1
    ) -> None:
        self._path, self._base, self._schema, self._key = path, base, schema, key
        self._folder, self._scale = folder, scale
        self._cut_by = key or schema.names
        self._fragments: list[Fragment] = []
        self._patches: dict[str, Patch] = {}
        self._ids: set[str] = set()
        self._patched_rows = sum(len(p.positions) for p in base.patches.values()) if base else 0

    # --- in order -----------------------------------------------------------------------------------------------------------

    def take(self, frame: Frame) -> None:
        """Compare the frame with the base side by side, and look up by key what lies elsewhere."""
        old = list(self._base.fragments) if self._base else []
        if self._key and not old:
            require_unique(frame, self._key, self._folder)
        at, start, places = 0, 0, {f.content: i for i, f in enumerate(old) if f.content}
        loose: list[tuple[int, int]] = []  # rows of the frame, from and to
        done: set[str] = set()
        for rows in _cut(frame, self._cut_by, self._scale):
            content, end = digest(rows), start + rows.num_rows
            i = at if at < len(old) and old[at].content == content else places.get(content, -1)
            if i >= at:  # rows before it may have come or gone
                self.keep(old[i])
                done.add(old[i].id)
                at = i + 1
            elif at < len(old) and old[at].live == rows.num_rows and self._change_in_place(old[at], rows, content):
                done.add(old[at].id)
                at += 1
            elif self._key and old:
                loose.append((start, end))
                at = min(at + 1, len(old))
            else:
                self.add(rows, content)
            start = end
        left = [f for f in old if f.id not in done]
        if self._key and loose and left:
            self._by_key(frame, loose, left)
        elif loose:
            self._all_new(frame, loose)
        if self._key:
            order = {f.id: i for i, f in enumerate(old)}
            self._fragments.sort(key=lambda f: order.get(f.id, len(order)))

    def _change_in_place(self, fragment: Fragment, rows: pa.Table, content: str) -> bool:
        """Put what differs into a patch, when the rows are those of the fragment but for a few."""
        assert self._base is not None
        stored, alive = self._base.stored(fragment, self._key or None)
        if self._key:
            if differing(stored.filter(alive), rows.select(self._key)).any():
                return False
        elif not alive.all() or differing(stored, rows).mean() > SHARE_MAX:
            return False
        self.compare(fragment, rows, np.flatnonzero(alive), content)
        return True

    # --- by key -------------------------------------------------------------------------------------------------------------

    def _by_key(self, frame: Frame, loose: list[tuple[int, int]], left: list[Fragment]) -> None:
        """Look rows up by their keys among the fragments that are left; what is in none becomes a new one."""
        assert self._base is not None
        places = places_of(self._base, left, frame, self._folder)
        cutter = Cutter(self._cut_by, scale=self._scale)
        with contextlib.closing(_Sorter(left, self._folder)) as sorter:
            for rows, mine in _ranges(frame, loose, places):
                sorter.push(rows, mine)
                if (mine < 0).any():
                    for whole in cutter.push(rows.filter(mine < 0)):
                        self.add(whole)
            for fragment, rows, positions in sorter.fragments():
                self.compare(fragment, rows, positions)
        for whole in cutter.finish():
            self.add(whole)

    def _all_new(self, frame: Frame, loose: list[tuple[int, int]]) -> None:
        """Rows beside fragments that are all as they were."""
        require_unique(frame, self._key, self._folder)
        cutter = Cutter(self._cut_by, scale=self._scale)
        for rows, _ in _ranges(frame, loose, None):
            for whole in cutter.push(rows):
                self.add(whole)
        for whole in cutter.finish():
            self.add(whole)

    # --- what a fragment comes to -------------------------------------------------------------------------------------------

    def compare(self, fragment: Fragment, rows: pa.Table, positions: Numbers, content: str = "") -> None:
        """The rows of `fragment` are `rows` now, those at `positions` (rising); the others are gone."""
        assert self._base is not None
        stored, alive = self._base.stored(fragment)
        if content and fragment.rows == len(positions):
            before = stored
        else:
            before = stored.take(positions)
        changed = differing(before, rows) | ~alive[positions]
        gone = alive.copy()
        gone[positions] = False
        gone_at = np.flatnonzero(gone)
        places = np.flatnonzero(changed)
        if not len(places) and not len(gone_at):
            self.keep(fragment if not content else msgspec.structs.replace(fragment, content=content))
            return
        old = self._base.patches.get(fragment.id)
        patch = self._patch(fragment, stored, rows, positions, places, gone_at, old)
        total = len(np.union1d(patch.positions, old.positions)) if old else len(patch.positions)
        more = total - (len(old.positions) if old else 0)
        if total > SHARE_MAX * fragment.rows or self._patched_rows + more > PATCH_ROWS_MAX:
            self._patched_rows -= len(old.positions) if old else 0
            self.add(rows, content)
            return
        self._patched_rows += more
        self._ids.add(fragment.id)
        self._patches[fragment.id] = patch
        self._fragments.append(msgspec.structs.replace(fragment, live=len(positions), content=content))

    def _patch(
        self, fragment: Fragment, stored: pa.Table, rows: pa.Table, positions: Numbers, places: Numbers, gone: Numbers,
        old: Patch | None,
    ) -> Patch:  # fmt: skip
        assert self._base is not None
        return self._patch_of(fragment, positions[places], rows.take(places), gone, stored.take(gone), old)

    def _patch_of(
        self, fragment: Fragment, at: Numbers, rows: pa.Table, gone: Numbers, gone_rows: pa.Table, old: Patch | None
    ) -> Patch:
        """A patch that puts `rows` at `at` and removes what is at `gone`."""
        assert self._base is not None
        schema, states = nullable(self._schema), np.full(len(at), REPLACED, dtype=np.int8)
        if old is not None and (seen := np.isin(at, old.positions)).any():
            raw = self._base.raw_rows(fragment, at[seen])
            states[np.flatnonzero(seen)[~differing(raw, rows.filter(seen))]] = RESTORED
        is_new = states == REPLACED
        found = [Patch(at[is_new], states[is_new], rows.filter(is_new).cast(schema))]
        for positions, those, state in ((at[~is_new], rows.filter(~is_new), RESTORED), (gone, gone_rows, REMOVED)):
            if len(positions):
                keys = _keys_only(those, self._key, schema)
                found.append(Patch(positions, np.full(len(positions), state, dtype=np.int8), keys))
        return join(found)

    def apply(self, rows: pa.Table, removed: pa.Table) -> None:
        """The base with these rows put in by their keys, and the rows with the keys of `removed` taken out."""
        assert self._base is not None
        places, starts = places_in(self._base, rows, self._folder), _starts(self._base.fragments)
        gone = places_in(self._base, removed, self._folder) if removed.num_rows else np.arange(0)
        for i, fragment in enumerate(self._base.fragments):
            low, high = starts[i], starts[i + 1]
            mine = np.flatnonzero((places >= low) & (places < high))
            mine = mine[np.argsort(places[mine])]
            out = np.sort(gone[(gone >= low) & (gone < high)]) - low
            if len(mine) or len(out):
                self._apply_to(fragment, rows.take(mine), places[mine] - low, out)
            else:
                self.keep(fragment)
        self.add(rows.filter(places < 0))

    def _apply_to(self, fragment: Fragment, rows: pa.Table, at: Numbers, gone: Numbers) -> None:
        assert self._base is not None
        stored, alive = self._base.stored(fragment)
        alive[gone] = False
        places = np.arange(fragment.rows)
        places[at] = fragment.rows + np.arange(len(at))
        self.compare(fragment, concat([stored, rows.cast(stored.schema)]).take(places[alive]), np.flatnonzero(alive))

    def keep(self, fragment: Fragment) -> None:
        self._ids.add(fragment.id)
        self._fragments.append(fragment)

    def add(self, rows: pa.Table, content: str = "") -> None:
        """Rows as a fragment of their own."""
        if not rows.num_rows:
            return
        content = content or digest(rows)
        file = self._folder / f"{content}.parquet"
        is_known = self._base is not None and fragment_path(self._path, content) in self._base.parts
        if not is_known and not file.exists():
            write_fragment(rows, file)
        found = self._free(content)
        self._fragments.append(Fragment(id=found, name=content, rows=rows.num_rows, live=rows.num_rows, content=content))

    def _free(self, content: str) -> str:
        taken = self._ids | {f.id for f in self._base.fragments} if self._base else self._ids
        found, n = content[:12], 1
        while found in taken:
            n += 1
            found = f"{content[:12]}-{n}"
        self._ids.add(found)
        return found

    # --- the whole ----------------------------------------------------------------------------------------------------------

    def finish(self, *, fold: bool = False) -> Written:
        """Write the layer and name everything. `fold`: all layers as one."""
        self._gather_small()
        layers, fragments, files = self._layers(fold)
        # What a data frame says about itself besides its rows makes no version of its own.
        is_same = self._base is not None and fragments == self._base.fragments
        schema = self._base.manifest.schema if self._base is not None and is_same else encode_schema(self._schema)
        manifest = TableManifest(key=self._key, schema=schema, fragments=fragments, layers=layers)
        place = self._folder / "table.json"
        place.write_bytes(manifest.encode())
        new, kept = {manifest_path(self._path): place}, dict[str, VersionFile]()
        base_parts = self._base.parts if self._base else {}
        for path in needed_paths(self._path, manifest)[1:]:
            if path in base_parts:
                kept[path] = base_parts[path]
            else:
                new[path] = files.get(path) or self._folder / path.rpartition("/")[2]
        return Written(manifest=manifest, new=new, kept=kept)

    def _gather_small(self) -> None:
        """Many small fragments, of commits that added few rows, become one."""
        small = [f for f in self._fragments if f.live < ROWS_MIN // self._scale // 4]
        if not self._key or len(small) <= SMALL_MAX:
            return
        mine = {f.id for f in small}
        rows = [self._now(f) for f in small]
        self._fragments = [f for f in self._fragments if f.id not in mine]
        for fragment in mine:
            self._patches.pop(fragment, None)
        cutter = Cutter(self._cut_by, scale=self._scale)
        for part in rows:
            for whole in cutter.push(part):
                self.add(whole)
        for whole in cutter.finish():
            self.add(whole)

    def _now(self, fragment: Fragment) -> pa.Table:
        """The rows of a fragment as they will be in the new version."""
        file = self._folder / f"{fragment.name}.parquet"
        known = {f.id for f in self._base.fragments} if self._base else set()
        if fragment.id not in known:
            from pyarrow import parquet

            rows: pa.Table = parquet.read_table(file) if file.exists() else self._base.raw(fragment)  # type: ignore[union-attr]
            return rows.cast(bare(self._schema))
        assert self._base is not None
        return self._base.fragment(fragment, above=self._patches.get(fragment.id))

    def _layers(self, fold: bool) -> tuple[list[LayerEntry], list[Fragment], dict[str, Path]]:
        old = list(self._base.manifest.layers) if self._base else []
        fragments = self._fragments
        used = sorted({n for f in fragments for n in f.layers})
        if fold or len(used) + bool(self._patches) > LAYERS_MAX:
            return self._folded()
        renamed = {n: i for i, n in enumerate(used)}
        layers = [old[n] for n in used]
        fragments = [msgspec.structs.replace(f, layers=[renamed[n] for n in f.layers]) for f in fragments]
        files: dict[str, Path] = {}
        if self._patches:
            name, rows, file = write_layer(self._patches, self._schema, self._folder)
            fragments = [
                msgspec.structs.replace(f, layers=[*f.layers, len(layers)]) if f.id in self._patches else f
                for f in fragments
            ]
            layers.append(LayerEntry(name=name, rows=rows))
            files[layer_path(self._path, name)] = file
        return layers, fragments, files

    def _folded(self) -> tuple[list[LayerEntry], list[Fragment], dict[str, Path]]:
        assert self._base is not None
        merged: dict[str, Patch] = {}
        for fragment in self._fragments:
            said = [p for p in (self._base.patches.get(fragment.id), self._patches.get(fragment.id)) if p is not None]
            if said and len((found := join(said)).positions[found.states != RESTORED]):
                merged[fragment.id] = found.where(found.states != RESTORED)
        fragments = [msgspec.structs.replace(f, layers=[0] if f.id in merged else []) for f in self._fragments]
        if not merged:
            return [], fragments, {}
        name, rows, file = write_layer(merged, self._schema, self._folder)
        return [LayerEntry(name=name, rows=rows)], fragments, {layer_path(self._path, name): file}


def compact(base: Table, folder: Path, *, scale: int = 1) -> Written:
    """The same rows without layers, in fragments as a first commit would cut them."""
    writer = TableWriter(base.path, None, base.schema, base.key, folder, scale=scale)
    cutter = Cutter(base.key or base.schema.names, scale=scale)
    for fragment in base.fragments:
        for rows in cutter.push(base.fragment(fragment)):
            writer.add(rows)
    for rows in cutter.finish():
        writer.add(rows)
    return writer.finish()


def _keys_only(rows: pa.Table, key: Sequence[str], schema: pa.Schema) -> pa.Table:
    import pyarrow as pa

    columns = [rows.column(f.name).cast(f.type) if f.name in key else pa.nulls(rows.num_rows, f.type) for f in schema]
    return pa.table(columns, schema=schema)


def _cut(frame: Frame, columns: Sequence[str], scale: int) -> Iterator[pa.Table]:
    cutter = Cutter(columns, scale=scale)
    for step in frame.steps():
        yield from cutter.push(step)
    yield from cutter.finish()


def _ranges(frame: Frame, wanted: list[tuple[int, int]], places: Numbers | None) -> Iterator[tuple[pa.Table, Numbers]]:
    """The rows of the frame from and to these numbers, with the places of each (-1 without any)."""
    at, i = 0, 0
    for step in frame.steps():
        end = at + step.num_rows
        while i < len(wanted) and wanted[i][0] < end:
            low, high = max(wanted[i][0], at), min(wanted[i][1], end)
            if low < high:
                mine = np.full(high - low, -1) if places is None else places[low:high]
                yield step.slice(low - at, high - low), mine
            if wanted[i][1] > end:
                break
            i += 1
        at = end


def _starts(fragments: Sequence[Fragment]) -> Numbers:
    """Where each fragment begins when their stored rows are counted through, and where the last one ends."""
    return np.cumsum([0, *(f.rows for f in fragments)])


class _Sorter:
    """Rows with places in fragments, given back fragment by fragment in the order of their places; they wait on disk."""

    def __init__(self, fragments: list[Fragment], folder: Path) -> None:
        self._fragments, self._folder = fragments, folder
        self._starts = _starts(fragments)
        self._writers: dict[int, tuple[Any, Any]] = {}
        self._files: dict[int, list[Path]] = {}

    def push(self, rows: pa.Table, places: Numbers) -> None:
        import pyarrow as pa

        owners = np.searchsorted(self._starts, places, side="right") - 1
        for owner in np.unique(owners[places >= 0]).tolist():
            mine = (owners == owner) & (places >= 0)
            part = rows.filter(mine).append_column(_POSITION, pa.array(places[mine] - self._starts[owner]))
            if owner not in self._writers:
                if len(self._writers) >= OPEN_MAX:
                    self.close()
                files = self._files.setdefault(owner, [])
                files.append(self._folder / f"sort-{owner}-{len(files)}.arrow")
                out = pa.OSFile(str(files[-1]), "wb")
                self._writers[owner] = (pa.ipc.new_stream(out, part.schema), out)
            self._writers[owner][0].write_table(part)

    def fragments(self) -> Iterator[tuple[Fragment, pa.Table, Numbers]]:
        """Every fragment that has rows still, with them and their positions."""
        import pyarrow as pa

        self.close()
        for owner, files in sorted(self._files.items()):
            parts = []
            for file in files:
                with pa.OSFile(str(file)) as opened:
                    parts.append(pa.ipc.open_stream(opened).read_all())
                file.unlink()
            rows = concat(parts)
            positions = rows.column(_POSITION).to_numpy()
            rows = rows.drop_columns([_POSITION])
            if (np.diff(positions) < 0).any():
                order = np.argsort(positions, kind="stable")
                rows, positions = rows.take(order), positions[order]
            yield self._fragments[owner], rows, positions

    def close(self) -> None:
        for writer, file in self._writers.values():
            writer.close()
            file.close()
        self._writers = {}
