"""What nodes are told to run, and what they say of it: a revision that is loaded gets its traffic, one that cannot be is told."""

from __future__ import annotations

import msgspec

from noria.access.service import Access
from noria.kernel.blobs import BlobStore
from noria.kernel.db import Database, Write
from noria.kernel.errors import Invalid
from noria.kernel.ids import Ref
from noria.kernel.op import Op
from noria.registry.model import ModelFile, digest_of
from noria.serving import store
from noria.serving.canaries import Canaries
from noria.serving.model import (
    Conversion,
    Desired,
    DesiredAuth,
    DesiredEndpoint,
    DesiredRevision,
    Predictor,
    ReplicaReport,
    Revision,
)
from noria.serving.pointer import move, to_champion
from noria.serving.revisions import endpoint_ref


class Nodes:
    """See the module."""

    def __init__(self, db: Database, blobs: BlobStore, access: Access, canaries: Canaries) -> None:
        self._db, self._blobs, self._access, self._canaries = db, blobs, access, canaries

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
            recordings = store.recordings(tx)
            made = store.conversions(tx, [r.digest for r in revisions if r.config.engine == "onnx"])
        auth = DesiredAuth(version=version, is_open=self._access.local_admin() is not None, predictors=self._predictors())
        return Desired(
            generation=current, auth=auth,
            endpoints=[
                DesiredEndpoint(name=e.name, model=e.model, generation=e.generation, routes=e.routes) for e in endpoints
            ],
            revisions=[
                DesiredRevision(
                    id=r.id, endpoint=r.endpoint, model=r.model, model_version=r.model_version, digest=r.digest,
                    config=r.config, files=files[r.id], onnx=made.get(r.digest),
                )
                for r in revisions
            ],
            recordings=recordings,
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

    def register(self, op: Op, made: Conversion) -> Conversion:
        """Take what a node made of a model, unless another was quicker: gives what counts. Raises Invalid, NotFound, Forbidden."""
        op.require("endpoint.serve")
        files = [ModelFile(path=f.path, size_bytes=f.size_bytes, digest=f.digest) for f in made.files]
        if not files or digest_of(files) != made.made_digest:
            raise Invalid("The digest is not that of the files.", where="made_digest")
        if missing := next((f.path for f in made.files if not self._blobs.has(f.digest)), ""):
            raise Invalid(f"The bytes of {missing} are not stored.", where="files", hint="PUT the blobs first.")
        with self._db.write(op) as tx:
            revision = store.revision(tx, made.revision_id)
            if revision.digest != made.digest:
                raise Invalid("The revision serves another model.", where="digest")
            if store.add_conversion(tx, msgspec.structs.replace(made, at_ms=op.at_ms)):
                about = Ref("model_version", revision.model_version_id)
                tx.emit("model_version.converted", about, digest=made.digest, made=made.made_digest, words=made.words)
            return store.conversions(tx, [made.digest])[made.digest]

    def report(self, op: Op, report: ReplicaReport) -> None:
        """Take what a node says of its workers; a pending revision that is ready gets its traffic, one that failed is told."""
        op.require("endpoint.serve")
        # One worker that is ready is enough; what another one lacks is told beside it.
        said = {r.revision_id: r for r in sorted(report.replicas, key=lambda r: r.state == "ready")}
        with self._db.write(op) as tx:
            self._tell_ends(tx, report)
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

    def _tell_ends(self, tx: Write, report: ReplicaReport) -> None:
        """A fact for each worker that ended unasked since the node's last report."""
        ended = [r for r in report.replicas if r.fault_at_ms]
        ids = sorted({r.revision_id for r in ended})
        known = {(r.revision_id, r.seat): r.fault_at_ms for r in store.replicas(tx, list(ids)) if r.node == report.node}
        revisions = {r.id: r for r in store.revisions_by_id(tx, list(ids))}
        for replica in ended:
            revision = revisions.get(replica.revision_id)
            if revision is not None and replica.fault_at_ms > known.get((replica.revision_id, replica.seat), 0):
                tx.emit(
                    "endpoint.worker_ended", endpoint_ref(revision.endpoint), revision=revision.id,
                    version=revision.model_version, node=report.node, reason=replica.fault[:2000],
                )  # fmt: skip

    def _ready(self, tx: Write, op: Op, revision: Revision) -> None:
        generation = store.next_generation(tx)
        store.set_state(tx, revision.id, "ready")
        tx.emit("revision.ready", Ref("revision", revision.id), endpoint=revision.endpoint, version=revision.model_version)
        endpoint = store.find_endpoint(tx, revision.endpoint)
        if endpoint is None or endpoint.pending_revision_id != revision.id:
            return
        canary = store.open_canary(tx, revision.endpoint)
        if canary is not None and canary.revision_id == revision.id:
            self._canaries.begin(tx, op, endpoint, canary, generation)
            return
        routes = to_champion(endpoint, revision.id, revision.model_version)
        endpoint = msgspec.structs.replace(endpoint, model=revision.model)
        move(tx, op, endpoint, generation, routes, f"{revision.model}@{revision.model_version} deployed", {})

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
            self._canaries.end(tx, op, endpoint, canary, generation, reason, {"error": text})
            return
        if revision.id in {r.revision_id for r in endpoint.routes}:  # a shadow
            routes = [r for r in endpoint.routes if r.revision_id != revision.id]
            move(tx, op, endpoint, generation, routes, "the shadow could not be loaded", {"error": text})
        elif endpoint.pending_revision_id == revision.id:
            store.put_endpoint(
                tx,
                msgspec.structs.replace(
                    endpoint, pending_revision_id="", generation=generation, updated_at_ms=op.at_ms,
                    status="ready" if endpoint.routes else "failed",
                ),
            )  # fmt: skip


def _names(scopes: list[str] | None) -> list[str] | None:
    return None if scopes is None else [s.removeprefix("endpoint:") for s in scopes if s.startswith("endpoint:")]
