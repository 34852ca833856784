"""Samples of a version, streamed without a checkout: in an order that a seed decides, shared out, and resumable.

    for batch in noria.dataset("flights").version("train").stream(batch_size=1024, shuffle=True):
        ...                                                 # {"column": array of 1,024 values, …}

A version is cut into units: the row groups of its tables, or a few hundred files that were stored together. The seed orders
the units; each shard (a worker of a rank) takes every n-th; as many units as hold `window` samples are read at once, while
those before them are used, and their samples are mixed. So everything that was given out before is known from three numbers,
and a stream that goes on from them gives exactly what it would have given.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import numpy as np
from msgspec import Struct

from noria.datasets.model import TableFile, VersionFile, table_format
from noria.kernel.errors import Conflict, Invalid, NotFound

if TYPE_CHECKING:
    from noria.client.datasets import Version

WINDOW = 20_000  # samples mixed at a time
WINDOW_BYTES_MAX = 256 << 20  # and how much of files is held for it
FILES_PER_UNIT = 256
FILES_AT_ONCE = 8


class Unit(Struct, frozen=True):
    """What is read together: a row group of a table, or files."""

    files: list[VersionFile]
    samples: int
    size_bytes: int
    group: int = -1


class StreamState(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a stream is: so many units done, so many samples given of those that were read next."""

    version: str
    layout: list[Any]  # what must be the same for `unit` to mean the same: seed, shuffle, window, shard, shards, even
    epoch: int
    unit: int
    given: int


class Samples(Protocol):
    """Something read whole that samples are taken from by index."""

    def __len__(self) -> int: ...
    def take(self, indices: Any) -> Any: ...
    def one(self, index: int) -> Any: ...


class Stream:
    """An iterable over samples; see `Version.stream`. `len(stream)`: how often this share gives something in an epoch."""

    def __init__(
        self,
        version: Version,
        *,
        prefix: str = "",
        columns: Sequence[str] | None = None,
        batch_size: int | None = None,
        shuffle: bool = False,
        seed: int = 0,
        window: int = WINDOW,
        rank: int | None = None,
        ranks: int | None = None,
        even: bool = False,
        transform: Callable[[Any], Any] | None = None,
    ) -> None:
        if batch_size is not None and batch_size < 1:
            raise Invalid("batch_size is at least 1.", where="batch_size")
        if window < 1:
            raise Invalid("window is at least 1.", where="window")
        if (rank is None) != (ranks is None) or not 0 <= (rank or 0) < (ranks or 1):
            raise Invalid("rank and ranks go together, and rank is below ranks.", where="rank")
        self._place = Place(version)
        self._prefix, self._columns = prefix, None if columns is None else list(columns)
        self._batch_size, self._shuffle, self._seed, self._window = batch_size, shuffle, seed, window
        self._rank, self._ranks, self._even, self._transform = rank, ranks, even, transform
        self._epoch, self._unit, self._given = 0, 0, 0
        self._units: list[Unit] | None = None
        self._is_table = False

    # --- order ----------------------------------------------------------------------------------------------------------

    def set_epoch(self, epoch: int) -> None:
        """The next iteration is this epoch, with its own order when shuffled. An iteration that ends moves on to the next.

        Workers of a loader that are made anew each time begin with the epoch that was set before they were made.
        """
        self._epoch, self._unit, self._given = epoch, 0, 0

    def state_dict(self) -> dict[str, Any]:
        """Where the iteration is, for `load_state_dict` of a stream made the same way."""
        found: dict[str, Any] = msgspec.to_builtins(
            StreamState(
                version=self._place.version_id, layout=self._layout(), epoch=self._epoch, unit=self._unit, given=self._given
            )
        )
        return found

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there. Raises Conflict when the state belongs to another version, seed or share."""
        try:
            found = msgspec.convert(state, StreamState)
        except msgspec.ValidationError as cause:
            raise Invalid(f"This is not the state of a stream: {cause}", where="state") from cause
        if found.version != self._place.version_id:
            raise Conflict(
                f"The state is of version {found.version}, this stream of {self._place.version_id}.",
                hint="Open the version that the state names.",
            )
        if found.layout != self._layout():
            raise Conflict(
                f"The state is of a stream with {_told(found.layout)}, this one has {_told(self._layout())}.",
                hint="Make the stream as it was: seed, shuffle, window, ranks and workers.",
            )
        self._epoch, self._unit, self._given = found.epoch, found.unit, found.given

    def _layout(self) -> list[Any]:
        return [self._seed, self._shuffle, self._window, *self._shard(), self._even, self._prefix]

    def _shard(self) -> tuple[int, int]:
        """Which share of how many this is: ranks times the workers of each."""
        worker, workers = worker_of_rank()
        rank, ranks = (self._rank or 0, self._ranks) if self._ranks else rank_of_job()
        return rank * workers + worker, ranks * workers

    def _order(self, count: int) -> Any:
        return np.random.default_rng([self._seed, self._epoch]).permutation(count) if self._shuffle else np.arange(count)

    def _share(self) -> tuple[list[Unit], int]:
        """The units of this shard, in order, and how many samples it gives."""
        units = self.units()
        shard, shards = self._shard()
        order = self._order(len(units))
        shares = [[units[i] for i in order[s::shards]] for s in range(shards)] if self._even else [[]] * shards
        mine = shares[shard] if self._even else [units[i] for i in order[shard::shards]]
        totals = [sum(u.samples for u in share) for share in shares] if self._even else [sum(u.samples for u in mine)]
        return mine, min(totals)

    def __len__(self) -> int:
        return -(-self._share()[1] // (self._batch_size or 1))

    def units(self) -> list[Unit]:
        """What the version is cut into, in its own order."""
        if self._units is None:
            version = self._place.open()
            files = version.files(self._prefix)
            if not files:
                raise NotFound(f"{version.handle} has no file that begins with {self._prefix!r}.", where="prefix")
            tables = [f for f in files if table_format(f.path)]
            self._is_table = len(tables) == len(files) or bool(tables and self._columns)
            self._units = _table_units(version, tables) if self._is_table else _file_units(files)
        return self._units

    # --- reading --------------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Any]:
        self._place.open()._note_read()
        units, total = self._share()
        windows = self._windows(units)
        at = next((i for i, (first, _) in enumerate(windows) if first == self._unit), len(windows))
        left, begun = total - sum(u.samples for u in units[: self._unit]), list[Any]()
        with ThreadPoolExecutor(1, thread_name_prefix="noria-stream") as reader:
            coming = reader.submit(self._read, windows[at][1]) if at < len(windows) and left > 0 else None
            while coming is not None:
                samples, (first, read) = coming.result(), windows[at]
                at, goes_on = at + 1, left > len(samples) and at + 1 < len(windows)
                coming = reader.submit(self._read, windows[at][1]) if goes_on else None
                yield from self._give(samples, first, min(len(samples), left), begun)
                left -= len(samples)
                if goes_on and not begun:
                    self._unit, self._given = first + len(read), 0
        if begun:
            self._unit, self._given = len(units), 0
            yield self._whole(begun)
        self.set_epoch(self._epoch + 1)

    def _give(self, samples: Samples, first: int, most: int, begun: list[Any]) -> Iterator[Any]:
        """Samples of one window, mixed when shuffling, from where the state says. `begun` is a batch that is not full yet.

        The state moves with what is given out only: a batch that is begun is begun again by whoever goes on.
        """
        order = np.arange(len(samples))
        if self._shuffle:
            shard, _ = self._shard()
            np.random.default_rng([self._seed, self._epoch, shard, first]).shuffle(order)
        size, at = self._batch_size, self._given if self._unit == first else 0
        while at < most:
            if size is None:
                found, at = samples.one(int(order[at])), at + 1
                self._unit, self._given = first, at
                yield self._transform(found) if self._transform else found
                continue
            part = order[at : min(at + size - sum(len(p) for _, p in begun), most)]
            begun.append((samples.take(part), part))
            at += len(part)
            if sum(len(p) for _, p in begun) == size:
                self._unit, self._given = first, at
                yield self._whole(begun)

    def _whole(self, begun: list[Any]) -> Any:
        """The parts of a batch as one; `begun` is empty then."""
        parts = [part for part, _ in begun]
        begun.clear()
        if isinstance(parts[0], dict):
            found: Any = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        else:
            found = [item for part in parts for item in part]
        return self._transform(found) if self._transform else found

    def _windows(self, units: list[Unit]) -> list[tuple[int, list[Unit]]]:
        """Units that are read together: the number of the first, and they."""
        found, at = list[tuple[int, list[Unit]]](), 0
        while at < len(units):
            upto, samples, size = at + 1, units[at].samples, units[at].size_bytes
            while (
                upto < len(units)
                and samples + units[upto].samples <= self._window
                and size + units[upto].size_bytes <= WINDOW_BYTES_MAX
            ):
                samples, size, upto = samples + units[upto].samples, size + units[upto].size_bytes, upto + 1
            found.append((at, units[at:upto]))
            at = upto
        return found

    def _read(self, units: list[Unit]) -> Samples:
        version = self._place.open()
        if not self._is_table:
            return Files(version, [f for unit in units for f in unit.files])
        import pyarrow as pa

        tables = [_read_group(version, unit, self._columns) for unit in units]
        return Rows(pa.concat_tables(tables, promote_options="permissive"))


class Rows:
    """Rows of a table. A batch is a dict of arrays by column, one row a dict of values."""

    def __init__(self, table: Any) -> None:
        self._table = table

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def take(self, indices: Any) -> dict[str, Any]:
        part = self._table.take(indices)
        return {name: part[name].to_numpy(zero_copy_only=False) for name in part.column_names}

    def one(self, index: int) -> dict[str, Any]:
        row: dict[str, Any] = self._table.slice(index, 1).to_pylist()[0]
        return row


class Files:
    """Whole files: `{"path": …, "data": bytes}`; a batch is a list of them. Read when the window is."""

    def __init__(self, version: Version, files: list[VersionFile]) -> None:
        self._paths = [f.path for f in files]
        with ThreadPoolExecutor(FILES_AT_ONCE, thread_name_prefix="noria-files") as pool:
            self._data = list(pool.map(version._read_file, files))

    def __len__(self) -> int:
        return len(self._paths)

    def take(self, indices: Any) -> list[dict[str, Any]]:
        return [self.one(int(i)) for i in indices]

    def one(self, index: int) -> dict[str, Any]:
        return {"path": self._paths[index], "data": self._data[index]}


def _table_units(version: Version, tables: list[VersionFile]) -> list[Unit]:
    from pyarrow import parquet

    found = list[Unit]()
    for file in tables:
        if isinstance(file, TableFile):
            table = version._rows_of(file)
            sizes = [table.file_of(f).size_bytes for f in table.fragments]
            found += [
                Unit([file], f.live, s, i) for i, (f, s) in enumerate(zip(table.fragments, sizes, strict=True)) if f.live
            ]
            continue
        if table_format(file.path) != "parquet":
            found.append(Unit([file], version._read_table(file).num_rows, file.size_bytes))
            continue
        with version.open(file.path) as opened:
            footer = parquet.read_metadata(opened)
        groups = [footer.row_group(i) for i in range(footer.num_row_groups)]
        found += [Unit([file], g.num_rows, g.total_byte_size, i) for i, g in enumerate(groups) if g.num_rows]
    return found


def _file_units(files: list[VersionFile]) -> list[Unit]:
    found, part, size = list[Unit](), list[VersionFile](), 0
    for file in files:  # by path, which is also how they lie in the packs
        if part and (len(part) == FILES_PER_UNIT or size + file.size_bytes > WINDOW_BYTES_MAX // 4):
            found.append(Unit(part, len(part), size))
            part, size = [], 0
        part.append(file)
        size += file.size_bytes
    return [*found, Unit(part, len(part), size)]


def _read_group(version: Version, unit: Unit, columns: list[str] | None) -> Any:
    file = unit.files[0]
    if isinstance(file, TableFile):
        table = version._rows_of(file)
        return table.fragment(table.fragments[unit.group], columns)
    if unit.group < 0:
        table = version._read_table(file)
        return table if columns is None else table.select(columns)
    from pyarrow import parquet

    with version.open(file.path) as opened:
        return parquet.ParquetFile(opened, pre_buffer=True).read_row_group(unit.group, columns=columns)


class Place:
    """A version that can be opened again in another process: workers of a loader are forked or get a pickled copy."""

    def __init__(self, version: Version) -> None:
        from noria.client.repositories import LocalVersion

        self.version_id = str(version.id)
        self._dataset = version.dataset.name
        self._store = version._repository.url if isinstance(version, LocalVersion) else ""
        self._url = "" if self._store else version._api.url
        self._token = "" if self._store else version._api.token
        self._opened: tuple[int, Version] | None = (os.getpid(), version)

    def open(self) -> Version:
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = (os.getpid(), self._open())
        return self._opened[1]

    def _open(self) -> Version:
        from noria.client.api import connect
        from noria.client.datasets import Dataset
        from noria.client.repositories import LocalDataset
        from noria.repository.repository import open_repository

        if self._store:
            return LocalDataset(self._dataset, open_repository(self._store)).version(self.version_id)
        return Dataset(self._dataset, connect(self._url, self._token)).version(self.version_id)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}


def rank_of_job() -> tuple[int, int]:
    """Which process of how many this is, as torch.distributed or its launcher says; (0, 1) when nobody does."""
    import sys

    torch = sys.modules.get("torch")
    if torch is not None and torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    rank, ranks = os.environ.get("RANK", ""), os.environ.get("WORLD_SIZE", "")
    return (int(rank), int(ranks)) if rank.isdigit() and ranks.isdigit() and int(rank) < int(ranks) else (0, 1)


def worker_of_rank() -> tuple[int, int]:
    """Which worker of how many of a PyTorch DataLoader this is; (0, 1) outside of one."""
    import sys

    data = sys.modules.get("torch.utils.data")
    info = data.get_worker_info() if data is not None else None
    return (info.id, info.num_workers) if info is not None else (0, 1)


def _told(layout: list[Any]) -> str:
    names = ("seed", "shuffle", "window", "shard", "shards", "even", "prefix")
    return ", ".join(f"{name} {value!r}" for name, value in zip(names, layout, strict=False))
