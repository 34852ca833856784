"""A small gradient-boosted regression: what the loss will be, from what went in.

Trees of depth DEPTH over BINS quantile bins per feature, each fitted to what the ones before left over. Words stand for the mean target of
their rows in the reference. Source: Friedman, Annals of Statistics 29 (2001); histograms as in Ke et al., LightGBM (2017).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bins = NDArray[np.int64]
TREES, DEPTH, BINS, RATE = 60, 4, 48, 0.15
LEAF_ROWS_MIN = 20
PRIOR_ROWS = 20.0  # a word seen this often stands halfway between its own mean and that of all


class Feature(Struct, frozen=True, kw_only=True):
    """How a column becomes bins: edges of numbers, or a number per word."""

    name: str
    edges: list[float]
    words: dict[str, float] | None = None
    unseen: float = 0.0


class Tree(Struct, frozen=True, kw_only=True):
    """A full binary tree in breadth-first order: rows with bin > `cuts` go right; `leaves` are what the last level adds."""

    features: list[int]
    cuts: list[int]
    leaves: list[float]


class Boosted(Struct, frozen=True, kw_only=True):
    """The features and the trees."""

    features: list[Feature]
    trees: list[Tree]
    base: float

    def predict(self, columns: dict[str, Any], rows: int) -> Floats:
        """The expected target of each row; a column that is not there counts as missing."""
        binned = np.column_stack([_bins(f, columns.get(f.name), rows) for f in self.features])
        found = np.full(rows, self.base)
        for tree in self.trees:
            found += np.asarray(tree.leaves)[_leaf(tree, binned)]
        return found


def boost(columns: dict[str, Any], target: Floats) -> Boosted:
    """Fit to `target`; columns are NumPy arrays of numbers or objects of the same length."""
    base = float(target.mean())
    features = [_feature(name, values, target, base) for name, values in columns.items()]
    binned = np.column_stack([_bins(f, columns[f.name], len(target)) for f in features])
    trees, left = list[Tree](), target - base
    for _ in range(TREES):
        tree = _grow(binned, left)
        trees.append(tree)
        left = left - np.asarray(tree.leaves)[_leaf(tree, binned)]
    return Boosted(features=features, trees=trees, base=base)


def _feature(name: str, values: Any, target: Floats, base: float) -> Feature:
    words = None
    if values.dtype == object:
        names, where = np.unique(np.asarray(["" if v is None else str(v) for v in values]), return_inverse=True)
        counts = np.bincount(where)
        means = (np.bincount(where, weights=target) + PRIOR_ROWS * base) / (counts + PRIOR_ROWS)
        words = dict(zip(names.tolist(), means.tolist(), strict=True))
        values = means[where]
    known = values[np.isfinite(values)]
    edges = np.unique(np.quantile(known, np.arange(1, BINS) / BINS)).tolist() if len(known) else []
    return Feature(name=name, edges=edges, words=words, unseen=base)


def _bins(feature: Feature, values: Any, rows: int) -> Bins:
    """The bin of each value; what is missing has the last."""
    if values is None:
        return np.full(rows, BINS, dtype=np.int64)
    if feature.words is not None:
        known = feature.words
        values = np.asarray([known.get("" if v is None else str(v), feature.unseen) for v in values])
    elif values.dtype == object:
        return np.full(rows, BINS, dtype=np.int64)
    finite = np.isfinite(values)
    return np.where(finite, np.searchsorted(feature.edges, np.where(finite, values, 0.0), side="left"), BINS)


def _grow(binned: Bins, target: Floats) -> Tree:
    node = np.zeros(len(target), dtype=np.int64)  # within the level
    features, cuts = list[int](), list[int]()
    for level in range(DEPTH):
        width = 1 << level
        feature, cut = _splits(binned, target, node, width)
        features += feature.tolist()
        cuts += cut.tolist()
        node = node * 2 + (binned[np.arange(len(node)), feature[node]] > cut[node])
    counts = np.bincount(node, minlength=1 << DEPTH)
    sums = np.bincount(node, weights=target, minlength=1 << DEPTH)
    return Tree(features=features, cuts=cuts, leaves=(RATE * sums / np.maximum(counts, 1)).tolist())


def _splits(binned: Bins, target: Floats, node: Bins, width: int) -> tuple[Bins, Bins]:
    """The best feature and cut of each node of a level; a node that is best left whole sends every row left."""
    best, feature, cut = np.zeros(width), np.zeros(width, dtype=np.int64), np.full(width, BINS, dtype=np.int64)
    for i in range(binned.shape[1]):
        keys = node * (BINS + 1) + binned[:, i]
        counts = np.bincount(keys, minlength=width * (BINS + 1)).reshape(width, BINS + 1)
        sums = np.bincount(keys, weights=target, minlength=width * (BINS + 1)).reshape(width, BINS + 1)
        n, s = np.cumsum(counts, axis=1), np.cumsum(sums, axis=1)
        right_n, right_s = n[:, -1:] - n, s[:, -1:] - s
        gain = s**2 / np.maximum(n, 1) + right_s**2 / np.maximum(right_n, 1) - s[:, -1:] ** 2 / np.maximum(n[:, -1:], 1)
        gain[(n < LEAF_ROWS_MIN) | (right_n < LEAF_ROWS_MIN)] = 0.0
        at = gain.argmax(axis=1)
        value = gain[np.arange(width), at]
        better = value > best + 1e-12
        best, feature, cut = np.where(better, value, best), np.where(better, i, feature), np.where(better, at, cut)
    return feature, cut


def _leaf(tree: Tree, binned: Bins) -> Bins:
    node, start, every = np.zeros(len(binned), dtype=np.int64), 0, np.arange(len(binned))
    features, cuts = np.asarray(tree.features), np.asarray(tree.cuts)
    for level in range(DEPTH):
        at = start + node
        node = node * 2 + (binned[every, features[at]] > cuts[at])
        start += 1 << level
    return node
