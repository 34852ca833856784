"""Verify: read everything again and compare it with its names. Repair: put what is damaged or gone back from another repository.

Everything but the references is named by its hash, so both need nobody's word: what a remote gives is checked like the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

from msgspec import Struct

from noria.kernel.errors import NoriaError, NotFound
from noria.repository import trees
from noria.repository.model import decode_commit
from noria.repository.objects import FolderObjects
from noria.repository.packs import RECIPE, Entry, PackGone, PackIndex, PackWriter, decode_recipe, index_key, pack_key, unpack
from noria.repository.repository import Repository, commit_key

Say = Callable[[str], None]
Kind = Literal["bytes", "index", "tree", "commit"]


class Fault(Struct, frozen=True, kw_only=True):
    """One thing that is damaged or missing, and a path that it belongs to where that is known."""

    kind: Kind
    name: str
    problem: Literal["damaged", "missing"]
    dataset: str = ""
    path: str = ""


class Checked(Struct, frozen=True, kw_only=True):
    """What was read."""

    packs_count: int
    size_bytes: int
    versions_count: int
    faults: list[Fault]


class Repaired(Struct, frozen=True, kw_only=True):
    """What was put back, and what could not be."""

    healed: list[Fault]
    left: list[Fault]


def verify(repository: Repository, *, dataset: str = "", say: Say = lambda _: None) -> Checked:
    """Read every pack, tree and commit that is needed (by one dataset, if named) and check them."""
    packs = repository.packs
    packs.refresh()
    faults = [Fault(kind="index", name=name, problem="damaged") for name in packs.damaged]
    bad, size = set[bytes](), 0
    wanted = _digests(repository, dataset) if dataset else None
    checked = 0
    for i, index in enumerate(packs.indexes().values()):
        if wanted is not None and not any(entry.digest in wanted for entry in index.entries()):
            continue
        say(f"pack {i + 1} of {len(packs.indexes())}")
        size += index.stored_bytes
        checked += 1
        bad |= bad_entries(repository, index)
    faults += _unreachable(repository, bad, dataset, faults_count := [0])
    named = {f.name for f in faults}
    faults += [Fault(kind="bytes", name=d.hex(), problem="damaged") for d in bad if d.hex() not in named]
    return Checked(packs_count=checked, size_bytes=size, versions_count=faults_count[0], faults=faults)


def bad_entries(repository: Repository, index: PackIndex) -> set[bytes]:
    """The payloads of a pack that are not what their digests say; all of them when the pack is gone."""
    bad = set[bytes]()

    def check(entry: Entry, data: bytes) -> None:
        try:
            unpack(data, entry, entry.digest)
        except NoriaError:
            bad.add(entry.digest)

    try:
        repository.packs.read_pack(index, check)
    except NotFound:
        return {entry.digest for entry in index.entries()}
    return bad


def _digests(repository: Repository, dataset: str) -> set[bytes]:
    found = set[bytes]()
    for name in repository.refs(dataset).kept():
        try:
            files = repository.manifest(repository.commit(name).root)
        except NoriaError:
            continue  # reported by the walk
        for file in files.values():
            found.add(bytes.fromhex(file.digest))
            try:
                found.update(d for d, _ in repository.pieces(file))
            except NoriaError:
                continue
    return found


def _unreachable(repository: Repository, bad: set[bytes], dataset: str, versions: list[int]) -> list[Fault]:
    """Walk from the references; what cannot be read or is missing, and the first path that each bad blob belongs to."""
    found: dict[str, Fault] = {}
    roots = set[str]()
    for refs in [repository.refs(dataset)] if dataset else repository.datasets():
        for name in sorted(refs.kept()):
            versions[0] += 1
            try:
                commit = decode_commit(repository.objects.read(commit_key(name)), name)
            except NoriaError as cause:
                found[name] = Fault(kind="commit", name=name, problem=_problem(cause), dataset=refs.dataset)
                continue
            if commit.root in roots:
                continue
            roots.add(commit.root)
            if (fault := _tree_fault(repository, commit.root, refs.dataset)) is not None:
                found[fault.name] = fault
                continue
            if not commit.link:
                _file_faults(repository, commit.root, refs.dataset, bad, found)
    return list(found.values())


def _tree_fault(repository: Repository, root: str, dataset: str) -> Fault | None:
    name = root
    while name:
        try:
            name_now, name = name, trees.read_head(repository.objects.read(trees.tree_key(name)), name).base
        except NoriaError as cause:
            return Fault(kind="tree", name=name, problem=_problem(cause), dataset=dataset)
    from noria.datasets import manifest

    files, _ = trees.decode(root, lambda key: repository.objects.read(trees.tree_key(key)))
    if manifest.root_digest(files) != root:
        return Fault(kind="tree", name=name_now if name_now == root else root, problem="damaged", dataset=dataset)
    return None


def _file_faults(repository: Repository, root: str, dataset: str, bad: set[bytes], found: dict[str, Fault]) -> None:
    files = list(repository.manifest(root).values())
    places = repository.packs.find_many([bytes.fromhex(f.digest) for f in files])
    for file, place in zip(files, places, strict=True):
        digests = [bytes.fromhex(file.digest)]
        if place is not None and place.kind == RECIPE and digests[0] not in bad:
            data = repository.packs.read_stored([place])[0]
            digests += [d for d, _ in decode_recipe(data)]
        there = repository.packs.find_many(digests)
        for digest, where in zip(digests, there, strict=True):
            if where is None or digest in bad:
                problem: Literal["damaged", "missing"] = "missing" if where is None else "damaged"
                fault = Fault(kind="bytes", name=digest.hex(), problem=problem, dataset=dataset, path=file.path)
                found.setdefault(digest.hex(), fault)


def _problem(cause: NoriaError) -> Literal["damaged", "missing"]:
    return "missing" if isinstance(cause, NotFound | PackGone) else "damaged"


# --- repair -----------------------------------------------------------------------------------------------------------


def repair(repository: Repository, remote: Repository, *, say: Say = lambda _: None) -> Repaired:
    """Put back what `remote` has of what is damaged or missing here. Nothing is removed before its replacement is durable."""
    healed, left = list[Fault](), list[Fault]()
    for _ in range(4):  # trees that are healed show what else is missing
        found = verify(repository, say=say).faults
        left = []
        with repository.objects.hold(alone=True):
            for fault in found:
                if fault.kind in ("tree", "commit"):
                    (healed if _heal_object(repository, remote, fault) else left).append(fault)
            index_faults = [f for f in found if f.kind == "index"]
            for fault in index_faults:
                (healed if _heal_index(repository, remote, fault) else left).append(fault)
            _heal_bytes(repository, remote, [f for f in found if f.kind == "bytes"], healed, left)
        repository.packs.refresh()
        if not found or len(left) == len(found):
            break
    return Repaired(healed=healed, left=left)


def _heal_object(repository: Repository, remote: Repository, fault: Fault) -> bool:
    key = trees.tree_key(fault.name) if fault.kind == "tree" else commit_key(fault.name)
    try:
        if fault.kind == "tree":
            files = remote.manifest(fault.name)
            data = trees.encode_whole(files)
        else:
            data = remote.objects.read(key)
            decode_commit(data, fault.name)
    except NoriaError:
        return False
    _replace(repository, key, data)
    repository.forget()
    return True


def _heal_index(repository: Repository, remote: Repository, fault: Fault) -> bool:
    """Another copy of the index, or none: then the pack belongs to nobody and its bytes count as missing."""
    try:
        data = remote.objects.read(index_key(fault.name))
        PackIndex(fault.name, data)
    except NoriaError:
        repository.objects.delete(index_key(fault.name))
        return True
    _replace(repository, index_key(fault.name), data)
    return True


def _replace(repository: Repository, key: str, data: bytes) -> None:
    if isinstance(repository.objects, FolderObjects):
        repository.objects.replace(key, data)
    else:
        repository.objects.write(key, data)


def _heal_bytes(
    repository: Repository, remote: Repository, faults: list[Fault], healed: list[Fault], left: list[Fault]
) -> None:
    bad = {bytes.fromhex(f.name): f for f in faults}
    if not bad:
        return
    remote.packs.refresh()
    writer = PackWriter(repository.objects)
    emptied: list[PackIndex] = []
    try:
        saved = _fetch(repository, remote, bad, writer)
        for index in repository.packs.indexes().values():
            mine = {e.digest for e in index.entries()} & set(bad)
            if mine and mine <= saved:
                _save_rest(repository, index, mine, writer)
                emptied.append(index)
        writer.finish()
    finally:
        writer.abandon()
    for index in emptied:
        repository.objects.delete(index_key(index.name))
        repository.objects.delete(pack_key(index.name))
    for digest, fault in bad.items():
        (healed if digest in saved else left).append(fault)


def _fetch(repository: Repository, remote: Repository, bad: Iterable[bytes], writer: PackWriter) -> set[bytes]:
    saved = set[bytes]()
    for digest in bad:
        place = remote.packs.find(digest)
        if place is None:
            continue
        try:
            data = remote.packs.read_stored([place])[0]
            unpack(data, place, digest)
        except NoriaError:
            continue
        writer.add(digest, data, kind=place.kind, size_bytes=place.size_bytes)
        saved.add(digest)
    return saved


def _save_rest(repository: Repository, index: PackIndex, bad: set[bytes], writer: PackWriter) -> None:
    def save(entry: Entry, data: bytes) -> None:
        if entry.digest not in bad:
            unpack(data, entry, entry.digest)
            writer.add(entry.digest, data, kind=entry.kind, size_bytes=entry.size_bytes)

    try:
        repository.packs.read_pack(index, save)
    except NotFound:
        return  # the pack is gone, and all of it was among the bad
