"""The routes of tries that run elsewhere: for the worker that hands one on (`/work/…`), and for its job (`/attempts/…`)."""

from __future__ import annotations

from typing import Any

import anyio.to_thread
from blake3 import blake3
from litestar import Request
from litestar.response import Stream

from noria.http.bodies import stored
from noria.http.route import Routes, get, post, put
from noria.kernel.blobs import BlobStore, Spool, check_digest
from noria.kernel.errors import Invalid
from noria.kernel.op import Op
from noria.pipelines.elsewhere import Elsewhere
from noria.pipelines.model.elsewhere import AskingHow, Begin, Begun, Handing, Ticket, Told
from noria.pipelines.model.work import Finish, LogChunk, Orders

_AT = "/api/v1/attempts/{step_run_id:str}/{number:int}"
_BLOB = "/api/v1/attempts/blobs/{step_run_id:str}/{number:int}/{digest:str}"  # the door lets large bodies in there


def routes(elsewhere: Elsewhere, blobs: BlobStore) -> Routes:
    @post("/api/v1/pipelines/work/hand-on", action="pipeline.work")
    def work_hand_on(op: Op, data: Handing) -> Ticket:
        """A worker hands a try that it holds to a job elsewhere; the ticket works once."""
        return elsewhere.hand_on(op, data)

    @post("/api/v1/pipelines/work/told", action="pipeline.work")
    def work_told(op: Op, data: AskingHow) -> Told:
        """What became of a try that a worker handed on."""
        return elsewhere.told(op, data)

    @post(f"{_AT}/begin", action="pipeline.attempt")
    def begin_attempt(op: Op, step_run_id: str, number: int, data: Begin) -> Begun:
        """A job begins a try with its ticket; it is given all it needs, and a token of its own."""
        return elsewhere.begin(op, step_run_id, number, data)

    @post(f"{_AT}/beat", action="pipeline.attempt")
    def beat_attempt(op: Op, step_run_id: str, number: int) -> Orders:
        """A job asks whether it is to stop."""
        return elsewhere.beat(op, step_run_id, number)

    @post(f"{_AT}/logs", action="pipeline.attempt")
    def log_attempt(op: Op, step_run_id: str, number: int, data: LogChunk) -> dict[str, Any]:
        """Keep a piece of a job's output."""
        elsewhere.append_log(op, step_run_id, number, data)
        return {}

    @post(f"{_AT}/finish", action="pipeline.attempt")
    def finish_attempt(op: Op, step_run_id: str, number: int, data: Finish) -> dict[str, Any]:
        """Record how a try ended."""
        elsewhere.finish(op, step_run_id, number, data)
        return {}

    @get(_BLOB, action="pipeline.attempt")
    def read_attempt_blob(op: Op, step_run_id: str, number: int, digest: str) -> Stream:
        """Bytes that a try was given: its code, its lock, its inputs."""
        return Stream(elsewhere.blob(op, step_run_id, number)(check_digest(digest)), media_type="application/octet-stream")

    @put(_BLOB, action="pipeline.attempt", status_code=201)
    async def write_attempt_blob(
        op: Op, request: Request[Any, Any, Any], step_run_id: str, number: int, digest: str
    ) -> dict[str, Any]:  # fmt: skip
        """Keep bytes that a try returns, under their digest."""
        await anyio.to_thread.run_sync(elsewhere.may_write, op, step_run_id, number)
        check_digest(digest)
        async with stored(request) as body:
            found = body.info.digest if isinstance(body, Spool) else blake3(body).hexdigest()
            if found != digest:
                raise Invalid(f"The bytes have the digest {found}, not the one in the address.", where="digest")
            info = await anyio.to_thread.run_sync(blobs.put, body)
        return {"digest": info.digest, "size_bytes": info.size_bytes}

    return [
        work_hand_on, work_told, begin_attempt, beat_attempt, log_attempt, finish_attempt, read_attempt_blob,
        write_attempt_blob,
    ]  # fmt: skip
