"""Noria: the whole life of a machine-learning model in one place. Public names are loaded when first used."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "step": "noria.client.pipeline",
    "pipeline": "noria.client.pipeline",
    "materialiser": "noria.client.materialisers",
    "seed": "noria.client.seeds",
    "uv": "noria.client.packages",
    "when": "noria.client.flow",
    "choose": "noria.client.flow",
    "each": "noria.client.flow",
    "approve": "noria.client.flow",
    "sweep": "noria.client.sweeping",
    "floats": "noria.client.sweeping",
    "ints": "noria.client.sweeping",
    "choice": "noria.client.sweeping",
    "report": "noria.client.reporting",
    "Pruned": "noria.client.reporting",
    "score": "noria.client.scoring.request",
    "cron": "noria.client.starts",
    "on_dataset": "noria.client.starts",
    "on_drift": "noria.client.starts",
    "on_event": "noria.client.starts",
    "on_files": "noria.client.starts",
    "on_hook": "noria.client.starts",
    "on_model": "noria.client.starts",
    "dataset": "noria.client.datasets",
    "resolve": "noria.client.datasets",
    "register": "noria.client.registering",
    "connect": "noria.client.api",
    "predictions": "noria.client.predictions",
    "context_tags": "noria.client.context",
    "init": "noria.client.logger",
    "log": "noria.client.logger",
    "finish": "noria.client.logger",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        found = getattr(importlib.import_module(_PUBLIC[name]), name)
        globals()[name] = found  # `noria.log` is called in loops
        return found
    raise AttributeError(f"module 'noria' has no attribute {name!r}")
