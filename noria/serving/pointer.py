"""The pointer that moves: an endpoint's routes, changed in one transaction that retires what no longer runs and leaves a fact."""

from __future__ import annotations

from typing import Any

import msgspec

from noria.kernel.db import Write
from noria.kernel.ids import RevisionId
from noria.kernel.op import Op
from noria.serving import store
from noria.serving.model import Canary, Endpoint, Route
from noria.serving.revisions import endpoint_ref, retire


def move(
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
    retire(tx, list(gone))
    model = endpoint.model
    changed = msgspec.structs.replace(
        endpoint, routes=routes, pending_revision_id="", generation=generation, updated_at_ms=op.at_ms, model=model,
        status="ready" if routes else endpoint.status,
    )  # fmt: skip
    store.put_endpoint(tx, changed)
    tx.emit(
        "endpoint.split_changed", endpoint_ref(endpoint.name), generation=generation, routes=msgspec.to_builtins(routes),
        reason=reason, evidence=evidence,
    )  # fmt: skip
    return changed


def to_champion(endpoint: Endpoint, revision_id: RevisionId, model_version: int) -> list[Route]:
    """All traffic to one revision; the champion it replaces stays warm as the way back, shadows stay."""
    was = next((r for r in endpoint.routes if r.role == "champion" and r.revision_id != revision_id), None)
    shadows = [r for r in endpoint.routes if r.role == "shadow"]
    routes = [Route(revision_id=revision_id, model_version=model_version, weight=100, role="champion")]
    if was is not None:
        routes.append(msgspec.structs.replace(was, weight=0, role="previous"))
    return routes + shadows


def with_canary(endpoint: Endpoint, canary: Canary) -> list[Route]:
    """The canary has its share, the champion the rest."""
    champion = next(r for r in endpoint.routes if r.role == "champion")
    others = [r for r in endpoint.routes if r.role in ("previous", "shadow")]
    return [
        msgspec.structs.replace(champion, weight=100 - canary.weight),
        Route(revision_id=canary.revision_id, model_version=canary.model_version, weight=canary.weight, role="canary"),
        *others,
    ]
