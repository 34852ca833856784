"""A row that an endpoint would understand: the example its model was logged with, else zeros and texts as its signature says."""

from __future__ import annotations

import json
from typing import Any

from noria.kernel.errors import NoriaError

EXAMPLE = "serving_input_example.json"
_ZERO = {"string": "", "boolean": False, "float": 0.0, "double": 0.0, "datetime": "2026-01-01T00:00:00"}


def example(api: Any, model: str, number: int) -> str:
    """One row as the JSON that `noria endpoint predict` takes; '' when the model says nothing of its columns."""
    at = f"/models/{model}/versions/{number}"
    try:
        logged = b"".join(api.get_bytes(f"{at}/content", path=EXAMPLE))
        row = _first_row(json.loads(logged))
    except (NoriaError, ValueError):  # none was logged
        row = _from_signature(api.get(at)["version"].get("signature"))
    return json.dumps([row]) if row else ""


def _first_row(logged: Any) -> dict[str, Any]:
    split = logged.get("dataframe_split") if isinstance(logged, dict) else None
    if not split or not split.get("data"):
        return {}
    return dict(zip(split["columns"], split["data"][0], strict=True))


def _from_signature(signature: Any) -> dict[str, Any]:
    columns = (signature or {}).get("inputs") or []
    return {c["name"]: _ZERO.get(c.get("type", ""), 0) for c in columns if isinstance(c, dict) and c.get("name")}
