"""Three-way merge of files by path, of tables that both sides changed by key, and the version two branches have in common."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from noria.datasets.manifest import Manifest, sort
from noria.datasets.model import VersionFile
from noria.kernel.errors import Conflict, NotFound, Unavailable
from noria.repository.repository import NewCommit, Repository, Version, Writing
from noria.repository.tables.model import manifest_path, tables_in
from noria.repository.tables.rows import bare
from noria.repository.tables.view import table_file

Strategy = Literal["", "ours", "theirs"]
Outcome = Literal["nothing", "fast-forward", "merged"]
PATHS_NAMED = 20


def merge_files(
    base: Mapping[str, VersionFile],
    ours: Mapping[str, VersionFile],
    theirs: Mapping[str, VersionFile],
    strategy: Strategy = "",
) -> tuple[Manifest, list[str]]:
    """The files of both, and the paths that both changed differently (empty with a strategy, which decides them).

    A side that did not touch a path leaves it to the other. A file where the other side has a folder is a conflict too.
    """
    merged: Manifest = {}
    conflicts: list[str] = []
    for path in {**ours, **theirs}:
        mine, other, was = ours.get(path), theirs.get(path), base.get(path)
        if mine == other or other == was:
            found = mine
        elif mine == was:
            found = other
        else:
            if not strategy:
                conflicts.append(path)
            found = other if strategy == "theirs" else mine
        if found is not None:
            merged[path] = found
    conflicts += _folders_that_are_files(merged)
    return sort(merged), sorted(set(conflicts))


def _folders_that_are_files(files: Mapping[str, VersionFile]) -> list[str]:
    found = []
    for path in files:
        parent = path.rpartition("/")[0]
        while parent:
            if parent in files:
                found.append(parent)
            parent = parent.rpartition("/")[0]
    return found


def merge_base(repository: Repository, a: str, b: str) -> str | None:
    """The nearest version that both come from; None when they share none."""
    mine = set(repository.ancestors([a]))
    return next((name for name in repository.ancestors([b]) if name in mine), None)


class Plan(Struct, frozen=True, kw_only=True):
    """What a merge comes to. `files` and `new` only when it makes a version."""

    outcome: Outcome
    ours: str
    theirs: str
    files: Manifest = {}
    new: NewCommit | None = None


def plan_merge(
    repository: Repository, writing: Writing, name: str, theirs: str, *, into: str = "main", message: str = "",
    strategy: Strategy = "", actor: str = "",
) -> Plan:  # fmt: skip
    """Compare; what the merge of tables needs is stored, and no reference is moved.

    Raises MergeConflict naming the paths that both sides changed, unless a strategy decides; KeyConflict naming rows.
    """
    refs = repository.refs(name)
    ours = refs.branches.get(into)
    if not ours:
        raise NotFound(f"The dataset {name!r} has no branch {into!r}.", where="into")
    base = merge_base(repository, ours, theirs)
    if base == theirs:
        return Plan(outcome="nothing", ours=ours, theirs=theirs)
    if base == ours:
        return Plan(outcome="fast-forward", ours=ours, theirs=theirs)
    mine, other = repository.commit(ours), repository.commit(theirs)
    if mine.link or other.link:
        raise Conflict("A version that is a link cannot be merged.", hint="Link the newer address instead.")
    sides = Sides(_files_of(repository, base), repository.manifest(mine.root), repository.manifest(other.root))
    merged, refused = _merge_tables(repository, writing, sides, strategy)
    done = [*tables_in(merged), *refused]
    base_files, our_files, their_files = (_outside(side, done) for side in (sides.base, sides.ours, sides.theirs))
    files, conflicts = merge_files(base_files, our_files, their_files, strategy)
    files, conflicts = sort(files | merged), sorted([*conflicts, *refused])
    if conflicts:
        more = f" and {len(conflicts) - PATHS_NAMED} more" if len(conflicts) > PATHS_NAMED else ""
        raise MergeConflict(
            f"Both sides changed {', '.join(conflicts[:PATHS_NAMED])}{more}.", conflicts,
            hint="Decide with --ours or --theirs, or commit the files as they shall be.",
        )  # fmt: skip
    label = refs.number(theirs) or theirs[:12]
    said = message or f"Merge {mine.dataset}@{label} into {into}"
    new = NewCommit(message=said, branch=into, parent=ours, parents=[theirs], actor=actor)
    return Plan(outcome="merged", ours=ours, theirs=theirs, files=files, new=new)


def merge(
    repository: Repository, writing: Writing, name: str, theirs: str, *, into: str = "main", message: str = "",
    strategy: Strategy = "", actor: str = "", expected: Callable[[Manifest], str] | None = None,
) -> tuple[Version, Outcome]:  # fmt: skip
    """Bring the commit `theirs` into a branch; returns the head of the branch, and what it came to.

    `expected` checks the merged files, raises when they are not as expected, and says what was.
    """
    plan = plan_merge(repository, writing, name, theirs, into=into, message=message, strategy=strategy, actor=actor)
    if plan.new is not None:
        new = replace(plan.new, expected=expected(plan.files)) if expected else plan.new
        return writing.commit(name, plan.files, new)[0], plan.outcome
    if plan.outcome == "fast-forward":
        repository.forward(name, into, plan.ours, theirs)
    return repository.version(name, theirs if plan.outcome == "fast-forward" else plan.ours), plan.outcome


class Sides(Struct, frozen=True):
    """The stored files of two versions and of the one they come from."""

    base: Mapping[str, VersionFile]
    ours: Mapping[str, VersionFile]
    theirs: Mapping[str, VersionFile]


def _merge_tables(repository: Repository, writing: Writing, sides: Sides, strategy: Strategy) -> tuple[Manifest, list[str]]:
    """The stored files of the tables that both sides changed, merged by key; and those that cannot be. Raises KeyConflict."""
    files: Manifest = {}
    refused: list[str] = []
    for path in tables_in(sides.ours):
        heads = [side.get(manifest_path(path)) for side in (sides.base, sides.ours, sides.theirs)]
        if heads[2] is None or heads[1] == heads[2] or heads[0] in heads[1:]:
            continue  # one side at most changed it: by path is right
        if heads[0] is None or not (found := _merge_table(repository, writing, path, sides, strategy)):
            if not strategy:
                refused.append(path)
                continue
            found = _below(sides.ours if strategy == "ours" else sides.theirs, path)
        files |= found
    return files, refused


def _merge_table(repository: Repository, writing: Writing, path: str, sides: Sides, strategy: Strategy) -> Manifest:
    """Nothing when the table has no key, or when a side changed its columns or its key."""
    from noria.repository.ingest import gather
    from noria.repository.tables.changes import merge_tables

    read = _reader(repository)
    base, ours, theirs = (repository.table(table_file(path, side, read)) for side in (sides.base, sides.ours, sides.theirs))
    if not base.key or any(t.key != base.key or bare(t.schema) != bare(base.schema) for t in (ours, theirs)):
        return {}
    with tempfile.TemporaryDirectory(prefix="noria-merge-") as folder:
        written = merge_tables(base, ours, theirs, Path(folder), strategy=strategy)
        return gather(writing, written.new).files | written.kept


def _reader(repository: Repository) -> Callable[[VersionFile], bytes]:
    return lambda file: b"".join(repository.read(file))


def _below(files: Mapping[str, VersionFile], table: str) -> Manifest:
    return {path: file for path, file in files.items() if path.startswith(f"{table}/")}


def _outside(files: Mapping[str, VersionFile], tables: list[str]) -> Mapping[str, VersionFile]:
    return {p: f for p, f in files.items() if not any(p.startswith(f"{t}/") for t in tables)} if tables else files


class MergeConflict(Conflict):
    """Paths that both sides changed."""

    def __init__(self, message: str, paths: list[str], *, hint: str) -> None:
        super().__init__(message, hint=hint, where="paths")
        self.paths = paths


def _files_of(repository: Repository, base: str | None) -> Mapping[str, VersionFile]:
    if base is None:
        return {}
    try:
        return repository.manifest(repository.commit(base).root)
    except NotFound as cause:
        raise Unavailable(
            f"The version {base[:12]}, from which both come, was deleted and collected.",
            hint="Decide with --ours or --theirs.",
        ) from cause
