"""Models that answer: what is wanted behind each address, as immutable revisions and a pointer that moves.

A way to production traffic is always: a new revision (pending) → a node loads and warms it → the pointer moves. Until then the
old route answers; a revision that cannot be loaded changes nothing. Every move of traffic is one transaction, passes the gate
`endpoint.deploy`, and leaves a fact with its reason. Going back never asks the gate: it must always be possible.

Nodes learn by `desired`: everything they must run, under one growing generation. Here is what is done with endpoints; their
canaries, nodes, traffic, sealed files and policies of recording have modules of their own, and are attributes of the service.
"""

from __future__ import annotations

import msgspec

from noria.access.service import Access
from noria.kernel.blobs import BlobStore
from noria.kernel.db import Database, Read, Write
from noria.kernel.errors import Conflict, Invalid, Unavailable
from noria.kernel.ids import Ref, check_name
from noria.kernel.op import Op
from noria.kernel.paging import Page, check_limit, decode_token, encode_token
from noria.kernel.ticks import Ticks
from noria.registry.model import ModelVersion
from noria.registry.service import Registry
from noria.serving import kserve, ray_config, store
from noria.serving.canaries import Canaries, refuse_canary
from noria.serving.model import Endpoint, EndpointDetail, Exported, Revision, RevisionConfig, Route
from noria.serving.nodes import Nodes
from noria.serving.recordings import Recordings
from noria.serving.revisions import Revisions, check_config, endpoint_ref, retire
from noria.serving.sealed import Sealed
from noria.serving.traffic import TrafficCounts

WAIT_S = 60.0  # how long deploy(wait=True) waits for a node
WAIT_TURN_S = 0.5
WAIT_FLIP_S = 0.02  # the model is loaded; the node follows the new route within a poll


class Serving:
    """The service. See the module."""

    def __init__(
        self, db: Database, blobs: BlobStore, ticks: Ticks, access: Access, registry: Registry, *, gateway_url: str = "",
        grpc_address: str = "",
    ) -> None:  # fmt: skip
        self._db = db
        self.revisions = Revisions(registry)
        self.canaries = Canaries(db, self.revisions)
        self.nodes = Nodes(db, blobs, access, self.canaries)
        self.traffic = TrafficCounts(db, ticks, self.canaries)
        self.segments = Sealed(db, blobs)
        self.recordings = Recordings(db)
        self._gateway_url, self._grpc_address = gateway_url, grpc_address

    # --- read ---------------------------------------------------------------------------------------------------------

    def digests_in_use(self, tx: Read, digests: list[str]) -> set[str]:
        """Those of `digests` that a revision's files or a segment of answers need; for the collector of unused blobs."""
        return store.digests_in_use(tx, digests)

    def endpoint(self, op: Op, name: str) -> Endpoint:
        """Raises NotFound, Forbidden."""
        op.require("endpoint.read", endpoint_ref(name))
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
        op.require("endpoint.read", endpoint_ref(name))
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
        op.require("endpoint.read", endpoint_ref(found.endpoint))
        return found

    def exported(
        self, op: Op, name: str, form: str, *, image: str, url: str, namespace: str, secret: str, hosts: list[str]
    ) -> Exported:
        """An endpoint as KServe's objects or as a configuration of Ray Serve. Raises NotFound, Invalid, Conflict, Forbidden."""
        detail = self.detail(op, name)
        if not url:
            raise Invalid(
                "Where do nodes elsewhere reach this server?", where="url", hint="Give --url https://noria.example.org."
            )
        if form == "ray":
            return ray_config.configuration(detail, url=url, hosts=hosts)
        if form != "kserve":
            raise Invalid(f"{form!r} is no format.", where="format", hint="kserve or ray.")
        if not image:
            raise Invalid(
                "Which container image?", where="image",
                hint="Give --image of one that has Noria and what the models need; docs/guides/serve-elsewhere.md makes one.",
            )  # fmt: skip
        return kserve.manifests(detail, image=image, url=url, namespace=namespace, secret=secret, hosts=hosts)

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
        op.require("endpoint.deploy", endpoint_ref(name))
        version, files = self.revisions.read(op, model_handle)
        wanted = check_config(config or RevisionConfig())
        with self._db.write(op) as tx:
            generation = store.next_generation(tx)
            endpoint = store.find_endpoint(tx, name)
            refuse_canary(tx, name)
            revision = self._same(tx, endpoint, version, wanted)
            if revision is None:
                op.gate(
                    "endpoint.deploy",
                    endpoint_ref(name),
                    self.revisions.evidence(op, endpoint, version, name, "champion", 100),
                )
                if endpoint is None:
                    endpoint = self._create(tx, op, name, version.model)
                revision = self.revisions.add(tx, op, name, version, files, wanted, "champion")
                if endpoint.pending_revision_id:  # a newer wish replaces one that is still loading
                    retire(tx, [endpoint.pending_revision_id])
                changed = msgspec.structs.replace(
                    endpoint, pending_revision_id=revision.id, generation=generation, updated_at_ms=op.at_ms,
                    status="ready" if endpoint.routes else "pending",
                )  # fmt: skip
                store.put_endpoint(tx, changed)
        return self._wait(revision.id) if wait else revision

    def _same(self, tx: Read, endpoint: Endpoint | None, version: ModelVersion, config: RevisionConfig) -> Revision | None:
        """The revision that already is, or is about to be, the champion and is what is wanted."""
        if endpoint is None:
            return None
        current = endpoint.pending_revision_id or next((r.revision_id for r in store.routes_of(endpoint, "champion")), "")
        if not current:
            return None
        found = store.revision(tx, current)
        return found if found.model_version_id == version.id and found.config == config else None

    def _create(self, tx: Write, op: Op, name: str, model: str) -> Endpoint:
        made = Endpoint(name=name, model=model, generation=0, routes=[], created_at_ms=op.at_ms, updated_at_ms=op.at_ms)
        store.put_endpoint(tx, made)
        tx.emit("endpoint.created", endpoint_ref(name), model=model)
        return made

    def _wait(self, revision_id: str) -> Revision:
        """The revision once a node runs it. Raises Invalid with the worker's words, or Unavailable."""
        seen, turns, told = -1, 0, ""
        while turns < WAIT_S / WAIT_TURN_S:
            turns += 1
            with self._db.read() as tx:
                doing = next((r.doing for r in store.replicas(tx, [revision_id])), "")
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
            if doing != told:  # it goes on, such as with the packages of an environment
                turns, told = 0, doing
            seen = self._db.wakeups.wait(seen, WAIT_TURN_S if found.state == "pending" else WAIT_FLIP_S)
        raise Unavailable(
            f"No serving node has loaded {found.model}@{found.model_version} within {WAIT_S:.0f} s.", retry_after_s=10,
            hint="Is a node running? noria server starts one.",
        )  # fmt: skip

    # --- shadow, delete -----------------------------------------------------------------------------------------------

    def set_shadow(self, op: Op, name: str, model_handle: str, *, config: RevisionConfig | None = None) -> Endpoint:
        """Let a version answer a copy of all requests, to nobody; an empty handle ends it. What it says is recorded.

        Raises NotFound, Invalid, Conflict, Forbidden (role or policy).
        """
        op.require("endpoint.deploy", endpoint_ref(name))
        version, files = self.revisions.read(op, model_handle) if model_handle else (None, [])
        wanted = check_config(config or RevisionConfig())
        with self._db.write(op) as tx:
            generation = store.next_generation(tx)
            endpoint = store.endpoint(tx, name)
            if not endpoint.routes:
                raise Conflict(
                    f"{name} has no champion that is ready.", ref=endpoint_ref(name), hint="Deploy one and wait for it."
                )
            routes = [r for r in endpoint.routes if r.role != "shadow"]
            reason = "shadow ended"
            if version is not None:
                op.gate(
                    "endpoint.deploy", endpoint_ref(name), self.revisions.evidence(op, endpoint, version, name, "shadow", 0)
                )
                made = self.revisions.add(tx, op, name, version, files, wanted, "shadow")
                routes.append(Route(revision_id=made.id, model_version=version.number, weight=0, role="shadow"))
                reason = f"{version.model}@{version.number} in the shadow"
            kept = {r.revision_id for r in routes}
            retire(tx, [r.revision_id for r in endpoint.routes if r.revision_id not in kept])
            changed = msgspec.structs.replace(endpoint, routes=routes, generation=generation, updated_at_ms=op.at_ms)
            store.put_endpoint(tx, changed)
            tx.emit(
                "endpoint.split_changed",
                endpoint_ref(name),
                generation=generation,
                routes=msgspec.to_builtins(routes),
                reason=reason,
            )
        return changed

    def delete(self, op: Op, name: str) -> None:
        """Stop answering at `name`. What it recorded stays. Raises NotFound, Forbidden."""
        op.require("endpoint.delete", endpoint_ref(name))
        with self._db.write(op) as tx:
            generation = store.next_generation(tx)
            endpoint = store.endpoint(tx, name)
            canary = store.open_canary(tx, name)
            if canary is not None:
                self.canaries.end(tx, op, endpoint, canary, generation, "the endpoint was deleted", {})
            ids = [r.revision_id for r in endpoint.routes]
            retire(tx, [*ids, *([endpoint.pending_revision_id] if endpoint.pending_revision_id else [])])
            store.delete_endpoint(tx, name, at_ms=op.at_ms)
            tx.emit("endpoint.deleted", endpoint_ref(name))
