"""What others' tools read about a version: a bill of materials of a model, a Croissant description of data. Made when asked for."""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec

from noria.datasets.service import Datasets
from noria.governance.bom import bom
from noria.governance.croissant import croissant
from noria.governance.digests import Sha256s
from noria.kernel.blobs import BlobStore
from noria.kernel.db import Database
from noria.kernel.errors import Invalid, NotFound, TooMuch
from noria.kernel.op import Op, Ops
from noria.registry.service import Registry

HASHED_BYTES_MAX = 4 << 30  # for one request; what was hashed is kept, so the next one costs nothing
CAPTURE_BYTES_MAX = 4 << 20
FILES_MAX = 1_000  # FileObjects in one description


class Descriptions:
    """See the module."""

    def __init__(
        self, db: Database, ops: Ops, blobs: BlobStore, sha256s: Sha256s, registry: Registry, datasets: Datasets, url: str
    ) -> None:
        self._db, self._ops, self._blobs, self._sha256s = db, ops, blobs, sha256s
        self._registry, self._datasets, self._url = registry, datasets, url

    def bom(self, op: Op, version: str) -> dict[str, Any]:
        """The bill of materials of a model version (CycloneDX). Raises NotFound, Forbidden."""
        found = self._registry.version(op, version)
        passport = self._registry.passport_of_version(op, found)
        sha256 = self._sha256s.of_blobs({f.path: f.digest for f in self._registry.files(op, found)})
        card = self._registry.cards.read(op, version)
        return bom(
            passport, sha256, flavors=found.flavors, captured=self._captured(passport),
            written={s.section: s.content for s in card.sections if s.content}, url=self._url,
        )  # fmt: skip

    def croissant(self, op: Op, version: str) -> dict[str, Any]:
        """The description of a dataset version (Croissant). Raises NotFound, Forbidden, TooMuch."""
        found = self._datasets.version(op, version)
        if found.files_count > FILES_MAX:
            raise TooMuch(
                f"{found.dataset}@{found.number} has {found.files_count} files; at most {FILES_MAX} are described one by one.",
                hint="Put them into one archive or one table.",
            )
        reader = self._ops.system("descriptions")  # hashes tell no more than the digests that everybody who sees it sees
        files = self._datasets.files(reader, found, limit=FILES_MAX, whole=True).items
        sha256 = self._sha256s.of(
            {f.digest: lambda f=f: self._datasets.open(reader, found, f.path) for f in files},  # type: ignore[misc]
            {f.digest: f.size_bytes for f in files}, HASHED_BYTES_MAX,
        )  # fmt: skip
        tables = self._datasets.profile(op, found).tables
        return croissant(found, files, sha256, tables, url=self._url)

    def _captured(self, passport: dict[str, Any]) -> dict[str, Any] | None:
        """`{python, packages}` as the run that built it captured them; None when it did not, or they are gone."""
        run = passport["run"] or {}
        if not run.get("is_visible"):
            return None
        with self._db.read() as tx:
            digest = tx.scalar("select value from tag where run_id = :id and key = 'noria.environment_digest'", id=run["id"])
        if not digest:
            return None
        with contextlib.suppress(NotFound, Invalid, msgspec.DecodeError):  # the tag is a client's word
            if self._blobs.size(str(digest)) > CAPTURE_BYTES_MAX:
                return None
            found = msgspec.json.decode(self._blobs.get(str(digest)))
            if isinstance(found, dict) and isinstance(found.get("packages"), list):
                return {"python": found.get("python"), "packages": [str(p) for p in found["packages"]]}
        return None
