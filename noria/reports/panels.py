"""What a panel shows, read with the rights of whoever looks. Each answer holds what its panel draws and nothing beside it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec

from noria.datasets.service import Datasets
from noria.kernel.errors import Forbidden, NotFound
from noria.kernel.ids import Ref
from noria.kernel.op import Op
from noria.kernel.preview import render_markdown
from noria.monitoring.service import Monitoring
from noria.registry.service import Registry
from noria.reports.model import (
    SPANS_S,
    AnyBlock,
    CurvesBlock,
    DatasetBlock,
    EndpointBlock,
    ModelBlock,
    MonitorBlock,
    Panel,
    RunsBlock,
    TextBlock,
)
from noria.serving.service import Serving
from noria.tracking.model import Experiment
from noria.tracking.service import Tracking

BUCKETS = 300  # of a curve: a report draws small
WINDOWS = 60
TABLES, COLUMNS, FILES = 2, 40, 50  # of a dataset
_RUN_COLUMNS = ["name", "status", "started_at_ms"]


class Panels:
    """Reads panels."""

    def __init__(
        self, tracking: Tracking, registry: Registry, datasets: Datasets, monitoring: Monitoring, serving: Serving
    ) -> None:
        self._tracking, self._registry, self._datasets = tracking, registry, datasets
        self._monitoring, self._serving = monitoring, serving

    def read(self, op: Op, block: AnyBlock) -> Panel:
        """What the panel shows now. Raises NotFound: what is named is not there, or not for these eyes; Invalid (a filter)."""
        readers: dict[type, Callable[[Op, Any], dict[str, Any]]] = {
            TextBlock: self._text, CurvesBlock: self._curves, RunsBlock: self._runs, ModelBlock: self._model,
            DatasetBlock: self._dataset, MonitorBlock: self._monitor, EndpointBlock: self._endpoint,
        }  # fmt: skip
        try:
            data = readers[type(block)](op, block)
        except Forbidden as hidden:
            raise NotFound("This panel shows something that is not there, or that you may not see.") from hidden
        return Panel(kind=block.__struct_config__.tag, at_ms=op.at_ms, data=data)  # type: ignore[arg-type]

    def _text(self, op: Op, block: TextBlock) -> dict[str, Any]:
        return {"html": render_markdown(block.text)}

    def _curves(self, op: Op, block: CurvesBlock) -> dict[str, Any]:
        ids = block.runs or self._found(op, block, ["name"], block.limit).ids
        named = {run_id: self._tracking.run(op, run_id) for run_id in ids}
        series = self._tracking.compare(op, ids, block.metrics, buckets=BUCKETS) if ids else {}
        return {
            "runs": [{"id": r.id, "name": r.name or r.id[-8:], "status": r.status} for r in named.values()],
            "series": msgspec.to_builtins(series), "experiment": self._experiment_name(op, block.experiment),
        }  # fmt: skip

    def _runs(self, op: Op, block: RunsBlock) -> dict[str, Any]:
        found = self._found(op, block, [*_RUN_COLUMNS, *block.columns], block.limit)
        about = {"experiment": self._experiment_name(op, block.experiment)}
        return about | {"ids": found.ids, "columns": found.columns, "has_more": found.next is not None}

    def _found(self, op: Op, block: CurvesBlock | RunsBlock, columns: list[str], limit: int) -> Any:
        if op.visible("run.read") == []:
            op.require("run.read")
        return self._tracking.run_columns(
            op, experiments=[self._experiment(op, block.experiment).id] if block.experiment else None, filter=block.filter,
            order_by=[block.order_by] if block.order_by else None, columns=list(dict.fromkeys(columns)), limit=limit,
        )  # fmt: skip

    def _experiment(self, op: Op, text: str) -> Experiment:
        is_id = text == "0" or re.fullmatch(r"[0-9a-f]{32}", text)
        return self._tracking.experiment(op, text) if is_id else self._tracking.experiment_by_name(op, text)

    def _experiment_name(self, op: Op, text: str) -> str | None:
        return self._experiment(op, text).name if text else None

    def _model(self, op: Op, block: ModelBlock) -> dict[str, Any]:
        version = self._registry.version(op, f"{block.model}@{block.version}")
        card = self._registry.cards.read(op, f"model_version:{version.id}")
        return {
            "model": version.model, "number": version.number, "aliases": version.aliases, "created_at_ms": version.created_at_ms,
            "description": version.description, "size_bytes": version.size_bytes,
            "evaluations": [
                {"split": e.split, "data": self._data_name(op, e.dataset_version), "metrics": _numbers(e.metrics)}
                for e in version.evaluations
            ],
            "sections": [{"title": s.title, "html": render_markdown(s.content)} for s in card.sections if s.content.strip()],
        }  # fmt: skip

    def _data_name(self, op: Op, version_id: str) -> str | None:
        """What a version of data is called; None when it is gone, or not for these eyes."""
        try:
            found = self._datasets.version(op, f"dataset_version:{version_id}")
        except (NotFound, Forbidden):
            return None
        return f"{found.dataset}@{found.number}"

    def _dataset(self, op: Op, block: DatasetBlock) -> dict[str, Any]:
        version = self._datasets.version(op, f"{block.dataset}@{block.version}")
        data: dict[str, Any] = {
            "dataset": version.dataset, "number": version.number, "created_at_ms": version.created_at_ms,
            "message": version.message, "rows_count": version.rows_count, "files_count": version.files_count,
            "size_bytes": version.size_bytes,
        }  # fmt: skip
        if not block.against:
            tables = self._datasets.profile(op, version).tables
            shown = [msgspec.structs.replace(t, columns=[_small(c) for c in t.columns[:COLUMNS]]) for t in tables[:TABLES]]
            return data | {"tables": msgspec.to_builtins(shown), "tables_count": len(tables)}
        before = self._datasets.version(op, f"{block.dataset}@{block.against}")
        diff = self._datasets.diff(op, before, version)
        changes = [(c.path, what) for what in ("added", "removed", "changed") for c in getattr(diff, what)]
        return data | {
            "against": before.number, "added_count": diff.added_count, "removed_count": diff.removed_count,
            "changed_count": diff.changed_count, "files": [{"path": p, "change": w} for p, w in changes[:FILES]],
            "tables": msgspec.to_builtins((diff.tables or [])[:TABLES]),
        }  # fmt: skip

    def _monitor(self, op: Op, block: MonitorBlock) -> dict[str, Any]:
        monitor = self._monitoring.monitor(op, block.monitor)
        windows = self._monitoring.windows(op, block.monitor, limit=WINDOWS).items
        return {
            "monitor": monitor.name, "endpoint": monitor.endpoint, "state": monitor.state, "metric": monitor.spec.metric,
            "limit": monitor.spec.limit, "severity": monitor.spec.severity, "window_s": monitor.spec.window_s,
            "judged_until_ms": monitor.judged_until_ms, "description": monitor.spec.description,
            "windows": [
                {"end_ms": w.end_ms, "value": w.value, "low": w.low, "high": w.high, "count": w.count, "verdict": w.verdict}
                for w in reversed(windows)
            ],
        }  # fmt: skip

    def _endpoint(self, op: Op, block: EndpointBlock) -> dict[str, Any]:
        endpoint = self._serving.endpoint(op, block.endpoint)
        span_s, step_s = SPANS_S[block.span]
        to_ms = op.at_ms // (step_s * 1000) * step_s * 1000 + step_s * 1000
        traffic = self._serving.traffic.series(op, endpoint.name, from_ms=to_ms - span_s * 1000, to_ms=to_ms, step_s=step_s)
        versions = {r.revision_id: r.model_version for r in endpoint.routes}
        return {
            "endpoint": endpoint.name, "model": endpoint.model, "status": endpoint.status, "span": block.span,
            "routes": [{"version": r.model_version, "weight": r.weight, "role": r.role} for r in endpoint.routes],
            "t": traffic.t,
            "by_version": [
                {"version": versions.get(r), **msgspec.to_builtins(s)} for r, s in traffic.by_revision.items()  # type: ignore[call-overload]
            ],
        }  # fmt: skip


def _numbers(metrics: dict[str, float]) -> dict[str, Any]:
    """Numbers as JSON can say them."""
    return {k: v if v == v and abs(v) != float("inf") else str(v) for k, v in metrics.items()}


def _small(column: Any) -> Any:
    """A column without what a panel does not draw."""
    return msgspec.structs.replace(column, quantiles=[])


def require_panel(blocks: list[AnyBlock], block_id: str) -> AnyBlock:
    """The block of this id. Raises NotFound."""
    for block in blocks:
        if block.id == block_id:
            return block
    raise NotFound(f"The report has no block {block_id[:40]!r}.", hint="Read the report again; it may have changed.")


def visible_refs(op: Op, refs: list[tuple[Ref, str]]) -> list[Ref]:
    """Those of `refs` that may be seen, each by its action."""
    return [ref for ref, action in refs if op.can(action, ref)]
