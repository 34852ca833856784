"""Three-way merge of files by path, and the version two branches have in common. Pure, but for reading commits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from noria.datasets.manifest import Manifest, sort
from noria.datasets.model import VersionFile
from noria.kernel.errors import Conflict, NotFound, Unavailable
from noria.repository.repository import NewCommit, Repository, Version, Writing

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
    repository: Repository, name: str, theirs: str, *, into: str = "main", message: str = "", strategy: Strategy = "",
    actor: str = "",
) -> Plan:  # fmt: skip
    """Compare; nothing is changed. Raises MergeConflict naming the paths that both sides changed, unless a strategy decides."""
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
    sides = repository.manifest(mine.root), repository.manifest(other.root)
    files, conflicts = merge_files(_files_of(repository, base), *sides, strategy)
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
    strategy: Strategy = "", actor: str = "",
) -> tuple[Version, Outcome]:  # fmt: skip
    """Bring the commit `theirs` into a branch; returns the head of the branch, and what it came to."""
    plan = plan_merge(repository, name, theirs, into=into, message=message, strategy=strategy, actor=actor)
    if plan.new is not None:
        return writing.commit(name, plan.files, plan.new)[0], plan.outcome
    if plan.outcome == "fast-forward":
        repository.forward(name, into, plan.ours, theirs)
    return repository.version(name, theirs if plan.outcome == "fast-forward" else plan.ours), plan.outcome


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
