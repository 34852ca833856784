"""What a node elsewhere serves of all that is wanted: one endpoint, or one revision with all that comes to it."""

from __future__ import annotations

from msgspec.structs import replace

from noria.kernel.errors import Invalid
from noria.serving.model import Desired, DesiredEndpoint, DesiredRevision


def narrowed(desired: Desired, only: str) -> Desired:
    """`desired` for a node that is told `only`: '' (all), `endpoint`, or `endpoint:revision`. Raises Invalid.

    With a revision, whoever sends requests here has split them already: the revision answers all of them, keeps its role in the
    record, and has one worker, because what is scaled is the node.
    """
    if not only:
        return desired
    name, _, revision_id = only.partition(":")
    if not name or ":" in revision_id:
        raise Invalid(f"{only!r} is neither an endpoint nor endpoint:revision.", where="serve_only")
    endpoints = [e for e in desired.endpoints if e.name == name]
    revisions = [r for r in desired.revisions if r.endpoint == name]
    if revision_id:
        endpoints = [_whole(e, revision_id) for e in endpoints]
        revisions = [_alone(r) for r in revisions if r.id == revision_id]
    return replace(desired, endpoints=endpoints, revisions=revisions)


def _whole(endpoint: DesiredEndpoint, revision_id: str) -> DesiredEndpoint:
    return replace(endpoint, routes=[replace(r, weight=100) for r in endpoint.routes if r.revision_id == revision_id])


def _alone(revision: DesiredRevision) -> DesiredRevision:
    return replace(revision, config=replace(revision.config, min_replicas=1, max_replicas=1))
