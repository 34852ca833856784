"""The rows of datasets, as an index of the references in the repository.

The references are the truth: a change writes them first, under the lock of the dataset's row, and then this brings the rows up to
them, in the same transaction. If the process dies in between, or somebody changed them without the server (the command line on
this home, a push into this bucket), the next change or `Adopter` catches up. Facts are recorded for whatever is new to the rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from noria.datasets import store
from noria.datasets.model import DatasetVersion, table_format
from noria.kernel.db import Database, Write
from noria.kernel.ids import DEFAULT_WORKSPACE, DatasetVersionId, Ref, new_id
from noria.kernel.jobs import Jobs
from noria.kernel.op import Op
from noria.repository.model import MAIN, Commit, Refs
from noria.repository.repository import Repository

PROFILE_JOB = "dataset.profile"
Emit = tuple[str, Ref, dict[str, Any]]


def document_of(workspace: str, name: str) -> str:
    """What the repository calls a dataset of a workspace; ':' is in no name that people give."""
    return name if workspace == DEFAULT_WORKSPACE else f"{workspace}:{name}"


def place_of(document: str) -> tuple[str, str]:
    """Workspace and name."""
    workspace, colon, name = document.rpartition(":")
    return (workspace, name) if colon else (DEFAULT_WORKSPACE, document)


class Index:
    """Brings rows up to references."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    def lock(self, tx: Write, op: Op, workspace: str, name: str) -> bool:
        """Make the dataset's row if need be and hold it: from here on its writers take turns. True when it was made."""
        made = store.add_dataset(tx, new_id(op.at_ms), workspace, name, at_ms=op.at_ms, actor=op.actor.label)
        store.lock(tx, workspace, name)
        return made

    def follow(self, tx: Write, op: Op, refs: Refs, *, is_new: bool) -> None:
        """Bring the rows up to `refs`, which were read or written after `lock`."""
        workspace, name = place_of(refs.dataset)
        head = store.lock(tx, workspace, name)
        assert head is not None
        facts: list[Emit] = [("dataset.created", Ref("dataset", name), {})] if is_new else []
        numbers = self._versions(tx, op, head.id, name, refs, facts)
        self._names(tx, op, head.id, name, refs, numbers, facts)
        latest = refs.branches.get(MAIN)
        if latest != head.head_id or refs.last_number != head.last_number:
            store.move_head(tx, head.id, latest, refs.last_number, at_ms=max(op.at_ms, refs.updated_at_ms))
        for kind, subject, data in facts:
            tx.emit(kind, subject, **data)

    def _versions(self, tx: Write, op: Op, dataset_id: str, name: str, refs: Refs, facts: list[Emit]) -> dict[str, int]:
        known = {v.id: v for v in store.known(tx, dataset_id)}
        wanted = {commit: number for number, commit in refs.numbers.items()}
        for version in known.values():
            if version.id not in wanted and not version.is_deleted:
                store.remove_version(tx, version.id, at_ms=op.at_ms)
                facts.append(("dataset_version.deleted", _ref(version.id), {"dataset": name, "number": version.number}))
            elif version.id in wanted and version.is_deleted:
                store.restore_version(tx, version.id)
        self._renumber(tx, known, wanted)
        for commit, number in sorted(wanted.items(), key=lambda item: item[1]):
            if commit not in known:
                self._add(tx, dataset_id, name, commit, number, facts)
        return wanted

    def _renumber(self, tx: Write, known: dict[str, store.Known], wanted: dict[str, int]) -> None:
        """Numbers that moved: first out of the way, since each may be there once only."""
        taken = set(wanted.values())
        for version in known.values():
            target = wanted.get(version.id)
            if (target is not None and target != version.number) or (target is None and version.number in taken):
                store.renumber(tx, version.id, -abs(version.number))
        for version in known.values():
            target = wanted.get(version.id)
            if target is not None and target != version.number:
                store.renumber(tx, version.id, target)

    def _add(self, tx: Write, dataset_id: str, name: str, commit: str, number: int, facts: list[Emit]) -> None:
        found = self._repository.commit(commit)
        store.add_version(tx, dataset_id, version_of(found, commit, name, number))
        facts.append(
            ("dataset_version.committed", _ref(commit),
             {"dataset": name, "number": number, "root_digest": found.root, "message": found.message})
        )  # fmt: skip
        if not found.link and any(table_format(path) for path in self._repository.manifest(found.root)):
            Jobs.submit(tx, PROFILE_JOB, {"version": commit}, unique=f"{PROFILE_JOB}:{commit}", subject=_ref(commit))

    def _names(
        self, tx: Write, op: Op, dataset_id: str, name: str, refs: Refs, numbers: dict[str, int], facts: list[Emit]
    ) -> None:
        rows = store.name_rows(tx, dataset_id)
        wanted: dict[str, tuple[str, str | None, int]] = {b: ("branch", c, 1) for b, c in refs.branches.items() if b != MAIN}
        wanted |= {t: ("tag", c, 1) for t, c in refs.tags.items()}
        wanted |= {a: ("alias", x.commit or None, x.generation) for a, x in refs.aliases.items() if a not in wanted}
        for label in sorted(rows.keys() - wanted.keys()):
            store.remove_name(tx, dataset_id, label)
            facts += _moved(rows[label].kind, label, name, None, None, None)
        before = {v.id: v.number for v in store.known(tx, dataset_id)}
        for label, (kind, commit, generation) in sorted(wanted.items()):
            was = rows.get(label)
            if was and (was.kind, was.version_id, was.generation) == (kind, commit, generation):
                continue
            new = store.NameRow(name=label, kind=kind, version_id=commit, generation=generation)
            store.set_name(tx, dataset_id, new, at_ms=op.at_ms, actor=op.actor.label)
            left = before.get(was.version_id) if was and was.version_id and was.kind == kind else None
            if was is None or was.kind != kind or was.version_id != commit:
                facts += _moved(kind, label, name, commit, numbers.get(commit or ""), left)


def _moved(kind: str, label: str, name: str, commit: str | None, number: int | None, was: int | None) -> list[Emit]:
    dataset = Ref("dataset", name)
    if kind == "branch":
        return [("dataset_branch.moved", dataset, {"dataset": name, "branch": label, "number": number})]
    if kind == "tag":
        return [("dataset_tag.set", dataset, {"dataset": name, "tag": label, "number": number})]
    if commit is None:
        return [("dataset_alias.removed", dataset, {"dataset": name, "alias": label, "was": was or 0})] if was else []
    data = {"dataset": name, "alias": label, "number": number or 0, "was": was}
    return [("dataset_alias.moved", _ref(commit), data)]


def version_of(commit: Commit, commit_id: str, name: str, number: int) -> DatasetVersion:
    """The row of a commit."""
    return DatasetVersion(
        id=DatasetVersionId(commit_id), dataset=name, number=number, root_digest=commit.root, created_at_ms=commit.at_ms,
        actor=commit.actor, message=commit.message, parents=[DatasetVersionId(p) for p in commit.parents],
        files_count=commit.files_count, size_bytes=commit.size_bytes, rows_count=commit.rows_count, schema=commit.schema,
        branch=commit.branch,
    )  # fmt: skip


def _ref(version_id: str) -> Ref:
    return Ref("dataset_version", version_id)


class Adopter:
    """A reconciler: takes over what changed in the repository without the server. Looks only at references that moved."""

    name = "datasets.adopt"
    every_s = 30.0
    wake_on: frozenset[str] = frozenset()

    def __init__(self, db: Database, repository: Repository, system: Callable[[], Op]) -> None:
        self._db, self._repository, self._system = db, repository, system
        self._index = Index(repository)
        self._seen: dict[str, str] = {}

    def reconcile(self) -> None:
        for item in self._repository.objects.list("refs"):
            tag = f"{item.tag}:{item.size_bytes}"
            if self._seen.get(item.key) == tag or not item.key.endswith(".json"):
                continue
            refs = self._repository.refs_at(item.key)
            if refs is not None:
                self._adopt(refs)
            self._seen[item.key] = tag

    def _adopt(self, refs: Refs) -> None:
        workspace, name = place_of(refs.dataset)
        with self._db.read() as tx:
            found = store.dataset(tx, workspace, name)
            if found is not None and self._is_there(tx, found.id, refs):
                return
        op = self._system()
        with self._db.write(op) as tx:
            is_new = self._index.lock(tx, op, workspace, name)
            self._index.follow(tx, op, self._repository.refs(refs.dataset), is_new=is_new)

    def _is_there(self, tx: Any, dataset_id: str, refs: Refs) -> bool:
        versions = {v.id: v.number for v in store.known(tx, dataset_id) if not v.is_deleted}
        rows = store.name_rows(tx, dataset_id)
        named = {row.name: row.version_id for row in rows.values() if row.version_id}
        wanted = {b: c for b, c in refs.branches.items() if b != MAIN} | refs.tags
        wanted |= {a: x.commit for a, x in refs.aliases.items() if x.commit}
        return versions == {c: n for n, c in refs.numbers.items()} and named == wanted
