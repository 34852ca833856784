"""The map of what was made from what: around a thing, what would feel its change, and the same in OpenLineage's words."""

from __future__ import annotations

from typing import Any, Literal

from noria import __version__
from noria.config import Config
from noria.http.route import Routes, get
from noria.kernel.db import Database
from noria.kernel.errors import Invalid
from noria.kernel.ids import Ref
from noria.kernel.lineage import Lineage, Map
from noria.kernel.op import Op
from noria.kernel.openlineage import events_of

DEPTH_MAX = 6


def routes(config: Config, db: Database) -> Routes:
    def around(op: Op, ref: str, depth: int, way: str, from_ms: int | None, to_ms: int | None) -> Lineage:
        op.asked.add("lineage.read")
        if not 1 <= depth <= DEPTH_MAX:
            raise Invalid(f"depth must be between 1 and {DEPTH_MAX}.", where="depth")
        if from_ms is not None and to_ms is not None and from_ms >= to_ms:
            raise Invalid("from_ms must be before to_ms.", where="from_ms")
        with db.read() as tx:
            return Map(tx, op).around(Ref.parse(ref), depth=depth, way=way, from_ms=from_ms, to_ms=to_ms)

    @get("/api/v1/lineage/{ref:str}", action="lineage.read")
    def read_lineage(
        op: Op, ref: str, depth: int = 2, way: Literal["both", "up", "down"] = "both", from_ms: int | None = None,
        to_ms: int | None = None,
    ) -> Lineage:  # fmt: skip
        """What a thing was made from (up) and what was made from it (down), within `depth` hops; of edges drawn in that time."""
        return around(op, ref, depth, way, from_ms, to_ms)

    @get("/api/v1/lineage/{ref:str}/impact", action="lineage.read")
    def read_impact(op: Op, ref: str) -> Lineage:
        """What would feel a change of a thing: versions, endpoints, monitors, reports; those with traffic are marked live."""
        op.asked.add("lineage.read")
        with db.read() as tx:
            return Map(tx, op).felt(Ref.parse(ref))

    @get("/api/v1/lineage/{ref:str}/openlineage", action="lineage.read")
    def read_openlineage(
        op: Op, ref: str, depth: int = 4, way: Literal["both", "up", "down"] = "both", from_ms: int | None = None,
        to_ms: int | None = None,
    ) -> list[dict[str, Any]]:  # fmt: skip
        """The same as events of OpenLineage: runs with what they read and made, endpoints and reports as jobs."""
        found = around(op, ref, depth, way, from_ms, to_ms)
        return events_of(found, namespace=config.browser_url, version=__version__, at_ms=op.at_ms)

    return [read_lineage, read_impact, read_openlineage]
