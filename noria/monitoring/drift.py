"""How one window differs from the reference: a matrix of columns and statistics, the columns together, and what it does to the loss."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from noria.monitoring.baselines import Reference
from noria.monitoring.comparison import OUTPUTS, chance, distance, known, quality
from noria.monitoring.losses import loss_of
from noria.monitoring.metrics import METRICS
from noria.monitoring.reconstruction import Reconstruction, reconstruct
from noria.monitoring.rows import Rows
from noria.monitoring.significance import benjamini_hochberg, chi2_test
from noria.monitoring.sketches import REST, Aligned, Profile, Sketch, align, bins_of, quantile_cuts

Floats = NDArray[np.float64]
PSI_MIN = 0.02  # what chance does not explain but is this small moves no decision
LOSS_BINS = 10
LOSS_ROWS_MIN = 50  # labelled rows; fewer say nothing about where the loss is


class ColumnDrift(Struct, frozen=True, kw_only=True):
    """One column now and in the reference. None where a statistic is not defined."""

    column: str
    kind: str  # number, word
    is_drifted: bool
    count: int
    reference_count: int
    psi: float | None = None
    js: float | None = None
    ks: float | None = None
    wasserstein: float | None = None
    l_infinity: float | None = None
    chi2: float | None = None
    p_value: float | None = None
    q_value: float | None = None
    mean: float | None = None
    reference_mean: float | None = None
    null_share: float | None = None
    reference_null_share: float | None = None
    new_categories: float | None = None
    out_of_range: float | None = None
    type_changes: float | None = None
    explains: float | None = None  # the change of the mean loss that this column's shift alone would make


class DriftWindow(Struct, frozen=True, kw_only=True):
    """The matrix of one window, for one model version or for the whole endpoint (`group` empty)."""

    group: str
    model_version: str
    reference: str
    start_ms: int
    end_ms: int
    count: int
    reference_count: int
    drifted: list[str]
    columns: list[ColumnDrift]  # the most drifted first
    together: Reconstruction | None = None
    loss: str = ""  # which loss `explains` speaks of
    note: str = ""


class Drift(Struct, frozen=True, kw_only=True):
    """Windows of event time, the latest first."""

    items: list[DriftWindow]
    next: str | None = None
    watermark_ms: int | None = None


def matrix(profile: Profile, reference: Reference, *, alpha: float, psi_min: float) -> list[ColumnDrift]:
    """Every column of the reference that the window has. Drifted: not chance (false discovery rate `alpha`), and PSI ≥ psi_min."""
    names = [n for n in reference.names() if n in profile.columns and not _is_empty(n, profile, reference)]
    found = [_column(name, profile.columns[name], reference) for name in names]
    adjusted = benjamini_hochberg([c.p_value if c.p_value is not None else 1.0 for c in found])
    judged = [
        msgspec.structs.replace(c, q_value=q, is_drifted=q <= alpha and (c.psi or 0.0) >= psi_min)
        for c, q in zip(found, adjusted, strict=True)
    ]
    return sorted(judged, key=lambda c: (not c.is_drifted, -(c.psi or 0.0), c.column))


def _is_empty(name: str, profile: Profile, reference: Reference) -> bool:
    """A model that gives no scores has an output column without a value."""
    mine = reference.sketches.get(name)
    return name in OUTPUTS and not profile.columns[name].count and (mine is None or not mine.count)


def _column(name: str, sketch: Sketch, reference: Reference) -> ColumnDrift:
    mine = reference.sketches.get(name)
    coarse, fine = reference.align(name, sketch, 10), reference.align(name, sketch, None)
    assert coarse is not None
    assert fine is not None
    has_words = bool(sketch.labels or (mine and mine.labels))
    test = METRICS["psi"] if has_words else METRICS["ks"]
    total = sketch.count + sketch.nulls
    numbers = {m: known(distance(METRICS[m], coarse)) for m in ("psi", "js", "l_infinity")}
    if not has_words:
        numbers |= {m: known(distance(METRICS[m], fine)) for m in ("ks", "wasserstein")}
    shares = {m: known(quality(METRICS[m], sketch, mine).value) for m in ("new_categories", "out_of_range", "type_changes")}
    chi2, freedom, p_value = chi2_test(coarse.reference, coarse.current)
    if not has_words:  # either test may see what the other does not: a shift, or values that are missing
        p_value = min(1.0, 2 * min(p_value, chance(test, fine, has_words=False)))
    return ColumnDrift(
        column=name, kind="word" if has_words else "number", is_drifted=False, count=total,
        reference_count=int(coarse.reference.sum()), p_value=p_value, chi2=chi2 if freedom else None,
        mean=_mean(sketch), reference_mean=None if mine is None else _mean(mine),
        null_share=sketch.nulls / total if total else None, reference_null_share=_null_share(coarse),
        **numbers, **shares,
    )  # fmt: skip


def _mean(sketch: Sketch) -> float | None:
    numbers = sum(sketch.counts)
    return sketch.total / numbers if numbers else None


def _null_share(aligned: Aligned) -> float | None:
    total = float(aligned.reference.sum())
    return float(aligned.reference[-1]) / total if total else None


def together(reference: Reference, rows: Rows) -> Reconstruction | None:
    """The columns together, from rows."""
    return None if reference.shape is None else reconstruct(reference.shape, rows.inputs)


# --- which column explains the loss -----------------------------------------------------------------------------------


def explained(
    columns: list[ColumnDrift], rows: Rows, profile: Profile, reference: Reference
) -> tuple[str, list[ColumnDrift]]:
    """Each column with the change of the mean loss that its shift alone makes: Σ (share now - share then) · (mean loss of the bin).

    Where the loss lies comes from labelled rows, how far a column moved from the sketches; nothing is permuted and no model asked.
    """
    name, loss = loss_of(rows)
    labelled = np.isfinite(loss)
    if int(labelled.sum()) < LOSS_ROWS_MIN:
        return "", columns
    rows, loss = rows.take(labelled), loss[labelled]
    return name, [
        msgspec.structs.replace(c, explains=known(_explains(c.column, rows, loss, profile, reference)))
        if c.column not in OUTPUTS and c.column in rows.inputs else c
        for c in columns
    ]  # fmt: skip


def _explains(name: str, rows: Rows, loss: Floats, profile: Profile, reference: Reference) -> float:
    mine = reference.sketches.get(name)
    if mine is None:
        return float("nan")
    aligned = align(mine, profile.columns[name], bins=LOSS_BINS)
    where = _bins(name, rows.inputs[name], mine, profile.columns[name])
    counts = np.bincount(where, minlength=len(aligned.current)).astype(float)
    sums = np.bincount(where, weights=loss, minlength=len(aligned.current))
    # A bin without labelled rows is taken at the mean: nothing is known of it.
    means = np.where(counts > 0, sums / np.maximum(counts, 1), loss.mean())
    shift = aligned.current / aligned.current.sum() - aligned.reference / aligned.reference.sum()
    return float(np.sum(shift * means))


def _bins(name: str, values: Any, reference: Sketch, current: Sketch) -> Any:
    """In which bin of `align(reference, current)` each value falls; the last is for what is missing."""
    if reference.labels or current.labels:
        words = sorted({*reference.labels, *current.labels})
        place = {word: i for i, word in enumerate(words)}
        as_words = (
            values if values.dtype == object else np.asarray([None if v != v else str(v) for v in values], dtype=object)
        )
        rest = place.get(REST, len(words))
        return np.asarray([len(words) if v is None else place.get(str(v), rest) for v in as_words], dtype=np.int64)
    cuts = quantile_cuts(reference, LOSS_BINS)
    finite = np.isfinite(values) if values.dtype != object else np.zeros(len(values), dtype=bool)
    found = np.full(len(values), len(cuts) + 1, dtype=np.int64)
    found[finite] = np.searchsorted(cuts, bins_of(values[finite].astype(np.float64)), side="left")
    return found
