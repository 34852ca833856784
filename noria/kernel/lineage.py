"""What was made from what, as somebody may see it: walks over the edge table that know which way things flow.

Each slice says beside its tables what its refs are called and what rights on them are asked of (`station`). A walk never goes through
what the caller may not see, so that nothing is told by what lies behind it. A ref of a kind that nobody declared – bytes, a hold – is
seen by those alone who may read all lineage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from msgspec import Struct

from noria.kernel.db import Read
from noria.kernel.edges import Edge
from noria.kernel.errors import NotFound
from noria.kernel.ids import Ref
from noria.kernel.op import Op

EDGES_MAX = 2_000  # of one walk; the caller gets the nearest ones
# Edges from what was made, or shows, to what it was made from: things flow from their `dst` to their `src`.
UPSTREAM_IS_DST = frozenset({
    "built_by", "made_by", "scored_by", "read", "trained_on", "serves", "evaluated_on", "has", "watches", "raised_by", "about", "run_of",
    "turn_of", "names", "shows", "reproduces",
})  # fmt: skip
# Those by which a change is felt: being measured on data, or made again, changes nothing.
FELT = UPSTREAM_IS_DST - {"evaluated_on", "reproduces", "turn_of", "raised_by", "about"}


class Node(Struct, frozen=True, kw_only=True):
    """A thing on the map. `of`: the thing that rights on it are asked of; a version's model. `more`: neighbours that are not shown."""

    ref: str
    kind: str
    label: str
    of: str = ""
    state: str = ""
    at_ms: int | None = None
    is_live: bool = False
    more: int = 0


class Lineage(Struct, frozen=True, kw_only=True):
    """What surrounds one thing. `is_cut`: there is more than a walk shows."""

    nodes: list[Node]
    edges: list[Edge]
    is_cut: bool = False


class Station(Struct, frozen=True, kw_only=True):
    """How refs of a kind are read. `query` gives `ref`, `scope`, `label`, `state` and `at_ms` of those with `:ids`; `inside` the ids of
    what belongs to the thing named `:name`, such as the versions of a model; `live` the refs that a row says are live.
    """

    kind: str
    action: str
    query: str
    inside: str = ""
    live: Callable[[dict[str, Any]], list[str]] | None = None


_STATIONS: dict[str, Station] = {}


def station(made: Station) -> None:
    """Declare what refs of a kind are called, and what rights on them are asked of."""
    assert _STATIONS.get(made.kind, made).query == made.query, f"stations of kind {made.kind} are declared twice"
    _STATIONS[made.kind] = made


class Map:
    """Lineage as one caller may see it, in one transaction."""

    def __init__(self, tx: Read, op: Op) -> None:
        self._tx, self._op = tx, op
        self._sees_all = op.visible("lineage.read") is None
        self._known: dict[str, Node | None] = {}
        self._live: set[str] = set()

    def around(
        self, ref: Ref, *, depth: int, way: str = "both", from_ms: int | None = None, to_ms: int | None = None
    ) -> Lineage:
        """What is within `depth` hops, up, down or both; of edges drawn in that time only. Raises NotFound."""
        start = self._start(ref)
        found, frontier, seen, is_cut = dict[tuple[str, str, str], Edge](), {start.ref}, {start.ref}, False
        for _ in range(depth):
            near = self._near(frontier, way, from_ms, to_ms)
            is_cut = is_cut or len(found) + len(near) > EDGES_MAX
            for edge in near[: EDGES_MAX - len(found)]:
                found[(edge.src, edge.kind, edge.dst)] = edge
            frontier = {end for edge in near for end in (edge.src, edge.dst)} - seen
            seen |= frontier
            if not frontier or is_cut:
                break
        shown = {start.ref} | {end for edge in found.values() for end in (edge.src, edge.dst)}
        more = self._beyond(shown, frontier, found, from_ms, to_ms)
        return Lineage(nodes=self._nodes(shown, more), edges=list(found.values()), is_cut=is_cut)

    def felt(self, ref: Ref, *, depth: int = 12) -> Lineage:
        """What would feel a change of a thing: all that rests on it, and what shows or watches that. Raises NotFound."""
        start = self._start(ref)
        found, seen = dict[tuple[str, str, str], Edge](), {start.ref}
        frontier = {start.ref} | self._versions(start)
        seen |= frontier
        is_cut = False
        for _ in range(depth):
            # A report shows a model, not one version of it: whoever shows the model feels what becomes of its versions.
            named = {
                n.of for r in frontier if (n := self._known.get(r)) and n.of and n.of != r and n.kind.endswith("_version")
            }
            asked = frontier | {n for n in named - seen if self._sees({n})}
            near = [
                e
                for e in self._near(asked, "down", None, None)
                if e.kind in FELT and (e.dst not in named or e.kind == "shows")
            ]
            is_cut = is_cut or len(found) + len(near) > EDGES_MAX
            for edge in near[: EDGES_MAX - len(found)]:
                found[(edge.src, edge.kind, edge.dst)] = edge
            frontier = {edge.src for edge in near} - seen
            seen |= frontier
            if not frontier or is_cut:
                break
        shown = {start.ref} | {end for edge in found.values() for end in (edge.src, edge.dst)}
        return Lineage(nodes=self._nodes(shown, {}), edges=list(found.values()), is_cut=is_cut)

    def _start(self, ref: Ref) -> Node:
        if not self._sees_all and self._op.visible("lineage.read") == []:
            self._op.require("lineage.read")
        self._sees({str(ref)})
        found = self._known.get(str(ref))
        if found is None:
            raise NotFound(f"There is no {ref.kind[:40]} {ref.id[:80]!r}.", hint="It is gone, or not yours to know.")
        return found

    def _versions(self, start: Node) -> set[str]:
        """The versions of a model or a dataset: a thing that itself has no edges down."""
        kind = f"{start.kind}_version"
        versions = _STATIONS.get(kind)
        if versions is None or not versions.inside:
            return set()
        ids = self._tx.column(versions.inside, name=start.ref.partition(":")[2])
        return self._sees({f"{kind}:{found}" for found in ids})

    def _near(self, refs: set[str], way: str, from_ms: int | None, to_ms: int | None) -> list[Edge]:
        """The edges of `refs` whose other ends may be seen, the newest first."""
        if not refs:
            return []
        times = ("and at_ms >= :from_ms " if from_ms is not None else "") + (
            "and at_ms < :to_ms" if to_ms is not None else ""
        )
        given = {k: v for k, v in (("from_ms", from_ms), ("to_ms", to_ms)) if v is not None}
        edges = self._tx.all(
            Edge,
            f"""select src, kind, dst, protects from edge
                 where (src in :refs or dst in :refs) {times}
                 order by at_ms desc, src, kind, dst limit :limit""",
            refs=sorted(refs), limit=EDGES_MAX + 1, **given,
        )  # fmt: skip
        edges = [e for e in edges if _leads(e, refs, way)]
        seen = self._sees({end for edge in edges for end in (edge.src, edge.dst)})
        return [e for e in edges if e.src in seen and e.dst in seen]

    def _sees(self, refs: set[str]) -> set[str]:
        """Those of `refs` that the caller may see; what they are called is kept."""
        by_kind: dict[str, list[str]] = {}
        for ref in sorted(refs - set(self._known)):
            by_kind.setdefault(ref.partition(":")[0], []).append(ref)
        for kind, asked in by_kind.items():
            made, rows = _STATIONS.get(kind), list[dict[str, Any]]()
            if made is not None:
                rows = self._tx.rows(made.query, ids=[ref.partition(":")[2] for ref in asked])
            for row in rows:
                may = self._sees_all or (made is not None and self._op.can(made.action, Ref.parse(row["scope"])))
                self._known[row["ref"]] = _node(kind, row) if may else None
                if may and made is not None and made.live is not None:
                    self._live |= set(made.live(row))
            for ref in asked:
                bare = Node(ref=ref, kind=kind, label=ref.partition(":")[2]) if self._sees_all else None
                self._known.setdefault(ref, bare)
        return {ref for ref in refs if self._known[ref] is not None}

    def _beyond(
        self, shown: set[str], edge_of_map: set[str], found: dict[tuple[str, str, str], Edge], from_ms: int | None, to_ms: int | None
    ) -> dict[str, int]:  # fmt: skip
        """How many neighbours that are not shown each outermost thing has, of those that may be seen."""
        more: dict[str, set[str]] = {}
        for edge in self._near(edge_of_map & shown, "both", from_ms, to_ms):
            if (edge.src, edge.kind, edge.dst) not in found:
                for here, there in ((edge.src, edge.dst), (edge.dst, edge.src)):
                    if here in edge_of_map and there not in shown:
                        more.setdefault(here, set()).add(there)
        return {ref: len(ends) for ref, ends in more.items()}

    def _nodes(self, refs: Iterable[str], more: dict[str, int]) -> list[Node]:
        out = []
        for ref in sorted(refs):
            known = self._known[ref]
            assert known is not None, f"{ref} is on the map and may not be seen"
            out.append(
                Node(
                    ref=known.ref, kind=known.kind, label=known.label, of=known.of, state=known.state, at_ms=known.at_ms,
                    is_live=ref in self._live, more=more.get(ref, 0),
                )
            )  # fmt: skip
        return out


def _node(kind: str, row: dict[str, Any]) -> Node:
    return Node(
        ref=row["ref"], kind=kind, label=row["label"] or row["ref"].partition(":")[2], of=row["scope"], state=row["state"] or "",
        at_ms=row["at_ms"],
    )  # fmt: skip


def _leads(edge: Edge, refs: set[str], way: str) -> bool:
    """Does the edge lead from `refs` up, down, or whichever way was asked?"""
    upstream, downstream = (edge.dst, edge.src) if edge.kind in UPSTREAM_IS_DST else (edge.src, edge.dst)
    return way == "both" or (downstream if way == "up" else upstream) in refs
