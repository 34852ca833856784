"""Data that Noria and the peers are given alike. Only uniform draws, which NumPy promises to keep the same over its versions."""

from __future__ import annotations

from typing import Any

import numpy as np

ROWS = 20_000


def bell(rng: Any, n: int) -> Any:
    """Nearly normal, mean 0, standard deviation 1."""
    return rng.random((n, 12)).sum(axis=1) - 6


def table(seed: int, *, is_drifted: bool) -> dict[str, Any]:
    """Four numbers, two of which go together, and two columns of words; drifted: one shifts, one category grows, a relation flips."""
    rng = np.random.default_rng(seed)
    a, b, noise = bell(rng, ROWS), bell(rng, ROWS), bell(rng, ROWS)
    place = rng.random(ROWS)
    return {
        "shifted": 40 + 10 * a + (3 if is_drifted else 0),
        "still": np.exp(b / 2),
        "left": noise + 5,
        "right": (-1 if is_drifted else 1) * noise + 0.3 * bell(rng, ROWS) + 5,
        "carrier": np.where(place < (0.2 if is_drifted else 0.4), "UA", np.where(place < 0.7, "AA", "DL")).astype(object),
        "airport": np.where(rng.random(ROWS) < 0.5, "EWR", "JFK").astype(object),
    }


def binary(seed: int, *, is_drifted: bool) -> dict[str, Any]:
    """Scores that promise too much, the class at a half, the truth; drifted: more of the hard cases."""
    rng = np.random.default_rng(seed)
    chance = rng.random(ROWS) ** (1.6 if is_drifted else 1.0)
    score = chance**1.7 / (chance**1.7 + (1 - chance) ** 1.7)
    return {"score": score, "predicted": (score >= 0.5).astype(int), "truth": (rng.random(ROWS) < chance).astype(int)}


def multiclass(seed: int, *, is_drifted: bool) -> dict[str, Any]:
    """Probabilities of three classes that promise too much, the class, the truth."""
    rng = np.random.default_rng(seed)
    raw = rng.random((ROWS, 3)) ** (3.0 if is_drifted else 1.5)
    chance = raw / raw.sum(axis=1, keepdims=True)
    sharp = chance**1.5
    shown = sharp / sharp.sum(axis=1, keepdims=True)
    truth = (rng.random((ROWS, 1)) > np.cumsum(chance, axis=1)).sum(axis=1)
    return {"probability": shown, "predicted": shown.argmax(axis=1), "truth": np.minimum(truth, 2)}


def regression(seed: int, *, is_drifted: bool) -> dict[str, Any]:
    """A prediction whose error grows with one feature and in one place; drifted: more rows where it is large."""
    rng = np.random.default_rng(seed)
    distance = 10 * rng.random(ROWS) ** (0.5 if is_drifted else 1.0)
    hour = np.floor(24 * rng.random(ROWS))
    place = np.where(rng.random(ROWS) < (0.6 if is_drifted else 0.3), "JFK", "EWR").astype(object)
    predicted = 3 * distance + hour
    noise = bell(rng, ROWS) * (0.5 + 0.3 * distance) * np.where(place == "JFK", 2.0, 1.0)
    return {"distance": distance, "hour": hour, "place": place, "predicted": predicted, "truth": predicted + noise}
