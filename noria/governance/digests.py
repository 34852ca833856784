"""SHA-256 of what Noria knows by its BLAKE3 digest, for formats that want that one; worked out once and kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

from noria.kernel.blobs import BlobStore
from noria.kernel.db import Database
from noria.kernel.errors import TooMuch

DIGESTS_PER_QUERY = 500  # below the bound-parameter limit of either database


class Sha256s:
    """See the module."""

    def __init__(self, db: Database, blobs: BlobStore) -> None:
        self._db, self._blobs = db, blobs

    def of_blobs(self, digests: dict[str, str]) -> dict[str, str]:
        """SHA-256 under each name of `digests` (name → BLAKE3 of a blob). Raises NotFound, Unavailable (damaged)."""
        found = self.of({digest: lambda d=digest: self._blobs.open(d) for digest in digests.values()})  # type: ignore[misc]
        return {name: found[digest] for name, digest in digests.items()}

    def of(
        self, bytes_of: dict[str, Callable[[], Iterator[bytes]]], sizes: dict[str, int] | None = None, limit_bytes: int = 0
    ) -> dict[str, str]:
        """SHA-256 by BLAKE3. With `sizes` and a limit, raises TooMuch before it reads more than that many bytes."""
        known = self._known(sorted(bytes_of))
        missing = [digest for digest in bytes_of if digest not in known]
        if sizes and (total := sum(sizes[d] for d in missing)) > limit_bytes:
            raise TooMuch(
                f"{total >> 20} MiB were never hashed with SHA-256; at most {limit_bytes >> 20} MiB are read for one request.",
                hint="Download the version and describe it there.",
            )
        made = {digest: _sha256(bytes_of[digest]()) for digest in missing}
        if made:
            with self._db.system_write() as tx:
                tx.many(
                    "insert into sha256_of (digest, sha256) values (:digest, :sha256) on conflict (digest) do nothing",
                    [{"digest": digest, "sha256": sha256} for digest, sha256 in sorted(made.items())],
                )
        return known | made

    def _known(self, digests: list[str]) -> dict[str, str]:
        found: dict[str, str] = {}
        with self._db.read() as tx:
            for at in range(0, len(digests), DIGESTS_PER_QUERY):
                rows = tx.rows(
                    "select digest, sha256 from sha256_of where digest in :digests",
                    digests=digests[at : at + DIGESTS_PER_QUERY],
                )
                found |= {r["digest"]: r["sha256"] for r in rows}
        return found


def _sha256(chunks: Iterator[bytes]) -> str:
    hasher = hashlib.sha256()
    for chunk in chunks:
        hasher.update(chunk)
    return hasher.hexdigest()
