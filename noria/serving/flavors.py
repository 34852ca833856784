"""Which of a model's flavours answers: scikit-learn directly, or whatever it is through MLflow. Light: the node reads it, too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml


def described(folder: Path) -> dict[str, Any]:
    """What MLmodel says."""
    found: dict[str, Any] = yaml.safe_load((folder / "MLmodel").read_text())
    return found


def direct_flavor(description: dict[str, Any]) -> dict[str, Any] | None:
    """The scikit-learn flavour of a model that is loaded without MLflow; None: MLflow's own code loads it."""
    found: dict[str, Any] = (description.get("flavors") or {}).get("sklearn") or {}
    is_direct = found.get("serialization_format") in ("pickle", "cloudpickle", "skops") and not found.get("code")
    return found if is_direct else None
