"""Files in parts and by links: what the MLflow client calls multipart upload and presigned download.

    create ──▶ a secret and N addresses     put_part × N, in any order, each repeatable     complete ──▶ one artifact
                                                                                            abort, or 24 hours ──▶ nothing

Whoever may write the artifact begins an upload and gets a secret; each part is sent with the secret alone, since clients send
parts without their credentials. A part lies at `uploads/<id>/<number>` in the blob store; `complete` reads the parts in order
into one blob, never all in memory, and asks for the right to write again. A link is the same for reading one blob.
Invariant: the secret opens one upload or one blob, until it expires; only its hash is kept. What no open upload owns below
`uploads/` is removed by the next turn of the reconciler, whatever crashed.

With the setting direct_transfers, parts and blobs go straight to and from a store that can sign links (S3, GCS, Azure).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterator
from pathlib import Path

from blake3 import blake3
from msgspec import Struct

from noria.kernel.blobs import READ_BYTES, BlobStore, Named
from noria.kernel.crash import crash_here
from noria.kernel.db import Database
from noria.kernel.errors import Conflict, Invalid, NoriaError, NotFound, TooLarge, TooMuch
from noria.kernel.ids import Ref, new_id
from noria.kernel.op import Op
from noria.tracking import transfer_store as store
from noria.tracking.model import Artifact
from noria.tracking.places import check_file_path
from noria.tracking.service import Tracking
from noria.tracking.transfer_model import Transfer

PARTS_MAX = 10_000  # S3's limit
PART_BYTES_MAX = 1 << 30
OPEN_MAX = 1_000  # uploads under way at a time, of everybody
UPLOAD_S = 24 * 3600.0
LINK_S = 900.0
_BATCH = 500


class Opened(Struct, frozen=True):
    """An upload or a link as it was just made. `urls` are the store's own; without them, Noria's with `secret`."""

    transfer: Transfer
    secret: str
    urls: list[str]


class Transfers:
    """Files in parts and by links. A reconciler: it removes what was not finished."""

    name = "tracking.transfers"
    every_s = 600.0
    wake_on: frozenset[str] = frozenset()

    def __init__(self, db: Database, blobs: BlobStore, tracking: Tracking, *, limit_bytes: int, is_direct: bool) -> None:
        self._db, self._blobs, self._tracking = db, blobs, tracking
        self._limit_bytes, self.is_direct = limit_bytes, is_direct

    # --- uploads --------------------------------------------------------------------------------------------------------

    def create(self, op: Op, uri: str, parts: int) -> Opened:
        """Begin an upload in `parts` to what `uri` names. Raises Invalid, NotFound, Forbidden, TooMuch."""
        if not 1 <= parts <= PARTS_MAX:
            raise Invalid(f"An upload has 1 to {PARTS_MAX} parts, not {parts}.", where="num_parts")
        place = self._tracking.place(op, uri)
        check_file_path(place.path)
        op.require("artifact.write", Ref("experiment", place.experiment_id))
        made, secret = self._made(op, "upload", uri, parts=parts, for_s=UPLOAD_S)
        with self._db.write(op) as tx:
            if store.open_count(tx) >= OPEN_MAX:
                raise TooMuch(f"{OPEN_MAX} uploads are under way.", hint="Finish or abort some first.", retry_after_s=60)
            store.add(tx, made)
        urls = [self._blobs.link_to_put(_key(made.id, n), UPLOAD_S) for n in range(1, parts + 1)] if self.is_direct else []
        return Opened(made, secret, urls if all(urls) else [])

    def check_part(self, upload_id: str, secret: str, number: int) -> Transfer:
        """The open upload that `secret` opens, before a part of it is read. Raises NotFound, Invalid."""
        with self._db.read() as tx:
            found = store.transfer(tx, upload_id)
        if not self._is_open(found, "upload", secret):
            raise NotFound("There is no such upload.", hint="It was finished, aborted or took too long; begin again.")
        assert found is not None
        if not 1 <= number <= found.parts:
            raise Invalid(f"The upload has the parts 1 to {found.parts}.", where="part_number")
        return found

    def put_part(self, upload_id: str, secret: str, number: int, part: bytes | Path) -> str:
        """Store one part; a repeated part takes the place of the first. Gives its digest. Raises NotFound, TooLarge."""
        size = len(part) if isinstance(part, bytes) else part.stat().st_size
        if size > min(PART_BYTES_MAX, self._limit_bytes):
            raise TooLarge(f"A part has at most {PART_BYTES_MAX >> 20} MiB.", hint="Send smaller parts.")
        self._blobs.put_at(_key(upload_id, number), part)
        crash_here("part.stored")
        try:
            self.check_part(upload_id, secret, number)
        except NotFound:
            self._blobs.delete_at(_key(upload_id, number))  # it ended meanwhile
            raise
        return _digest(part)

    def complete(self, op: Op, upload_id: str, uri: str, etags: dict[int, str]) -> Artifact:
        """Make the parts one artifact; a finished upload may be completed again. Raises Invalid, NotFound, Forbidden."""
        found = self._mine(op, upload_id, uri)
        place = self._tracking.place(op, uri)
        if found.state == "done":
            return self._tracking.open_at(op, place)[0]
        try:
            parts = self._parts(found, etags)
            made = self._tracking.put_at(op, place, self._joined(parts, etags))
        except NoriaError:
            if self._mine(op, upload_id, uri).state == "done":  # the same request, sent twice, was faster and took the parts
                return self._tracking.open_at(op, place)[0]
            raise
        crash_here("parts.joined")
        with self._db.write(op) as tx:
            store.set_state(tx, upload_id, "done")
        self._remove(part.key for part in parts)
        return made

    def abort(self, op: Op, upload_id: str, uri: str) -> None:
        """Give an upload up; its parts go. Raises NotFound, Forbidden."""
        self._mine(op, upload_id, uri)
        with self._db.write(op) as tx:
            store.remove(tx, [upload_id])
        self._remove(self._blobs.keys(f"uploads/{upload_id}"))

    def _mine(self, op: Op, upload_id: str, uri: str) -> Transfer:
        """The upload of this id to this place, which the caller may write. Raises NotFound, Forbidden."""
        place = self._tracking.place(op, uri)
        op.require("artifact.write", Ref("experiment", place.experiment_id))
        with self._db.read() as tx:
            found = store.transfer(tx, upload_id)
        if found is None or found.kind != "upload" or found.uri != uri or found.expires_at_ms <= op.at_ms:
            raise NotFound(f"There is no upload {upload_id[:80]!r} to this place.", hint="Begin again.")
        return found

    def _parts(self, upload: Transfer, etags: dict[int, str]) -> list[Named]:
        """Every part in order, all there and within the limit. Raises Invalid, TooLarge."""
        there = {int(item.key.rsplit("/", 1)[1]): item for item in self._blobs.named(f"uploads/{upload.id}")}
        missing = [n for n in range(1, upload.parts + 1) if n not in there or n not in etags]
        if missing or len(etags) != upload.parts:
            raise Invalid(
                f"The upload has {upload.parts} parts; {len(missing)} are missing, the first is {missing[:1]}.", where="parts",
                hint="Send them, then complete again.",
            )  # fmt: skip
        parts = [there[n] for n in range(1, upload.parts + 1)]
        if (size := sum(part.size_bytes for part in parts)) > self._limit_bytes:
            raise TooLarge(f"The file has {size} bytes; at most {self._limit_bytes} are taken.")
        return parts

    def _joined(self, parts: list[Named], etags: dict[int, str]) -> Iterator[bytes]:
        """The bytes of all parts. Raises Conflict when a part is not the one that was acknowledged."""
        for number, part in enumerate(parts, 1):
            hasher = blake3()
            for chunk in self._blobs.open_at(part.key):
                hasher.update(chunk)
                yield chunk
            if etags[number].strip('"') not in (hasher.hexdigest(), part.etag):
                raise Conflict(f"Part {number} is not what was sent.", hint="Send it again.")

    # --- links ----------------------------------------------------------------------------------------------------------

    def link(self, op: Op, uri: str, file: Artifact) -> Opened:
        """A link to the bytes of a file that the caller may read; the caller of this has asked for the right."""
        if self.is_direct and (url := self._blobs.link_to_get(file.digest, LINK_S)):
            return Opened(self._made(op, "link", uri, file=file, for_s=LINK_S)[0], "", [url])
        made, secret = self._made(op, "link", uri, file=file, for_s=LINK_S)
        with self._db.write(op, shared=True) as tx:
            store.add(tx, made)
        return Opened(made, secret, [])

    def open_link(self, link_id: str, secret: str) -> Transfer:
        """What a link leads to. Raises NotFound."""
        with self._db.read() as tx:
            found = store.transfer(tx, link_id)
        if not self._is_open(found, "link", secret):
            raise NotFound("There is no such link.", hint="It has expired; ask for another.")
        assert found is not None
        return found

    def read_link(self, link: Transfer, start: int, end: int) -> Iterator[bytes]:
        return self._blobs.open(link.digest, start, end)

    # --- both -----------------------------------------------------------------------------------------------------------

    def _made(
        self, op: Op, kind: str, uri: str, *, parts: int = 0, file: Artifact | None = None, for_s: float
    ) -> tuple[Transfer, str]:
        secret = secrets.token_urlsafe(32)
        made = Transfer(
            id=new_id(op.at_ms), kind=kind, state="open", secret_sha256=_hashed(secret), workspace=op.workspace, uri=uri,
            digest=file.digest if file else "", size_bytes=file.size_bytes if file else 0, parts=parts, actor=op.actor.label,
            created_at_ms=op.at_ms, expires_at_ms=op.at_ms + int(for_s * 1000),
        )  # fmt: skip
        return made, secret

    def _is_open(self, found: Transfer | None, kind: str, secret: str) -> bool:
        return (
            found is not None
            and found.kind == kind
            and found.state == "open"
            and hmac.compare_digest(found.secret_sha256, _hashed(secret))
            and found.expires_at_ms > self._db.clock.now_ms()
        )

    def reconcile(self) -> None:
        """Remove what expired, and every part that no open upload owns."""
        now_ms = self._db.clock.now_ms()
        with self._db.system_write() as tx:
            while store.remove_expired(tx, now_ms, _BATCH) == _BATCH:
                pass
        keys = list(self._blobs.keys("uploads"))
        owners = sorted({key.split("/")[1] for key in keys})
        with self._db.read() as tx:
            live = {i for at in range(0, len(owners), _BATCH) for i in store.open_ids(tx, owners[at : at + _BATCH])}
        self._remove(key for key in keys if key.split("/")[1] not in live)

    def _remove(self, keys: Iterator[str]) -> None:
        for key in keys:
            self._blobs.delete_at(key)


def _key(upload_id: str, number: int) -> str:
    return f"uploads/{upload_id}/{number:05d}"


def _digest(part: bytes | Path) -> str:
    if isinstance(part, bytes):
        return blake3(part).hexdigest()
    hasher = blake3()
    with part.open("rb") as file:
        while chunk := file.read(READ_BYTES):
            hasher.update(chunk)
    return hasher.hexdigest()


def _hashed(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
