"""Models that answer: what is wanted behind each address, as immutable revisions and a pointer that moves.

A way to production traffic is always: a new revision (pending) → a node loads and warms it → the pointer moves. Until then the
old route answers; a revision that cannot be loaded changes nothing. Every move of traffic is one transaction, passes the gate
`endpoint.deploy`, and leaves a fact with its reason. Going back never asks the gate: it must always be possible.

Nodes learn by `desired`: everything they must run, under one growing generation.
"""

from __future__ import annotations

import sys
from typing import Any, Literal

import msgspec

from noria.access.service import Access
from noria.kernel.blobs import BlobStore, check_digest
from noria.kernel.db import Database, Read, Write
from noria.kernel.errors import Conflict, Invalid, NotFound, Unavailable
from noria.kernel.ids import Ref, RevisionId, check_name, new_id
from noria.kernel.op import Op
from noria.kernel.paging import Page, check_limit, decode_token, encode_token
from noria.kernel.ticks import Ticks
from noria.registry.model import ModelVersion
from noria.registry.service import Registry
from noria.serving import store
from noria.serving.model import (
    CANARY_STEPS,
    ERROR_REQUESTS_MIN,
    TRAFFIC_STEP_MS,
    Canary,
    Desired,
    DesiredAuth,
    DesiredEndpoint,
    DesiredRevision,
    Endpoint,
    EndpointDetail,
    Guard,
    ModelFileInfo,
    Predictor,
    ReplicaReport,
    Revision,
    RevisionConfig,
    Route,
    SegmentInfo,
    Traffic,
    TrafficReport,
    TrafficSeries,
)
from noria.serving.routes import quantile_ms

WAIT_S = 60.0  # how long deploy(wait=True) waits for a node
WAIT_TURN_S = 0.5
WAIT_FLIP_S = 0.02  # the model is loaded; the node follows the new route within a poll
STEPS_MAX = 2_000  # points of a traffic series
TRAFFIC_ROWS_MAX = 200_000
TRAFFIC_KEPT_MS = 31 * 86_400_000
SEGMENTS_PER_PAGE = 1_000


class Serving:
    """The service. See the module."""

    def __init__(
        self, db: Database, blobs: BlobStore, ticks: Ticks, access: Access, registry: Registry, *, gateway_url: str = "",
        grpc_address: str = "",
    ) -> None:  # fmt: skip
        self._db, self._blobs, self._ticks, self._access, self._registry = db, blobs, ticks, access, registry
        self._gateway_url, self._grpc_address = gateway_url, grpc_address

    # --- read ---------------------------------------------------------------------------------------------------------

    def digests_in_use(self, tx: Read, digests: list[str]) -> set[str]:
        """Those of `digests` that a revision's files or a segment of answers need; for the collector of unused blobs."""
        return store.digests_in_use(tx, digests)

    def endpoint(self, op: Op, name: str) -> Endpoint:
        """Raises NotFound, Forbidden."""
        op.require("endpoint.read", _ref(name))
        with self._db.read() as tx:
            return store.endpoint(tx, name)

    def endpoints(self, op: Op, *, limit: int | None = None, page: str = "") -> Page[Endpoint]:
        """The endpoints one may read, by name."""
        visible = op.visible("endpoint.read")
        if visible is not None and not visible:
            op.require("endpoint.read")
        names = None if visible is None else [v.partition(":")[2] for v in visible if v.startswith("endpoint:")]
        size, after = check_limit(limit), str(decode_token(page, size=1)[0]) if page else ""
        with self._db.read() as tx:
            found = store.endpoints(tx, names=names, after=after, limit=size)
        return Page(found, encode_token(found[-1].name) if len(found) == size else None)

    def detail(self, op: Op, name: str) -> EndpointDetail:
        """An endpoint with its revisions, canaries and replicas. Raises NotFound, Forbidden."""
        op.require("endpoint.read", _ref(name))
        with self._db.read() as tx:
            found = store.endpoint(tx, name)
            revisions = store.revisions(tx, name)
            return EndpointDetail(
                endpoint=found, revisions=revisions, canary=store.open_canary(tx, name), canaries=store.canaries(tx, name),
                replicas=store.replicas(tx, [r.id for r in revisions]), url=self._gateway_url, grpc=self._grpc_address,
            )  # fmt: skip

    def revision(self, op: Op, revision_id: str) -> Revision:
        """Raises NotFound, Forbidden."""
        with self._db.read() as tx:
            found = store.revision(tx, revision_id)
        op.require("endpoint.read", _ref(found.endpoint))
        return found

    def canary(self, op: Op, name: str) -> Canary | None:
        """The canary that is starting or running on an endpoint."""
        op.require("endpoint.read", _ref(name))
        with self._db.read() as tx:
            store.endpoint(tx, name)
            return store.open_canary(tx, name)

    def canaries(self, op: Op, name: str) -> list[Canary]:
        """The latest canaries of an endpoint, newest first."""
        op.require("endpoint.read", _ref(name))
        with self._db.read() as tx:
            return store.canaries(tx, name)

    def running_canaries(self, op: Op) -> list[Canary]:
        """Every canary that has traffic now; for the judge. Those of endpoints one may read."""
        visible = op.visible("endpoint.read")
        with self._db.read() as tx:
            found = store.running_canaries(tx)
        return [c for c in found if visible is None or str(_ref(c.endpoint)) in visible]

    # --- deploy -------------------------------------------------------------------------------------------------------

    def deploy(
        self, op: Op, name: str, model_handle: str, *, config: RevisionConfig | None = None, wait: bool = False,
    ) -> Revision:  # fmt: skip
        """Serve a model version at `name` with all the traffic; makes the endpoint when there is none.

        Traffic moves when a node has loaded the model; with `wait`, that is before this returns. Wanting what is served
        already changes nothing. Raises NotFound, Invalid (also: the model cannot be loaded), Conflict (a canary is open),
        Forbidden (role or policy; reasons listed), Unavailable (waited, and no node answered).
        """
        check_name(name, what="endpoint")
        op.require("endpoint.deploy", _ref(name))
        version, files = self._version(op, model_handle)
        wanted = _check_config(config or RevisionConfig())
        with self._db.write(op) as tx:
            generation = store.next_generation(tx)
            endpoint = store.find_endpoint(tx, name)
            self._refuse_canary(tx, name)
            revision = self._same(tx, endpoint, version, wanted)
            if revision is None:
                op.gate("endpoint.deploy", _ref(name), self._evidence(op, endpoint, version, name, "champion", 100))
                if endpoint is None:
                    endpoint = self._create(tx, op, name, version.model)
                revision = self._add_revision(tx, op, name, version, files, wanted, "champion")
                self._supersede(tx, endpoint)
                changed = msgspec.structs.replace(
                    endpoint, pending_revision_id=revision.id, generation=generation, updated_at_ms=op.at_ms,
                    status="ready" if endpoint.routes else "pending",
                )  # fmt: skip
                store.put_endpoint(tx, changed)
        return self._wait(revision.id) if wait else revision

    def _version(self, op: Op, handle: str) -> tuple[ModelVersion, list[ModelFileInfo]]:
        version = self._registry.version(op, handle)
        files = [
            ModelFileInfo(path=f.path, size_bytes=f.size_bytes, digest=f.digest) for f in self._registry.files(op, version)
        ]
        if not any(f.path == "MLmodel" for f in files):
            raise Invalid(
                f"{version.model}@{version.number} has no MLmodel file, so it cannot be served.", where="model",
                hint="Log it with an MLflow flavour, such as mlflow.sklearn.log_model.",
            )  # fmt: skip
        return version, files

    def _same(self, tx: Read, endpoint: Endpoint | None, version: ModelVersion, config: RevisionConfig) -> Revision | None:
        """The revision that already is, or is about to be, the champion and is what is wanted."""
        if endpoint is None:
            return None
        current = endpoint.pending_revision_id or next((r.revision_id for r in store.routes_of(endpoint, "champion")), "")
        if not current:
            return None
        found = store.revision(tx, current)
        return found if found.model_version_id == version.id and found.config == config else None

    def _refuse_canary(self, tx: Read, name: str) -> None:
        if store.open_canary(tx, name) is not None:
            raise Conflict(
                f"{name} has a canary.",
                ref=_ref(name),
                hint="Promote it or roll it back first: noria endpoint promote|rollback.",
            )

    def _create(self, tx: Write, op: Op, name: str, model: str) -> Endpoint:
        made = Endpoint(name=name, model=model, generation=0, routes=[], created_at_ms=op.at_ms, updated_at_ms=op.at_ms)
        store.put_endpoint(tx, made)
        tx.emit("endpoint.created", _ref(name), model=model)
        return made

    def _add_revision(
        self, tx: Write, op: Op, name: str, version: ModelVersion, files: list[ModelFileInfo], config: RevisionConfig, role: str,
    ) -> Revision:  # fmt: skip
        made = Revision(
            id=RevisionId(new_id(op.at_ms)), endpoint=name, number=store.next_revision_number(tx, name), model=version.model,
            model_version=version.number, model_version_id=version.id, digest=version.digest, config=config,
            environment=sys.executable, state="pending", created_at_ms=op.at_ms, actor=op.actor.label,
        )  # fmt: skip
        store.add_revision(tx, made, files)
        tx.link(Ref("revision", made.id), "serves", Ref("model_version", version.id), protects=True)
        tx.link(_ref(name), "has", Ref("revision", made.id))
        tx.emit(
            "revision.created",
            Ref("revision", made.id),
            endpoint=name,
            model=version.model,
            version=version.number,
            role=role,
        )
        return made

    def _supersede(self, tx: Write, endpoint: Endpoint) -> None:
        """A newer wish replaces one that is still loading."""
        if endpoint.pending_revision_id:
            self._retire(tx, [endpoint.pending_revision_id])

    def _retire(self, tx: Write, ids: list[str]) -> None:
        """These revisions no longer run; their model versions may be deleted, their history stays."""
        for revision in store.revisions_by_id(tx, ids):
            if revision.state != "failed":
                store.set_state(tx, revision.id, "retired")
            tx.link(Ref("revision", revision.id), "serves", Ref("model_version", revision.model_version_id), protects=False)

    def _evidence(
        self, op: Op, endpoint: Endpoint | None, version: ModelVersion, name: str, role: str, weight: int
    ) -> dict[str, Any]:
        """What a policy sees of a way to production traffic."""
        champion = next((r for r in store.routes_of(endpoint, "champion")), None) if endpoint else None
        evaluation = _latest(version)
        return {
            "endpoint": name, "role": role, "weight": weight, "model": version.model, "version": version.number,
            "version_id": version.id, "digest": version.digest, "author": version.actor, "actor": op.actor.label,
            "run_id": version.run_id, "tags": version.tags, "aliases": version.aliases, "evaluation": evaluation,
            "evaluations": [msgspec.to_builtins(e) for e in version.evaluations],
            "champion_version": champion.model_version if champion else None,
            "champion_evaluation": self._champion_evaluation(op, version, champion, evaluation),
        }  # fmt: skip

    def _champion_evaluation(
        self, op: Op, version: ModelVersion, champion: Route | None, like: dict[str, Any] | None
    ) -> dict[str, Any] | None:
        """The champion's numbers on the same data, or None."""
        if champion is None or like is None:
            return None
        try:
            current = self._registry.version(op, f"{version.model}@{champion.model_version}")
        except NotFound:
            return None
        for evaluation in current.evaluations:
            if (evaluation.dataset_version, evaluation.split) == (like["dataset_version"], like["split"]):
                found: dict[str, Any] = msgspec.to_builtins(evaluation)
                return found
        return None

    def _wait(self, revision_id: str) -> Revision:
        """The revision once a node runs it. Raises Invalid with the worker's words, or Unavailable."""
        seen = -1
        for _ in range(int(WAIT_S / WAIT_TURN_S)):
            with self._db.read() as tx:
                found = store.revision(tx, revision_id)
                endpoint = store.find_endpoint(tx, found.endpoint)
                is_followed = endpoint is not None and store.followed_generation(tx) >= endpoint.generation
            if found.state == "failed":
                last = found.error.strip().splitlines()
                raise Invalid(
                    f"{found.model}@{found.model_version} cannot be loaded: {last[-1] if last else 'no reason given'}",
                    ref=Ref("revision", revision_id), hint=found.error.strip(),
                )  # fmt: skip
            if found.state != "pending" and is_followed:
                return found
            seen = self._db.wakeups.wait(seen, WAIT_TURN_S if found.state == "pending" else WAIT_FLIP_S)
        raise Unavailable(
            f"No serving node has loaded {found.model}@{found.model_version} within {WAIT_S:.0f} s.", retry_after_s=10,
            hint="Is a node running? noria server starts one.",
        )  # fmt: skip

    # --- canary -------------------------------------------------------------------------------------------------------

    def start_canary(
        self, op: Op, name: str, model_handle: str, *, steps: list[int] | None = None, guard: Guard | None = None,
        config: RevisionConfig | None = None,
    ) -> Canary:  # fmt: skip
        """Try a version on a share of the traffic: `steps` percent, one after the other. It starts once a node has loaded it.

        Raises NotFound, Invalid, Conflict (one is open), Forbidden (role or policy; reasons listed).
        """
        op.require("endpoint.deploy", _ref(name))
        wanted_steps, wanted_guard = check_steps(steps or list(CANARY_STEPS)), check_guard(guard or Guard())
        version, files = self._version(op, model_handle)
        wanted = _check_config(config or RevisionConfig())
        with self._db.write(op) as tx:
            generation = store.next_generation(tx)
            endpoint = store.endpoint(tx, name)
            self._refuse_canary(tx, name)
            champion = next((r for r in store.routes_of(endpoint, "champion")), None)
            if champion is None or endpoint.pending_revision_id:
                raise Conflict(f"{name} has no champion that is ready.", ref=_ref(name), hint="Deploy one and wait for it.")
            evidence = self._evidence(op, endpoint, version, name, "canary", wanted_steps[0])
            op.gate("endpoint.deploy", _ref(name), evidence)
            revision = self._add_revision(tx, op, name, version, files, wanted, "canary")
            made = Canary(
                id=new_id(op.at_ms), endpoint=name, revision_id=revision.id, champion_revision_id=champion.revision_id,
                model_version=version.number, steps=wanted_steps, step=0, guard=wanted_guard, state="starting",
                started_at_ms=op.at_ms, stepped_at_ms=op.at_ms,
            )  # fmt: skip
            store.put_canary(tx, made)
            store.put_endpoint(
                tx,
                msgspec.structs.replace(
                    endpoint, pending_revision_id=revision.id, generation=generation, updated_at_ms=op.at_ms
                ),
            )
        return made

    def advance_canary(self, op: Op, name: str, evidence: dict[str, Any] | None = None) -> Canary:
        """Give the canary its next share. Raises NotFound, Conflict (none runs, or it is at its last step), Forbidden."""
        op.require("endpoint.deploy", _ref(name))
        with self._db.write(op) as tx:
            generation = store.next_generation(tx)
            endpoint, canary = store.endpoint(tx, name), self._running(tx, name)
            if canary.is_last_step:
                raise Conflict(f"The canary of {name} is at its last step.", hint="Promote it: noria endpoint promote.")
            moved = msgspec.structs.replace(canary, step=canary.step + 1, stepped_at_ms=op.at_ms)
            version = self._registry.version(op, self._handle(tx, canary.revision_id))
            op.gate("endpoint.deploy", _ref(name), self._evidence(op, endpoint, version, name, "canary", moved.weight))
            store.put_canary(tx, moved)
            self._route(tx, op, endpoint, generation, _split(endpoint, moved), f"canary at {moved.weight} %", evidence or {})
            self._tell_canary(tx, "canary.advanced", moved, weight=moved.weight, evidence=evidence or {})
        return moved

    def promote_canary(self, op: Op, name: str, evidence: dict[str, Any] | None = None) -> Canary:
        """Make the canary the champion, with all the traffic. The old champion is kept warm for a way back.

        Raises NotFound, Conflict (none runs), Forbidden (role or policy).
        """
        op.require("endpoint.deploy", _ref(name))
        with self._db.write(op) as tx:
            generation = store.next_generation(tx)
            endpoint, canary = store.endpoint(tx, name), self._running(tx, name)
            version = self._registry.version(op, self._handle(tx, canary.revision_id))
            op.gate("endpoint.deploy", _ref(name), self._evidence(op, endpoint, version, name, "champion", 100))
            ended = msgspec.structs.replace(
                canary, state="promoted", ended_at_ms=op.at_ms, reason="promoted", evidence=evidence or {}
            )
            store.put_canary(tx, ended)
            routes = _champion(endpoint, canary.revision_id, canary.model_version)
            self._route(tx, op, endpoint, generation, routes, "canary promoted", evidence or {})
            self._tell_canary(tx, "canary.promoted", ended, evidence=evidence or {})
        return ended

    def rollback(
        self, op: Op, name: str, reason: str, evidence: dict[str, Any] | None = None, *, to_previous: bool = False
    ) -> Endpoint:
        """Go back at once: end the open canary; without one and `to_previous`, return to the previous champion, still warm.

        A judge leaves `to_previous` out: a canary that has just ended must not cost the champion its place.
        Raises NotFound, Conflict (there is nothing to go back to), Forbidden (role).
        """
        op.require("endpoint.deploy", _ref(name))
        with self._db.write(op) as tx:
            return self._back(tx, op, name, reason, evidence or {}, to_previous=to_previous)

    def _back(
        self, tx: Write, op: Op, name: str, reason: str, evidence: dict[str, Any], *, to_previous: bool = False
    ) -> Endpoint:
        generation = store.next_generation(tx)
        endpoint = store.endpoint(tx, name)
        canary = store.open_canary(tx, name)
        if canary is not None:
            return self._end_canary(tx, op, endpoint, canary, generation, reason, evidence)
        previous = next(iter(store.routes_of(endpoint, "previous")), None)
        if not to_previous:
            raise Conflict(f"{name} has no canary to roll back.", ref=_ref(name))
        if previous is None:
            raise Conflict(
                f"{name} has no canary and no previous champion.", ref=_ref(name), hint="Deploy the version you want."
            )
        routes = _champion(endpoint, previous.revision_id, previous.model_version)
        return self._route(tx, op, endpoint, generation, routes, f"rolled back: {reason}", evidence)

    def _end_canary(
        self, tx: Write, op: Op, endpoint: Endpoint, canary: Canary, generation: int, reason: str, evidence: dict[str, Any]
    ) -> Endpoint:
        ended = msgspec.structs.replace(
            canary, state="rolled_back", ended_at_ms=op.at_ms, reason=reason[:2000], evidence=evidence
        )
        store.put_canary(tx, ended)
        champion = next(r for r in store.routes_of(endpoint, "champion"))
        others = [r for r in endpoint.routes if r.role in ("previous", "shadow")]
        routes = [msgspec.structs.replace(champion, weight=100), *others]
        changed = self._route(tx, op, endpoint, generation, routes, f"canary rolled back: {reason}"[:2000], evidence)
        self._tell_canary(tx, "canary.rolled_back", ended, reason=reason[:2000], evidence=evidence)
        return changed

    def _running(self, tx: Read, name: str) -> Canary:
        found = store.open_canary(tx, name)
        if found is None:
            raise Conflict(f"{name} has no canary.", ref=_ref(name), hint="Start one: noria endpoint canary MODEL@SELECTOR.")
        if found.state != "running":
            raise Conflict(f"The canary of {name} is still loading.", ref=_ref(name), hint="Wait until it gets traffic.")
        return found

    def _handle(self, tx: Read, revision_id: str) -> str:
        found = store.revision(tx, revision_id)
        return f"{found.model}@{found.model_version}"

    def _tell_canary(self, tx: Write, kind: str, canary: Canary, **data: Any) -> None:
        tx.emit(
            kind, _ref(canary.endpoint), canary=canary.id, revision=canary.revision_id, version=canary.model_version, **data
        )

    def _route(
        self,
        tx: Write,
        op: Op,
        endpoint: Endpoint,
        generation: int,
        routes: list[Route],
        reason: str,
        evidence: dict[str, Any],
    ) -> Endpoint:
        """Move the pointer, retire what no longer runs, and say so."""
        kept = {r.revision_id for r in routes}
        gone = [r.revision_id for r in endpoint.routes if r.revision_id not in kept]
        if endpoint.pending_revision_id and endpoint.pending_revision_id not in kept:
            gone.append(RevisionId(endpoint.pending_revision_id))
        self._retire(tx, list(gone))
        model = endpoint.model
        changed = msgspec.structs.replace(
            endpoint, routes=routes, pending_revision_id="", generation=generation, updated_at_ms=op.at_ms, model=model,
            status="ready" if routes else endpoint.status,
        )  # fmt: skip
        store.put_endpoint(tx, changed)
        tx.emit(
            "endpoint.split_changed", _ref(endpoint.name), generation=generation, routes=msgspec.to_builtins(routes),
            reason=reason, evidence=evidence,
        )  # fmt: skip
        return changed

    # --- shadow, delete -----------------------------------------------------------------------------------------------

    def set_shadow(self, op: Op, name: str, model_handle: str, *, config: RevisionConfig | None = None) -> Endpoint:
        """Let a version answer a copy of all requests, to nobody; an empty handle ends it. What it says is recorded.

        Raises NotFound, Invalid, Conflict, Forbidden (role or policy).
        """
        op.require("endpoint.deploy", _ref(name))
        version, files = self._version(op, model_handle) if model_handle else (None, [])
        wanted = _check_config(config or RevisionConfig())
        with self._db.write(op) as tx:
            generation = store.next_generation(tx)
            endpoint = store.endpoint(tx, name)
            if not endpoint.routes:
                raise Conflict(f"{name} has no champion that is ready.", ref=_ref(name), hint="Deploy one and wait for it.")
            routes = [r for r in endpoint.routes if r.role != "shadow"]
            reason = "shadow ended"
            if version is not None:
                op.gate("endpoint.deploy", _ref(name), self._evidence(op, endpoint, version, name, "shadow", 0))
                made = self._add_revision(tx, op, name, version, files, wanted, "shadow")
                routes.append(Route(revision_id=made.id, model_version=version.number, weight=0, role="shadow"))
                reason = f"{version.model}@{version.number} in the shadow"
            kept = {r.revision_id for r in routes}
            self._retire(tx, [r.revision_id for r in endpoint.routes if r.revision_id not in kept])
            changed = msgspec.structs.replace(endpoint, routes=routes, generation=generation, updated_at_ms=op.at_ms)
            store.put_endpoint(tx, changed)
            tx.emit(
                "endpoint.split_changed",
                _ref(name),
                generation=generation,
                routes=msgspec.to_builtins(routes),
                reason=reason,
            )
        return changed

    def delete(self, op: Op, name: str) -> None:
        """Stop answering at `name`. What it recorded stays. Raises NotFound, Forbidden."""
        op.require("endpoint.delete", _ref(name))
        with self._db.write(op) as tx:
            generation = store.next_generation(tx)
            endpoint = store.endpoint(tx, name)
            canary = store.open_canary(tx, name)
            if canary is not None:
                self._end_canary(tx, op, endpoint, canary, generation, "the endpoint was deleted", {})
            ids = [r.revision_id for r in endpoint.routes]
            self._retire(tx, [*ids, *([endpoint.pending_revision_id] if endpoint.pending_revision_id else [])])
            store.delete_endpoint(tx, name, at_ms=op.at_ms)
            tx.emit("endpoint.deleted", _ref(name))

    # --- nodes --------------------------------------------------------------------------------------------------------

    def mark(self) -> tuple[int, str]:
        """What changes whenever `desired` does: (generation, version of the rights)."""
        with self._db.read() as tx:
            return store.generation(tx), self._access.tokens_mark(tx)

    @property
    def changes(self) -> int:
        """Grows with every fact in this process; a hint for long polls."""
        return self._db.wakeups.count

    def desired(self, op: Op, generation: int = -1) -> Desired:
        """Everything a node must run now. `generation` is what the caller knows; the caller compares. Raises Forbidden."""
        op.require("endpoint.serve")
        with self._db.read() as tx:
            current = store.generation(tx)
            version = self._access.tokens_mark(tx)
            endpoints = store.endpoints(tx, limit=10_000)
            ids = sorted(
                {r.revision_id for e in endpoints for r in e.routes} | {e.pending_revision_id for e in endpoints} - {""}
            )
            revisions, files = store.revisions_by_id(tx, list(ids)), store.files(tx, list(ids))
        auth = DesiredAuth(version=version, is_open=self._access.local_admin() is not None, predictors=self._predictors())
        return Desired(
            generation=current, auth=auth,
            endpoints=[
                DesiredEndpoint(name=e.name, model=e.model, generation=e.generation, routes=e.routes) for e in endpoints
            ],
            revisions=[
                DesiredRevision(
                    id=r.id, endpoint=r.endpoint, model=r.model, model_version=r.model_version, digest=r.digest,
                    config=r.config, files=files[r.id],
                )
                for r in revisions
            ],
        )  # fmt: skip

    def _predictors(self) -> list[Predictor]:
        found = self._access.token_scopes(("endpoint.predict", "endpoint.truth"))
        return [
            Predictor(
                token_id=t.token_id, secret_sha256=t.secret_sha256, expires_at_ms=t.expires_at_ms,
                predict=_names(t.scopes["endpoint.predict"]), truth=_names(t.scopes["endpoint.truth"]),
            )
            for t in found
        ]  # fmt: skip

    def report(self, op: Op, report: ReplicaReport) -> None:
        """Take what a node says of its workers; a pending revision that is ready gets its traffic, one that failed is told."""
        op.require("endpoint.serve")
        # One worker that is ready is enough; what another one lacks is told beside it.
        said = {r.revision_id: r for r in sorted(report.replicas, key=lambda r: r.state == "ready")}
        with self._db.write(op) as tx:
            store.put_replicas(tx, report.node, report.replicas)
            store.put_node(tx, report.node, report.generation, op.at_ms)
            news = [
                r for r in store.revisions_by_id(tx, list(said))
                if r.state == "pending" and said[r.id].state in ("ready", "failed")
            ]  # fmt: skip
            for revision in news:
                replica = said[revision.id]
                if replica.state == "ready":
                    self._ready(tx, op, revision)
                else:
                    self._failed(tx, op, revision, replica.error)

    def _ready(self, tx: Write, op: Op, revision: Revision) -> None:
        generation = store.next_generation(tx)
        store.set_state(tx, revision.id, "ready")
        tx.emit("revision.ready", Ref("revision", revision.id), endpoint=revision.endpoint, version=revision.model_version)
        endpoint = store.find_endpoint(tx, revision.endpoint)
        if endpoint is None or endpoint.pending_revision_id != revision.id:
            return
        canary = store.open_canary(tx, revision.endpoint)
        if canary is not None and canary.revision_id == revision.id:
            started = msgspec.structs.replace(canary, state="running", started_at_ms=op.at_ms, stepped_at_ms=op.at_ms)
            store.put_canary(tx, started)
            self._route(tx, op, endpoint, generation, _split(endpoint, started), f"canary at {started.weight} %", {})
            self._tell_canary(tx, "canary.started", started, weight=started.weight)
            return
        routes = _champion(endpoint, revision.id, revision.model_version)
        endpoint = msgspec.structs.replace(endpoint, model=revision.model)
        self._route(tx, op, endpoint, generation, routes, f"{revision.model}@{revision.model_version} deployed", {})

    def _failed(self, tx: Write, op: Op, revision: Revision, error: str) -> None:
        generation = store.next_generation(tx)
        text = error.strip()[-4000:] or "The worker gave no reason."
        store.set_state(tx, revision.id, "failed", text)
        tx.emit(
            "revision.failed",
            Ref("revision", revision.id),
            endpoint=revision.endpoint,
            version=revision.model_version,
            error=text,
        )
        tx.link(Ref("revision", revision.id), "serves", Ref("model_version", revision.model_version_id), protects=False)
        endpoint = store.find_endpoint(tx, revision.endpoint)
        if endpoint is None:
            return
        canary = store.open_canary(tx, revision.endpoint)
        if canary is not None and canary.revision_id == revision.id:
            reason = f"the model could not be loaded: {text.splitlines()[-1]}"
            self._end_canary(tx, op, endpoint, canary, generation, reason, {"error": text})
            return
        if revision.id in {r.revision_id for r in endpoint.routes}:  # a shadow
            routes = [r for r in endpoint.routes if r.revision_id != revision.id]
            self._route(tx, op, endpoint, generation, routes, "the shadow could not be loaded", {"error": text})
        elif endpoint.pending_revision_id == revision.id:
            store.put_endpoint(
                tx,
                msgspec.structs.replace(
                    endpoint, pending_revision_id="", generation=generation, updated_at_ms=op.at_ms,
                    status="ready" if endpoint.routes else "failed",
                ),
            )  # fmt: skip

    # --- traffic ------------------------------------------------------------------------------------------------------

    def report_traffic(self, op: Op, report: TrafficReport) -> None:
        """Take what a node counted; a running canary that fails more than its guard allows is rolled back here and now."""
        op.require("endpoint.serve")
        with self._db.write(op) as tx:
            for sample in report.samples:
                store.add_traffic(
                    tx, msgspec.structs.replace(sample, at_ms=sample.at_ms // TRAFFIC_STEP_MS * TRAFFIC_STEP_MS)
                )
            for name in sorted({s.endpoint for s in report.samples}):
                self._guard_errors(tx, op, name)
        for name in {s.endpoint for s in report.samples}:
            requests = sum(s.requests for s in report.samples if s.endpoint == name)
            errors = sum(s.errors for s in report.samples if s.endpoint == name)
            self._ticks.tick(_ref(name), {"requests": requests, "errors": errors})

    def _guard_errors(self, tx: Write, op: Op, name: str) -> None:
        """The operational guard-rail; the quality of answers is monitoring's to judge."""
        canary = store.open_canary(tx, name)
        if canary is None or canary.state != "running":
            return
        since = canary.started_at_ms // TRAFFIC_STEP_MS * TRAFFIC_STEP_MS
        requests, errors = store.answered_since(tx, canary.revision_id, since)
        of_champion, champion_errors = store.answered_since(tx, canary.champion_revision_id, since)
        if requests < ERROR_REQUESTS_MIN:
            return
        share, champion_share = errors / requests, champion_errors / of_champion if of_champion else 0.0
        if share <= champion_share + canary.guard.max_error_share:
            return
        evidence = {
            "requests": requests, "errors": errors, "champion_requests": of_champion, "champion_errors": champion_errors,
            "max_error_share": canary.guard.max_error_share,
        }  # fmt: skip
        self._back(
            tx, op, name, f"{share:.1%} of its {requests} requests failed, {champion_share:.1%} of the champion's", evidence
        )

    def traffic(self, op: Op, name: str, *, from_ms: int, to_ms: int, step_s: int) -> Traffic:
        """Requests, errors and latency per revision and step. Raises NotFound, Invalid, Forbidden."""
        op.require("endpoint.read", _ref(name))
        step_ms = max(TRAFFIC_STEP_MS, step_s * 1000)
        if to_ms <= from_ms or (to_ms - from_ms) / step_ms > STEPS_MAX:
            raise Invalid(
                f"from, to and step_s give no series: there may be 1 to {STEPS_MAX} steps.",
                where="step_s",
                hint="Ask for longer steps.",
            )
        first = from_ms // step_ms * step_ms
        with self._db.read() as tx:
            store.endpoint(tx, name)
            rows = store.traffic(tx, name, first, to_ms, limit=TRAFFIC_ROWS_MAX)
        return _series(rows, first, to_ms, step_ms)

    # --- segments -----------------------------------------------------------------------------------------------------

    def add_segment(self, op: Op, info: SegmentInfo) -> SegmentInfo | None:
        """Register a sealed file whose bytes are stored; None when it was registered before. Raises Invalid, Forbidden."""
        op.require("endpoint.serve")
        check_digest(info.digest)
        if info.rows < 1 or info.event_from_ms > info.event_to_ms:
            raise Invalid("A segment has at least one row, and its times are in order.", where="rows")
        if not self._blobs.has(info.digest):
            raise Invalid(
                f"The bytes of segment {info.digest[:12]} are not stored.", where="digest", hint="PUT the blob first."
            )
        with self._db.write(op) as tx:
            made = store.add_segment(tx, info)
            if made is None:
                return None
            tx.link(_ref(made.endpoint), "recorded", Ref("blob", made.digest), protects=True)
            data: dict[str, Any] = {
                "endpoint": made.endpoint, "rows": made.rows, "digest": made.digest, "segment": made.seq,
                "event_from_ms": made.event_from_ms, "event_to_ms": made.event_to_ms,
            }  # fmt: skip
            if made.kind == "inference":
                tx.emit("segment.written", _ref(made.endpoint), revision=made.revision_id, **data)
            else:
                tx.emit("truth.written", _ref(made.endpoint), **data)
        return made

    def segments(
        self, op: Op, endpoint: str, after_seq: int = 0, *, kind: Literal["", "inference", "truth"] = "",
        limit: int = SEGMENTS_PER_PAGE,
    ) -> list[SegmentInfo]:  # fmt: skip
        """Registered files of an endpoint after `after_seq`, oldest first. Raises Forbidden."""
        op.require("inference.read", _ref(endpoint))
        with self._db.read() as tx:
            return store.segments(tx, endpoint, after_seq=after_seq, kind=kind, limit=min(limit, SEGMENTS_PER_PAGE))


class Upkeep:
    """A reconciler: forgets traffic counts that are older than a month."""

    name = "serving.upkeep"
    every_s = 3600.0
    wake_on: frozenset[str] = frozenset()

    def __init__(self, db: Database) -> None:
        self._db = db

    def reconcile(self) -> None:
        with self._db.system_write() as tx:
            store.forget_traffic(tx, self._db.clock.now_ms() - TRAFFIC_KEPT_MS)


def check_steps(steps: list[int]) -> list[int]:
    """Raises Invalid unless the steps are percentages that grow."""
    if not steps or len(steps) > 20 or any(not 1 <= s <= 99 for s in steps) or sorted(set(steps)) != steps:
        raise Invalid("Canary steps are growing percentages between 1 and 99, such as 25, 50.", where="steps")
    return steps


def check_guard(guard: Guard) -> Guard:
    """Raises Invalid for limits that mean nothing."""
    if not 0 < guard.alpha < 1:
        raise Invalid("alpha must be between 0 and 1.", where="guard.alpha")
    if not 0 <= guard.max_error_share <= 1:
        raise Invalid("max_error_share must be between 0 and 1.", where="guard.max_error_share")
    if guard.min_labels < 0 or guard.min_duration_s < 0:
        raise Invalid("min_labels and min_duration_s cannot be negative.", where="guard")
    return guard


def _check_config(config: RevisionConfig) -> RevisionConfig:
    limits = (
        ("max_in_flight", 1, 100_000), ("max_batch_rows", 1, 100_000), ("timeout_ms", 1, 600_000), ("min_replicas", 0, 64),
        ("max_replicas", 1, 64), ("target_in_flight", 1, 100_000), ("idle_s", 1, 86_400), ("rate_per_s", 0, 1_000_000),
        ("burst", 0, 1_000_000),
    )  # fmt: skip
    for name, least, most in limits:
        if not least <= getattr(config, name) <= most:
            raise Invalid(f"{name} must be between {least} and {most}.", where=f"config.{name}")
    if config.min_replicas > config.max_replicas:
        raise Invalid("min_replicas cannot be more than max_replicas.", where="config.min_replicas")
    return config


def _ref(name: str) -> Ref:
    return Ref("endpoint", name)


def _names(scopes: list[str] | None) -> list[str] | None:
    return None if scopes is None else [s.removeprefix("endpoint:") for s in scopes if s.startswith("endpoint:")]


def _latest(version: ModelVersion) -> dict[str, Any] | None:
    if not version.evaluations:
        return None
    found: dict[str, Any] = msgspec.to_builtins(max(version.evaluations, key=lambda e: e.at_ms))
    return found


def _champion(endpoint: Endpoint, revision_id: RevisionId, model_version: int) -> list[Route]:
    """All traffic to one revision; the champion it replaces stays warm as the way back, shadows stay."""
    was = next((r for r in endpoint.routes if r.role == "champion" and r.revision_id != revision_id), None)
    shadows = [r for r in endpoint.routes if r.role == "shadow"]
    routes = [Route(revision_id=revision_id, model_version=model_version, weight=100, role="champion")]
    if was is not None:
        routes.append(msgspec.structs.replace(was, weight=0, role="previous"))
    return routes + shadows


def _split(endpoint: Endpoint, canary: Canary) -> list[Route]:
    champion = next(r for r in endpoint.routes if r.role == "champion")
    others = [r for r in endpoint.routes if r.role in ("previous", "shadow")]
    return [
        msgspec.structs.replace(champion, weight=100 - canary.weight),
        Route(revision_id=canary.revision_id, model_version=canary.model_version, weight=canary.weight, role="canary"),
        *others,
    ]


def _series(rows: list[dict[str, Any]], first: int, to_ms: int, step_ms: int) -> Traffic:
    times = list(range(first, to_ms, step_ms))
    n = len(times)
    counts: dict[str, tuple[list[int], list[int], list[dict[int, int]]]] = {}
    for row in rows:
        count, errors, latency = counts.setdefault(row["revision_id"], ([0] * n, [0] * n, [{} for _ in range(n)]))
        i = (row["step_at_ms"] - first) // step_ms
        count[i] += row["requests"]
        errors[i] += row["errors"]
        store.add_counts(latency[i], row["latency"])
    return Traffic(
        t=times,
        by_revision={
            key: TrafficSeries(
                count=count, errors=errors, p50_ms=[quantile_ms(c, 0.5) for c in latency],
                p99_ms=[quantile_ms(c, 0.99) for c in latency],
            )
            for key, (count, errors, latency) in counts.items()
        },
    )  # fmt: skip
