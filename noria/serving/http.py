"""The routes of serving: endpoints for people, `/serving/…` for Noria's own processes. Predictions go to the gateway."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio.to_thread
from litestar import Request

from noria.http.route import Routes, delete, get, post, put
from noria.kernel.errors import Invalid
from noria.kernel.op import Op
from noria.kernel.paging import Page
from noria.serving.model import (
    Canary,
    CanaryRequest,
    Conversion,
    DeployRequest,
    Desired,
    Endpoint,
    EndpointDetail,
    Exported,
    Recording,
    ReplicaReport,
    Revision,
    RollbackRequest,
    SegmentInfo,
    ShadowRequest,
    Traffic,
    TrafficReport,
)
from noria.serving.service import Serving
from noria.serving.trying import Tried, Trying, TryRequest

POLL_S = 0.05  # how soon a long poll sees a change made in this process
LOOK_S = 0.5  # and one made in another
WAIT_S_MAX = 30.0
HOUR_MS = 3_600_000


def routes(service: Serving, trying: Trying) -> Routes:
    @get("/api/v1/endpoints", action="endpoint.read")
    def list_endpoints(op: Op, limit: int | None = None, page: str = "") -> Page[Endpoint]:
        """The endpoints one may read, by name."""
        return service.endpoints(op, limit=limit, page=page)

    @get("/api/v1/endpoints/{name:str}", action="endpoint.read")
    def read_endpoint(op: Op, name: str) -> EndpointDetail:
        """One endpoint: routes, revisions, canary, replicas."""
        return service.detail(op, name)

    @get("/api/v1/revisions/{revision_id:str}", action="endpoint.read")
    def read_revision(op: Op, revision_id: str) -> Revision:
        """One revision and its state."""
        return service.revision(op, revision_id)

    @get("/api/v1/endpoints/{name:str}/traffic", action="endpoint.read")
    def read_traffic(op: Op, name: str, from_ms: int | None = None, to_ms: int | None = None, step_s: int = 60) -> Traffic:
        """Requests, errors and latency per revision and step; the last hour by default."""
        end = op.at_ms if to_ms is None else to_ms
        return service.traffic.series(
            op, name, from_ms=end - HOUR_MS if from_ms is None else from_ms, to_ms=end, step_s=step_s
        )

    @get("/api/v1/endpoints/{name:str}/segments", action="inference.read")
    def list_segments(op: Op, name: str, after: int = 0, kind: str = "") -> Page[SegmentInfo]:
        """Sealed files of inferences and truths, oldest first; their bytes are blobs."""
        if kind not in ("", "inference", "truth"):
            raise Invalid("kind is inference or truth.", where="kind")
        found = service.segments.after(op, name, after, kind=kind)  # type: ignore[arg-type]
        return Page(found)

    @get("/api/v1/endpoints/{name:str}/export", action="endpoint.read")
    def export(
        op: Op, name: str, format: str = "kserve", image: str = "", url: str = "", namespace: str = "default",
        secret: str = "noria", hosts: str = "",  # noqa: S107  # the name of one
    ) -> Exported:  # fmt: skip
        """The endpoint in the words of another system, kserve or ray, and what that system cannot say."""
        return service.exported(
            op,
            name,
            format,
            image=image,
            url=url,
            namespace=namespace,
            secret=secret,
            hosts=[h for h in hosts.split(",") if h],
        )

    @post("/api/v1/endpoints/{name:str}/deploy", action="endpoint.deploy")
    def deploy(op: Op, name: str, data: DeployRequest) -> Revision:
        """Serve a model version here with all the traffic."""
        return service.deploy(op, name, data.model, config=data.config, wait=data.wait)

    @post("/api/v1/endpoints/{name:str}/canary", action="endpoint.deploy")
    def start_canary(op: Op, name: str, data: CanaryRequest) -> Canary:
        """Try a model version on a share of the traffic."""
        return service.canaries.start(op, name, data.model, steps=data.steps, guard=data.guard, config=data.config)

    @post("/api/v1/endpoints/{name:str}/advance", action="endpoint.deploy")
    def advance_canary(op: Op, name: str) -> Canary:
        """Give the canary its next share."""
        return service.canaries.advance(op, name)

    @post("/api/v1/endpoints/{name:str}/promote", action="endpoint.deploy")
    def promote_canary(op: Op, name: str) -> Canary:
        """Make the canary the champion."""
        return service.canaries.promote(op, name)

    @post("/api/v1/endpoints/{name:str}/rollback", action="endpoint.deploy")
    def rollback(op: Op, name: str, data: RollbackRequest) -> Endpoint:
        """End the canary, or return to the previous champion."""
        return service.canaries.rollback(op, name, data.reason, data.evidence, to_previous=True)

    @post("/api/v1/endpoints/{name:str}/shadow", action="endpoint.deploy")
    def set_shadow(op: Op, name: str, data: ShadowRequest) -> Endpoint:
        """Let a version answer copies of all requests, to nobody."""
        return service.set_shadow(op, name, data.model, config=data.config)

    @post("/api/v1/endpoints/{name:str}/try", action="endpoint.predict")
    def try_endpoint(op: Op, name: str, data: TryRequest) -> Tried:
        """Ask the endpoint from here, as the form on its page does; recorded like any other request."""
        return trying.ask(op, name, data)

    @delete("/api/v1/endpoints/{name:str}", action="endpoint.delete")
    def delete_endpoint(op: Op, name: str) -> None:
        """Stop answering here."""
        service.delete(op, name)

    @get("/api/v1/endpoints/{name:str}/recording", action="endpoint.read")
    def read_recording(op: Op, name: str) -> Recording:
        """What of an endpoint's answers is written, and for how long."""
        return service.recordings.read(op, name)

    @put("/api/v1/endpoints/{name:str}/recording", action="endpoint.deploy")
    def change_recording(op: Op, name: str, data: Recording) -> Recording:
        """Sample, drop, mask or hash what is written from now on; say when it is deleted."""
        return service.recordings.change(op, name, data)

    @get("/api/v1/serving/desired", action="endpoint.serve")
    async def read_desired(
        op: Op, request: Request[Any, Any, Any], generation: int = -1, auth: str = "", wait_s: float = 0.0
    ) -> Desired:
        """What a node must run; waits up to `wait_s` until it differs from what the caller knows."""
        await anyio.to_thread.run_sync(op.require, "endpoint.serve")
        left_s = min(max(0.0, wait_s), WAIT_S_MAX)
        gone = asyncio.ensure_future(_caller_is_gone(request))
        try:
            while (
                left_s > 0 and not gone.done() and await anyio.to_thread.run_sync(service.nodes.mark) == (generation, auth)
            ):
                left_s -= await _wait_for_change(service, gone)
        finally:
            gone.cancel()
        return await anyio.to_thread.run_sync(service.nodes.desired, op, generation)

    @post("/api/v1/serving/replicas", action="endpoint.serve", status_code=204)
    def report_replicas(op: Op, data: ReplicaReport) -> None:
        """A node tells of its workers."""
        service.nodes.report(op, data)

    @post("/api/v1/serving/conversions", action="endpoint.serve")
    def register_conversion(op: Op, data: Conversion) -> Conversion:
        """A node made a model into ONNX; what is registered first counts."""
        return service.nodes.register(op, data)

    @post("/api/v1/serving/traffic", action="endpoint.serve", status_code=204)
    def report_traffic(op: Op, data: TrafficReport) -> None:
        """A node tells what it answered."""
        service.traffic.report(op, data)

    @post("/api/v1/serving/segments", action="endpoint.serve", status_code=204)
    def add_segment(op: Op, data: SegmentInfo) -> None:
        """The recorder registers a sealed file; again is no error."""
        service.segments.add(op, data)

    return [
        list_endpoints, read_endpoint, read_revision, read_traffic, list_segments, export, deploy, start_canary, advance_canary,
        promote_canary, rollback, set_shadow, try_endpoint, delete_endpoint, read_recording, change_recording,
        read_desired, report_replicas, register_conversion, report_traffic, add_segment,
    ]  # fmt: skip


async def _wait_for_change(service: Serving, gone: asyncio.Future[None]) -> float:
    """Until a fact was written in this process, the caller left, or LOOK_S; returns the seconds waited."""
    seen, waited_s = service.nodes.changes, 0.0
    while waited_s < LOOK_S and service.nodes.changes == seen and not gone.done():
        await asyncio.sleep(POLL_S)
        waited_s += POLL_S
    return waited_s or POLL_S


async def _caller_is_gone(request: Request[Any, Any, Any]) -> None:
    """Returns when the caller has hung up; a stopping server need not wait for a long poll of nobody."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
