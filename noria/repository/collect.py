"""The collector: what no reference reaches is removed, after a grace time. Also: what takes how much space.

In a folder it works alone, under a lock that every writer shares, so nothing can come to need what it removes. A bucket has no
locks; there it goes in two steps. A pack that nothing needs gets a tombstone; writers do not rely on what is in such packs,
and a writer that did refuses to finish (`Writing.finish`). A later run removes the pack if its tombstone is older than the grace
time and still nothing needs it. A pack of which less than half is needed is written anew and then treated like the others.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable

from msgspec import Struct

from noria.datasets.model import VersionFile
from noria.kernel.clock import SystemClock
from noria.kernel.crash import crash_here
from noria.kernel.errors import Invalid, NotFound, Unavailable
from noria.repository import trees
from noria.repository.model import Refs
from noria.repository.objects import Found
from noria.repository.packs import RECIPE, PackIndex, PackWriter, Place, decode_recipe, index_key, pack_key
from noria.repository.repository import Repository, commit_key

GRACE_S = 24 * 3600.0
GRACE_S_MAX = 10 * 365 * 86_400.0
GRACE_S_MIN_BUCKET = 60.0  # longer than a writer may take between its last check and its reference
SHARE_MIN = 0.5  # of a pack that has to be needed
Say = Callable[[str], None]


class Collected(Struct, frozen=True, kw_only=True):
    """What was removed, or would be. `waiting`: packs that nothing needs, but whose time has not come."""

    packs_count: int = 0
    rewritten_count: int = 0
    objects_count: int = 0  # trees, commits, drafts, copies for links
    freed_bytes: int = 0
    waiting_count: int = 0
    waiting_bytes: int = 0
    kept_bytes: int = 0


class Usage(Struct, frozen=True, kw_only=True):
    """What one dataset takes."""

    dataset: str
    versions_count: int
    size_bytes: int  # of all versions, as files
    stored_bytes: int  # of what they need in packs
    only_here_bytes: int  # of that, what no other dataset needs


class Live(Struct):
    """What may not be removed."""

    commits: set[str]
    trees: set[str]
    digests: set[bytes]


def live(repository: Repository, refs: Iterable[Refs], *, also: Iterable[VersionFile] = ()) -> Live:
    """What these references reach. Raises Unavailable when something of it is missing: then nothing is collected."""
    found = Live(set(), set(), set())
    for each in refs:
        kept = each.kept()
        found.commits |= set(repository.ancestors(kept))
        for name in kept:
            _live_version(repository, name, found)
    found.digests |= {bytes.fromhex(f.digest) for f in also}
    _live_chunks(repository, found.digests)
    return found


def _live_version(repository: Repository, name: str, found: Live) -> None:
    try:
        commit = repository.commit(name)
        root = commit.root
        if root in found.trees:
            return
        if not commit.link:
            found.digests.update(bytes.fromhex(f.digest) for f in repository.manifest(root).values())
        while root and root not in found.trees:
            found.trees.add(root)
            root = trees.read_head(repository.objects.read(trees.tree_key(root)), root).base
    except NotFound as cause:
        raise Unavailable(
            f"The version {name[:12]} is not whole.", hint="Repair it from a remote first: noria data repair."
        ) from cause


def _live_chunks(repository: Repository, digests: set[bytes]) -> None:
    """Add the chunks of big files. Raises Unavailable when bytes are missing."""
    listed = sorted(digests)
    recipes: list[tuple[Place, bytes]] = []
    for digest, place in zip(listed, repository.packs.find_many(listed), strict=True):
        if place is None:
            raise Unavailable(f"The bytes {digest.hex()[:12]} are missing.", hint="Repair them first: noria data repair.")
        if place.kind == RECIPE:
            recipes.append((place, digest))
    for data in repository.packs.read_many(recipes):
        digests.update(digest for digest, _ in decode_recipe(data))


def collect(
    repository: Repository, *, grace_s: float = GRACE_S, dry_run: bool = False, also: Iterable[VersionFile] = (),
    say: Say = lambda _: None,
) -> Collected:  # fmt: skip
    """Remove what nothing needs. `also`: files that are needed besides. Raises Invalid, Unavailable."""
    if not abs(grace_s) <= GRACE_S_MAX:  # NaN is no time either
        raise Invalid(f"A grace time of {grace_s} seconds is none.", where="grace_s", hint="Such as 3600, an hour.")
    with repository.objects.hold(alone=True) as is_alone:
        if not is_alone and grace_s < GRACE_S_MIN_BUCKET and not dry_run:
            raise Invalid(
                f"In a bucket the grace time is at least {GRACE_S_MIN_BUCKET:.0f} seconds.",
                where="grace",
                hint="A bucket cannot keep writers away; the time has to be longer than a commit takes.",
            )
        return _Collector(repository, is_alone=is_alone, grace_ms=int(grace_s * 1000), dry_run=dry_run, say=say).run(also)


class _Collector:
    def __init__(self, repository: Repository, *, is_alone: bool, grace_ms: int, dry_run: bool, say: Say) -> None:
        self._repository, self._objects = repository, repository.objects
        self._is_alone, self._dry_run, self._say = is_alone, dry_run, say
        self._before_ms = SystemClock().now_ms() - grace_ms  # compared with what the store says, so with the real time
        self._counts = dict.fromkeys(Collected.__struct_fields__, 0)

    def run(self, also: Iterable[VersionFile]) -> Collected:
        self._say("looking at what is needed")
        packs = self._repository.packs
        listed = {item.key: item for item in self._objects.list("packs")}  # before the references are read
        packs.refresh()
        if packs.damaged:
            raise Unavailable(
                f"{len(packs.damaged)} indexes of packs are damaged.",
                hint="Repair them from a remote first: noria data repair.",
            )
        needed = live(self._repository, self._repository.datasets(), also=also)
        tombstones = self._repository.tombstones()
        self._packs(needed, listed, tombstones)
        self._orphans(listed, packs.indexes())
        self._others(needed)
        packs.refresh()
        return Collected(**self._counts)

    def _packs(self, needed: Live, listed: dict[str, Found], tombstones: dict[str, int]) -> None:
        indexes = self._repository.packs.indexes()
        claimed = _claims(indexes, needed.digests, tombstones)
        writer = PackWriter(self._objects)
        emptied: list[PackIndex] = []
        try:
            for name, index in indexes.items():
                mine = claimed.get(name, [])
                bytes_needed = sum(int(index.stored[row]) for row in mine)
                if not mine:
                    self._bury(index, listed, tombstones)
                    continue
                if name in tombstones and not self._dry_run:
                    self._objects.delete(f"tombstones/{name}")  # a writer was faster than the first step
                self._counts["kept_bytes"] += bytes_needed
                if bytes_needed < SHARE_MIN * index.stored_bytes and self._is_old(pack_key(name), listed):
                    self._counts["rewritten_count"] += 1
                    self._counts["freed_bytes"] += index.stored_bytes - bytes_needed
                    emptied.append(index)
                    if not self._dry_run:
                        _copy_rows(self._repository, index, mine, writer)
            writer.finish()
        finally:
            writer.abandon()
        crash_here("collect.rewritten")
        for index in emptied:
            if not self._dry_run:
                self._bury_rewritten(index)

    def _is_old(self, key: str, listed: dict[str, Found]) -> bool:
        return key in listed and listed[key].modified_at_ms <= self._before_ms

    def _bury(self, index: PackIndex, listed: dict[str, Found], tombstones: dict[str, int]) -> None:
        """A pack that nothing needs: remove it, or put up its tombstone, or wait."""
        size = index.stored_bytes
        is_due = self._is_old(pack_key(index.name), listed)
        if not self._is_alone:
            is_due = tombstones.get(index.name, self._before_ms + 1) <= self._before_ms
        if is_due:
            self._counts["packs_count"] += 1
            self._counts["freed_bytes"] += size
            if not self._dry_run:
                self._remove(index)
            return
        self._counts["waiting_count"] += 1
        self._counts["waiting_bytes"] += size
        if not self._is_alone and not self._dry_run and index.name not in tombstones:
            self._objects.write(f"tombstones/{index.name}", b"")

    def _bury_rewritten(self, index: PackIndex) -> None:
        if self._is_alone:
            self._remove(index)
        else:
            self._objects.write(f"tombstones/{index.name}", b"")

    def _remove(self, index: PackIndex) -> None:
        """The index first: a pack without one belongs to nobody."""
        self._objects.delete(index_key(index.name))
        crash_here("collect.index_removed")
        self._objects.delete(pack_key(index.name))
        self._objects.delete(f"tombstones/{index.name}")

    def _orphans(self, listed: dict[str, Found], indexes: dict[str, PackIndex]) -> None:
        """Packs whose writer died before the index."""
        for key, item in listed.items():
            name, _, kind = key.rsplit("/", 1)[-1].partition(".")
            if kind == "pack" and name not in indexes:
                self._remove_object(item)

    def _others(self, needed: Live) -> None:
        self._say("removing what is not needed")
        for prefix, keep in (
            ("trees", {trees.tree_key(t) for t in needed.trees}),
            ("commits", {commit_key(c) for c in needed.commits}),
        ):
            for item in self._objects.list(prefix):
                if item.key not in keep:
                    self._remove_object(item)
        digests = {d.hex() for d in needed.digests}
        for item in self._objects.list("tmp"):
            self._remove_object(item)
        for item in self._objects.list("files"):
            if item.key.rsplit("/", 1)[-1][:64] not in digests:
                self._remove_object(item)

    def _remove_object(self, item: Found) -> None:
        if item.modified_at_ms <= self._before_ms:
            self._counts["objects_count"] += 1
            self._counts["freed_bytes"] += item.size_bytes
            if self._dry_run:
                return
            if not self._is_alone:  # somebody may have written it again since it was listed
                with contextlib.suppress(NotFound):
                    if self._objects.look(item.key).modified_at_ms > self._before_ms:
                        return
            self._objects.delete(item.key)


def _claims(indexes: dict[str, PackIndex], digests: set[bytes], tombstones: dict[str, int]) -> dict[str, list[int]]:
    """Which pack keeps which rows; of bytes that are in several packs, one keeps them, if possible one without a tombstone."""
    left, claimed = set(digests), dict[str, list[int]]()
    for name in sorted(indexes, key=lambda n: (n in tombstones, -indexes[n].count)):
        index = indexes[name]
        rows = [row for row in range(index.count) if index.digest(row) in left]
        if rows:
            claimed[name] = rows
            left.difference_update(index.digest(row) for row in rows)
    return claimed


def _copy_rows(repository: Repository, index: PackIndex, rows: list[int], writer: PackWriter) -> None:
    """Write some payloads of a pack into another, each checked on the way."""
    from noria.repository.packs import unpack

    for row in sorted(rows, key=lambda r: int(index.offsets[r])):
        place, digest = index.place(row), index.digest(row)
        data = repository.packs.read_stored([place])[0]
        unpack(data, place, digest)
        writer.add(digest, data, kind=place.kind, size_bytes=place.size_bytes)


def usage(repository: Repository) -> list[Usage]:
    """What each dataset takes, by name."""
    repository.packs.refresh()
    needs = {refs.dataset: (refs, live(repository, [refs]).digests) for refs in repository.datasets()}
    uses: dict[bytes, int] = {}
    for _, digests in needs.values():
        for digest in digests:
            uses[digest] = uses.get(digest, 0) + 1
    found = []
    for name, (refs, digests) in needs.items():
        listed = list(digests)
        sizes = [p.stored_bytes if p else 0 for p in repository.packs.find_many(listed)]
        only = sum(size for digest, size in zip(listed, sizes, strict=True) if uses[digest] == 1)
        total = 0
        for commit in set(refs.numbers.values()):
            with contextlib.suppress(NotFound):
                total += repository.commit(commit).size_bytes
        found.append(
            Usage(
                dataset=name,
                versions_count=len(refs.numbers),
                size_bytes=total,
                stored_bytes=sum(sizes),
                only_here_bytes=only,
            )
        )
    return found
