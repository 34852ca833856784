"""Between two repositories: push, pull, clone. The unit is the pack; what is there already is not sent again.

A pack all of whose bytes are wanted travels as it is; of others, only the wanted parts do, so nobody gets bytes of a dataset
that was not asked for. Order: packs, trees, commits, and last the references, by compare-and-swap. An interrupted transfer
leaves whole packs, and the next one goes on from there.

Numbers belong to a place. Who clones takes them over; who pulls keeps the numbers of the remote and moves those of their own
versions that were not pushed yet behind them; who pushes appends.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec
from msgspec import Struct

from noria.kernel.crash import crash_here
from noria.kernel.errors import Conflict, NotFound
from noria.repository import trees
from noria.repository.merge import merge
from noria.repository.model import Alias, Refs
from noria.repository.packs import (
    PACK_MAGIC,
    RECIPE,
    Entry,
    PackIndex,
    Place,
    decode_recipe,
    publish,
    unpack,
)
from noria.repository.repository import Repository, Writing, commit_key

AT_ONCE = 8  # packs in flight
BATCH_BYTES = 8 << 20
Say = Callable[[str], None]


class Transferred(Struct, frozen=True, kw_only=True):
    """What a transfer did. `renumbered`: own versions whose numbers had to move, old to new."""

    dataset: str
    commits_count: int = 0
    packs_count: int = 0
    sent_bytes: int = 0
    moved: list[str] = []  # branches, tags and aliases
    renumbered: dict[int, int] = {}
    outcome: str = "done"


def push(local: Repository, remote: Repository, name: str, *, say: Say = lambda _: None) -> Transferred:
    """Bring the remote up to what is here. Raises Conflict when it has versions that are not here: pull first."""
    source = local.refs(name)
    with remote.writing() as writing:
        found = remote._refs(name)
        _join_for_push(local, remote, source, found and found[0])  # refuse before anything is sent
        commits, packs_count, sent = _send(local, remote, writing, source, found and found[0], say)
        writing.finish()
        moved: list[str] = []

        def change(refs: Refs | None) -> Refs | None:
            joined, moved[:] = _join_for_push(local, remote, source, refs)
            return joined

        remote.update(name, change)
    return Transferred(dataset=name, commits_count=commits, packs_count=packs_count, sent_bytes=sent, moved=moved)


def pull(local: Repository, remote: Repository, name: str, *, actor: str = "", say: Say = lambda _: None) -> Transferred:
    """Bring what is here up to the remote; branches that went apart are merged if no path was changed by both.

    Else Conflict names the paths, and the remote's head is the branch `remote.<branch>` here, to merge with --ours or --theirs.
    """
    source = remote.refs(name)
    with local.writing() as writing:
        found = local._refs(name)
        commits, packs_count, sent = _send(remote, local, writing, source, found and found[0], say)
        writing.finish()
        moved, apart, renumbered = list[str](), list[str](), dict[int, int]()

        def change(refs: Refs | None) -> Refs | None:
            joined, moved[:], apart[:] = _join_for_pull(local, source, refs)
            renumbered.clear()
            renumbered.update(_renumbered(refs, joined))
            return None if joined == refs else joined

        local.update(name, change)
        outcome = "done"
        for branch in apart:
            theirs = source.branches[branch]
            merge(local, writing, name, theirs, into=branch, actor=actor, message=f"Merge {branch} of {remote.url}")
            local.delete_branch(name, f"remote.{branch}")
            outcome = "merged"
    return Transferred(
        dataset=name, commits_count=commits, packs_count=packs_count, sent_bytes=sent, moved=moved, renumbered=renumbered,
        outcome=outcome,
    )  # fmt: skip


# --- bytes ------------------------------------------------------------------------------------------------------------


def _send(
    source: Repository, target: Repository, writing: Writing, refs: Refs, there: Refs | None, say: Say
) -> tuple[int, int, int]:
    """Everything that the references of `source` need and `target` does not have: packs, trees, commits."""
    known_commits = set(target.ancestors(there.kept())) if there else set[str]()
    known_trees = {target.commit(c).root for c in (there.kept() if there else ())}
    kept = refs.kept()
    new = [name for name in source.ancestors(kept) if name not in known_commits]
    commits = {name: source.commit(name) for name in new}
    roots = {c.root: bool(c.link) for name, c in commits.items() if name in kept and c.root not in known_trees}
    source.packs.refresh()
    wanted = {
        bytes.fromhex(f.digest) for root, is_link in roots.items() if not is_link for f in source.manifest(root).values()
    }
    packs_count, sent = send_blobs(source, target, writing, wanted, say)
    crash_here("transfer.packs_sent")
    for root in roots:
        _send_tree(source, target, root)
    for name in new:
        target.objects.write(commit_key(name), source.objects.read(commit_key(name)))
    crash_here("transfer.commits_sent")
    return len(new), packs_count, sent


def _send_tree(source: Repository, target: Repository, root: str) -> None:
    """The tree with what it is built on."""
    while root:
        data = source.objects.read(trees.tree_key(root))
        head = trees.read_head(data, root)
        target.objects.write(trees.tree_key(root), data)
        root = head.base


def send_blobs(
    source: Repository, target: Repository, writing: Writing, wanted: Iterable[bytes], say: Say = lambda _: None
) -> tuple[int, int]:
    """Copy stored bytes; returns how many packs and bytes went. Chunks of big files are added to what is wanted."""
    missing = _missing(source, writing, wanted)
    by_pack: dict[str, list[tuple[bytes, Place]]] = {}
    for digest, place in missing:
        by_pack.setdefault(place.pack, []).append((digest, place))
    indexes = source.packs.indexes()
    # A pack that the collector over there is about to remove is not sent under that name again.
    is_whole = {p: len(rows) == indexes[p].count and p not in target.packs.hidden for p, rows in by_pack.items()}
    whole = [indexes[p] for p in by_pack if is_whole[p]]
    parts = [(place, digest) for p, rows in by_pack.items() if not is_whole[p] for digest, place in rows]
    total, sent, done = sum(p.stored_bytes for _, p in missing), 0, 0
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for index, size in pool.map(lambda index: (index, _copy_pack(source, target, index)), whole):
            done, sent = done + 1, sent + size
            say(f"{sent >> 20:,} of {total >> 20:,} MiB")
            writing.rely_on(index.name)
    for batch in _batches(sorted(parts, key=lambda w: (w[0].pack, w[0].offset))):
        for (place, digest), data in zip(batch, source.packs.read_stored([p for p, _ in batch]), strict=True):
            unpack(data, place, digest)
            writing.writer.add(digest, data, kind=place.kind, size_bytes=place.size_bytes)
            sent += len(data)
        say(f"{sent >> 20:,} of {total >> 20:,} MiB")
    packs = len(writing.writer.finish())
    target.packs.refresh()
    return done + packs, sent


def _missing(source: Repository, writing: Writing, wanted: Iterable[bytes]) -> list[tuple[bytes, Place]]:
    """What is wanted, with the chunks that big files consist of, and not there; with its place in the source."""
    listed = sorted(wanted)
    found: dict[bytes, Place] = {}
    recipes: list[tuple[Place, bytes]] = []
    for digest, place in zip(listed, source.packs.find_many(listed), strict=True):
        if place is None:
            raise NotFound(
                f"The bytes {digest.hex()[:12]} are missing in {source.url}.", hint="noria data verify says more."
            )
        found[digest] = place
        if place.kind == RECIPE:
            recipes.append((place, digest))
    for data in source.packs.read_many(recipes):
        chunks = [digest for digest, _ in decode_recipe(data)]
        for digest, place in zip(chunks, source.packs.find_many(chunks), strict=True):
            if place is None:
                raise NotFound(f"The bytes {digest.hex()[:12]} are missing in {source.url}.")
            found[digest] = place
    digests = list(found)
    return [(d, found[d]) for d, there in zip(digests, writing.has_many(digests), strict=True) if not there]


def _copy_pack(source: Repository, target: Repository, index: PackIndex) -> int:
    """A whole pack, each payload checked on the way; it gets the same name."""
    draft = target.objects.scratch() / f"{secrets.token_hex(8)}.pack"
    try:
        with draft.open("wb") as file:
            file.write(PACK_MAGIC)

            def copy(entry: Entry, data: bytes) -> None:
                unpack(data, entry, entry.digest)
                file.write(data)

            source.packs.read_pack(index, copy)
            file.flush()
            os.fsync(file.fileno())
        publish(target.objects, draft, index.data)
    finally:
        draft.unlink(missing_ok=True)
    return index.stored_bytes


def _batches(parts: Sequence[tuple[Place, bytes]]) -> Iterable[list[tuple[Place, bytes]]]:
    batch, total = list[tuple[Place, bytes]](), 0
    for part in parts:
        batch.append(part)
        total += part[0].stored_bytes
        if total >= BATCH_BYTES:
            yield batch
            batch, total = [], 0
    if batch:
        yield batch


# --- references -------------------------------------------------------------------------------------------------------


def _join_for_push(local: Repository, remote: Repository, ours: Refs, theirs: Refs | None) -> tuple[Refs | None, list[str]]:
    """The remote's references after a push, and what moved. Raises Conflict."""
    if theirs is None:
        return msgspec.structs.replace(ours, branches=_own(ours.branches)), [*_own(ours.branches), *ours.tags]
    moved: list[str] = []
    branches = dict(theirs.branches)
    for name, head in _own(ours.branches).items():
        at = branches.get(name)
        if at == head or (at and head in set(remote.ancestors([at]))):
            continue
        if at and at not in set(local.ancestors([head])):
            raise Conflict(
                f"The remote's branch {name} has versions that are not here.",
                hint=f"Pull first: noria data pull {ours.dataset} REMOTE.",
            )
        branches[name] = head
        moved.append(name)
    tags, aliases = _names(ours, theirs, moved)
    numbers, last = dict(theirs.numbers), theirs.last_number
    present = set(numbers.values())
    for commit in (ours.numbers[n] for n in sorted(ours.numbers)):
        if commit not in present:
            last += 1
            numbers[last] = commit
    joined = msgspec.structs.replace(
        theirs, branches=branches, tags=tags, aliases=aliases, numbers=numbers, last_number=last
    )
    return (None if joined == theirs else joined), moved


def _names(giver: Refs, taker: Refs, moved: list[str]) -> tuple[dict[str, str], dict[str, Alias]]:
    """Tags of both, and of each alias the one that moved last. Raises Conflict for a tag that means two versions."""
    tags = dict(taker.tags)
    for name, commit in giver.tags.items():
        if tags.get(name, commit) != commit:
            raise Conflict(f"The tag {name!r} names another version on each side.", hint="Delete it on one of them.")
        if name not in tags:
            moved.append(name)
        tags[name] = commit
    aliases = dict(taker.aliases)
    for name, alias in giver.aliases.items():
        was = aliases.get(name)
        if was is None or alias.moved_at_ms > was.moved_at_ms:
            if was is None or was.commit != alias.commit:
                moved.append(name)
            generation = max(alias.generation, was.generation + 1 if was else 1)
            aliases[name] = msgspec.structs.replace(alias, generation=generation)
    return tags, aliases


def _join_for_pull(local: Repository, source: Refs, ours: Refs | None) -> tuple[Refs, list[str], list[str]]:
    """Our references after a pull, what moved, and the branches that went apart (their heads become remote.<branch>)."""
    if ours is None:
        return source, [*source.branches, *source.tags], []
    moved, apart = list[str](), list[str]()
    branches = dict(ours.branches)
    for name, head in source.branches.items():
        at = branches.get(name)
        if at == head or (at and head in set(local.ancestors([at]))):
            continue
        if at and at not in set(local.ancestors([head])):
            branches[f"remote.{name}"] = head
            apart.append(name)
            continue
        branches[name] = head
        moved.append(name)
    tags, aliases = _names(source, ours, moved)
    numbers = dict(source.numbers)
    present, last = set(numbers.values()), source.last_number
    for n in sorted(ours.numbers):
        commit = ours.numbers[n]
        if commit in present:
            continue
        last = n if n > last and n not in numbers else last + 1
        numbers[last] = commit
    last = max(last, source.last_number)
    joined = msgspec.structs.replace(
        ours, branches=branches, tags=tags, aliases=aliases, numbers=numbers,
        last_number=max(last, ours.last_number if numbers == ours.numbers else last),
    )  # fmt: skip
    return joined, moved, apart


def _renumbered(before: Refs | None, after: Refs) -> dict[int, int]:
    if before is None:
        return {}
    now = {commit: n for n, commit in after.numbers.items()}
    return {n: now[c] for n, c in before.numbers.items() if now.get(c, n) != n}


def _own(branches: dict[str, str]) -> dict[str, str]:
    """Without the branches that a pull left behind."""
    return {name: head for name, head in branches.items() if not name.startswith("remote.")}
