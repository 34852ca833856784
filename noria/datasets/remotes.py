"""Other stores, from the server's side: push, pull, link, repair. Only those that NORIA_REMOTES names: the server reaches them with
its own credentials, so whoever asks must not choose freely. Bytes travel between the stores, not through the client.

References move before the rows do; a crash between the two is made good by the adopter, which looks at them regularly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from noria.datasets.index import document_of
from noria.datasets.model import LinkRequest, RemoteDataset
from noria.kernel.db import Database
from noria.kernel.errors import Forbidden
from noria.kernel.ids import Ref, check_name
from noria.kernel.op import Op
from noria.repository.check import Repaired, repair
from noria.repository.links import link_files
from noria.repository.model import check_ref_name
from noria.repository.repository import NewCommit, Repository, open_repository
from noria.repository.transfer import Transferred, pull, push


class Rows(Protocol):
    """What remotes need of the datasets."""

    def follow(self, op: Op, name: str) -> None: ...


class Remotes:
    """Part of the datasets service."""

    def __init__(self, db: Database, repository: Repository, rows: Rows, prefixes: Sequence[str]) -> None:
        self._db, self._repository, self._rows = db, repository, rows
        self._prefixes = tuple(p.rstrip("/") for p in prefixes)

    def allowed(self, url: str) -> str:
        """`url`, if this server may go there. Raises Forbidden."""
        parts = url.rstrip("/").split("/")
        if ".." not in parts and any(url.rstrip("/") == p or url.startswith(p + "/") for p in self._prefixes):
            return url
        raise Forbidden(
            f"This server may not go to {url[:200]!r}.", hint="Whoever runs it can name the store in NORIA_REMOTES."
        )

    def datasets(self, op: Op, remote: str) -> list[RemoteDataset]:
        """What is kept in another store. Raises Forbidden."""
        op.require("dataset.transfer")
        there = open_repository(self.allowed(remote), create=False)
        return [RemoteDataset(name=r.dataset, versions_count=len(r.numbers)) for r in there.datasets()]

    def push(self, op: Op, name: str, remote: str) -> Transferred:
        """Bring another store up to what is here. Raises NotFound, Conflict (it has versions that are not here), Forbidden."""
        op.require("dataset.transfer", on=Ref("dataset", name))
        op.require("blob.read", on=Ref("dataset", name))
        there = open_repository(self.allowed(remote))
        self._repository.refs(document_of(op.workspace, name))
        done = push(self._repository, there, document_of(op.workspace, name))
        self._tell(op, "dataset.pushed", name, remote, done)
        return done

    def pull(self, op: Op, name: str, remote: str) -> Transferred:
        """Bring a dataset here up to another store. Raises NotFound, Conflict (both changed a file), Forbidden."""
        op.require("dataset.transfer", on=Ref("dataset", name))
        op.require("dataset.commit", on=Ref("dataset", name))
        check_name(name, what="dataset")
        there = open_repository(self.allowed(remote), create=False)
        try:
            done = pull(self._repository, there, document_of(op.workspace, name), actor=op.actor.label)
        finally:
            if self._repository._refs(document_of(op.workspace, name)):
                self._rows.follow(op, name)  # also when heads went apart: the other one is a branch by now
        self._tell(op, "dataset.pulled", name, remote, done)
        return done

    def link(self, op: Op, name: str, asked: LinkRequest) -> tuple[str, bool]:
        """A version of files that stay where they are: its id, and whether it is new. Raises Invalid, Forbidden."""
        op.require("dataset.commit", on=Ref("dataset", name))
        op.require("dataset.transfer", on=Ref("dataset", name))
        check_name(name, what="dataset")
        if asked.alias:
            check_ref_name(asked.alias, what="an alias")
        files, table = link_files(self.allowed(asked.uri), as_files=asked.as_files, at=asked.at)
        new = NewCommit(message=asked.message, alias=asked.alias, actor=op.actor.label, link=asked.uri, table=table)
        with self._repository.writing() as writing:
            made, is_new = writing.commit(document_of(op.workspace, name), files, new)
        self._rows.follow(op, name)
        return made.id, is_new

    def repair(self, op: Op, remote: str) -> Repaired:
        """Put back what is damaged or missing here from another store. Raises Forbidden."""
        op.require("system.admin")
        return repair(self._repository, open_repository(self.allowed(remote), create=False))

    def _tell(self, op: Op, kind: str, name: str, remote: str, done: Transferred) -> None:
        with self._db.write(op) as tx:
            tx.emit(
                kind, Ref("dataset", name), remote=remote, versions=done.commits_count, sent_bytes=done.sent_bytes,
                moved=done.moved,
            )  # fmt: skip
