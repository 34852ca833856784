"""Routes of the platform itself: health, facts, the live stream, lineage, blobs, metrics."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

import anyio
import anyio.to_thread
import msgspec
from blake3 import blake3
from litestar import Request, Response
from litestar.params import HeaderParameter
from litestar.response import ServerSentEvent, ServerSentEventMessage, Stream
from msgspec import Struct
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest

from noria import __version__
from noria.access.policy import PUBLIC
from noria.access.service import Access
from noria.config import Config
from noria.http.bodies import stored
from noria.http.route import Routes, get, put
from noria.kernel.blobs import BlobStore, Spool, check_digest
from noria.kernel.db import Database
from noria.kernel.errors import Invalid
from noria.kernel.events import Event, cause_chain, events_after, events_before, last_seq, parse_kinds
from noria.kernel.op import Op
from noria.kernel.paging import Page, check_limit
from noria.kernel.ticks import Ticks

SUBJECTS_MAX = 100
STREAM_POLL_S = 0.25
STREAM_KEEPALIVE_S = 15.0


class Health(Struct, frozen=True):
    """Ready to serve."""

    status: str
    version: str
    database: str
    last_seq: int


def routes(config: Config, db: Database, blobs: BlobStore, ticks: Ticks, access: Access) -> Routes:
    @get("/health", action=PUBLIC)
    def health() -> Health:
        """200 when the database answers."""
        with db.read() as tx:
            return Health("ok", __version__, db.dialect, last_seq(tx))

    @get("/metrics", action=PUBLIC, media_type="text/plain")
    def metrics() -> Response[bytes]:
        """Metrics of the control plane, for Prometheus."""
        return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)

    @get("/api/v1/events", action="event.read")
    def list_events(
        op: Op, after: int | None = None, before: int | None = None, kinds: str = "", subject: str = "", actor: str = "",
        limit: int | None = None,
    ) -> Page[Event]:  # fmt: skip
        """Facts: newest first before `before`, or oldest first after `after`. `kinds`, `subject`: one, or several with commas."""
        op.require("event.read")
        size, wanted = check_limit(limit), parse_kinds(kinds) or None
        subjects = [s.strip() for s in subject.split(",") if s.strip()]
        if len(subjects) > SUBJECTS_MAX:
            raise Invalid(f"At most {SUBJECTS_MAX} subjects at once.", where="subject")
        with db.read() as tx:
            if after is not None:
                found = events_after(tx, after, limit=size, kinds=wanted, subjects=subjects, actor=actor)
            else:
                found = events_before(tx, before, limit=size, kinds=wanted, subjects=subjects, actor=actor)
        return Page(found, str(found[-1].seq) if len(found) == size else None)

    @get("/api/v1/events/{seq:int}/chain", action="event.read")
    def read_chain(op: Op, seq: int) -> Page[Event]:
        """The walk from a fact back to what led to it, oldest first."""
        op.require("event.read")
        with db.read() as tx:
            return Page(cause_chain(tx, seq))

    @get("/api/v1/stream", action="event.read")
    async def stream(
        request: Request[Any, Any, Any],
        op: Op,
        last_event_id: Annotated[str | None, HeaderParameter(name="last-event-id")] = None,
    ) -> ServerSentEvent:
        """Facts and ticks as they happen. Goes on after `Last-Event-ID`."""
        await anyio.to_thread.run_sync(op.require, "event.read")
        if last_event_id is not None and not last_event_id.isdigit():
            raise Invalid("Last-Event-ID is the seq of a fact.", where="last-event-id")
        return ServerSentEvent(_follow(int(last_event_id) if last_event_id else None))

    async def _follow(cursor: int | None) -> AsyncIterator[ServerSentEventMessage]:
        seen_facts, seen_ticks, quiet_s = -1, ticks.version, 0.0
        while True:
            if seen_facts != db.wakeups.count or quiet_s >= 1.0:
                seen_facts = db.wakeups.count
                found, cursor = await anyio.to_thread.run_sync(_facts_after, cursor)
                for event in found:
                    quiet_s = 0.0
                    yield ServerSentEventMessage(event="fact", id=str(event.seq), data=msgspec.json.encode(event).decode())
            for tick in ticks.since(seen_ticks):
                seen_ticks, quiet_s = tick.version, 0.0
                yield ServerSentEventMessage(
                    event="tick", data=msgspec.json.encode({"subject": tick.subject, "data": tick.data}).decode()
                )
            await asyncio.sleep(STREAM_POLL_S)
            quiet_s += STREAM_POLL_S
            if quiet_s >= STREAM_KEEPALIVE_S:
                quiet_s = 0.0
                yield ServerSentEventMessage(comment="still here")

    def _facts_after(cursor: int | None) -> tuple[list[Event], int]:
        with db.read() as tx:
            if cursor is None:
                return [], last_seq(tx)
            found = events_after(tx, cursor, limit=200)
        return found, found[-1].seq if found else cursor

    @put("/api/v1/blobs/{digest:str}", action="blob.write", status_code=201)
    async def write_blob(op: Op, request: Request[Any, Any, Any], digest: str) -> dict[str, Any]:
        """Store bytes under their BLAKE3 digest; refused when they do not match it."""
        await anyio.to_thread.run_sync(op.require, "blob.write")
        check_digest(digest)
        async with stored(request) as body:
            found = body.info.digest if isinstance(body, Spool) else blake3(body).hexdigest()
            if found != digest:
                raise Invalid(f"The bytes have the digest {found}, not the one in the address.", where="digest")
            info = await anyio.to_thread.run_sync(blobs.put, body)
        return {"digest": info.digest, "size_bytes": info.size_bytes}

    @get("/api/v1/blobs/{digest:str}", action="blob.read")
    def read_blob(op: Op, digest: str) -> Stream:
        """The bytes with this digest."""
        op.require("blob.read")
        return Stream(blobs.open(check_digest(digest)), media_type="application/octet-stream")

    return [health, metrics, list_events, read_chain, stream, write_blob, read_blob]
