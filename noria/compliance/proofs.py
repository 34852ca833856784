"""What checks ask of other slices, as Noria itself: signatures, columns of data, cards, the state of the audit log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from noria.datasets.service import Datasets
from noria.kernel.errors import NoriaError
from noria.kernel.op import Ops
from noria.registry.service import Registry

VALUES_LOOKED_AT = 20  # the most frequent values of a column


class StandingProofs:
    """See `look.Proofs`. `statement` and `audit` are governance's, `metric_kind` is monitoring's."""

    def __init__(
        self,
        ops: Ops,
        datasets: Datasets,
        registry: Registry,
        *,
        statement: Callable[[str], tuple[dict[str, Any] | None, str]],
        audit: Callable[[], tuple[bool, str, int | None]],
        metric_kind: Callable[[str], str],
    ) -> None:
        self._ops, self._datasets, self._registry = ops, datasets, registry
        self.provenance, self.audit, self.metric_kind = statement, audit, metric_kind

    def columns(self, dataset_version: str) -> list[tuple[str, list[str]]] | None:
        """Columns with their most frequent values; None when a table is not read yet, or there is none."""
        try:
            found = self._datasets.profile(self._ops.system("compliance"), f"dataset_version:{dataset_version}")
        except NoriaError:
            return None  # gone, or of a store that is away: the check says that it cannot be told
        ready = [t for t in found.tables if t.state == "ready"]
        if not ready or found.state != "ready":
            return None
        return [(c.name, [str(v.value) for v in c.top[:VALUES_LOOKED_AT]]) for t in ready for c in t.columns]

    def card(self, version_id: str) -> dict[str, str]:
        card = self._registry.cards.read(self._ops.system("compliance"), f"model_version:{version_id}")
        return {s.section: s.content for s in card.sections if s.content}
