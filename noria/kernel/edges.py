"""The edge table: `src –kind→ dst`. Lineage, protection and garbage collection are walks over it."""

from __future__ import annotations

from msgspec import Struct

from noria.kernel.db import Read
from noria.kernel.errors import Conflict
from noria.kernel.ids import Ref

EDGES_PER_WALK = 2_000  # A page shows two hops; beyond this the caller gets the nearest ones.


class Edge(Struct, frozen=True, kw_only=True):
    """One relation. A protecting edge keeps `dst` from being deleted while it exists."""

    src: str
    kind: str
    dst: str
    protects: bool = False


def protectors(tx: Read, ref: Ref) -> list[Edge]:
    """The edges that forbid deleting `ref`."""
    return tx.all(
        Edge,
        "select src, kind, dst, protects from edge where dst = :ref and protects order by src limit 100",
        ref=str(ref),
    )


def require_unprotected(tx: Read, ref: Ref) -> None:
    """Raises Conflict naming what still needs `ref`."""
    found = protectors(tx, ref)
    if found:
        raise Conflict(
            f"{ref} is still needed: " + ", ".join(f"{e.src} ({e.kind})" for e in found[:5]) + ".",
            ref=ref,
            hint="Remove what uses it first.",
        )


def dependents(tx: Read, refs: list[str], kinds: frozenset[str], *, depth: int = 8) -> list[str]:
    """Everything that rests on `refs`: what points at them by an edge of `kinds`, what points at that, and so on."""
    frontier, seen = set(refs), set(refs)
    for _ in range(depth):
        if not frontier or len(seen) >= EDGES_PER_WALK:
            break
        found = tx.column(
            "select distinct src from edge where dst in :refs and kind in :kinds limit :limit",
            refs=sorted(frontier), kinds=sorted(kinds), limit=EDGES_PER_WALK,
        )  # fmt: skip
        frontier = {str(src) for src in found} - seen
        seen |= frontier
    return sorted(seen - set(refs))


def walk(tx: Read, ref: Ref, *, depth: int = 2) -> list[Edge]:
    """The edges within `depth` hops of `ref`, both ways, nearest first; one query per hop."""
    found: dict[tuple[str, str, str], Edge] = {}
    frontier, seen = {str(ref)}, {str(ref)}
    for _ in range(depth):
        if not frontier or len(found) >= EDGES_PER_WALK:
            break
        near = tx.all(
            Edge,
            """select src, kind, dst, protects from edge
                where src in :refs or dst in :refs
                order by at_ms desc limit :limit""",
            refs=sorted(frontier), limit=EDGES_PER_WALK,
        )  # fmt: skip
        for edge in near:
            found.setdefault((edge.src, edge.kind, edge.dst), edge)
        frontier = {end for edge in near for end in (edge.src, edge.dst)} - seen
        seen |= frontier
    return list(found.values())
