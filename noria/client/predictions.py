"""What an endpoint answered, as rows: `noria.predictions("flights", "select …")`."""

from __future__ import annotations

from typing import Any

from noria.client.api import connect
from noria.kernel.errors import TooLarge

TIMEOUT_S = 90.0
LIMIT = 10_000


def predictions(
    endpoint: str,
    sql: str = "select * from predictions",
    *,
    from_ms: int | None = None,
    to_ms: int | None = None,
    limit: int = LIMIT,
) -> list[dict[str, Any]]:
    """The rows of one select over `predictions`; `pandas.DataFrame(noria.predictions("flights"))` makes a table of them.

    Raises Invalid (what the database says of the statement), TooLarge when there are more than `limit` rows.
    """
    body = {"sql": sql, "from_ms": from_ms, "to_ms": to_ms, "limit": limit}
    with connect() as api:
        found = api.post(f"/endpoints/{endpoint}/query", body, timeout_s=TIMEOUT_S)
    if found["is_truncated"]:
        raise TooLarge(
            f"There are more than {len(found['rows'])} rows.", hint="Aggregate, or ask for a span with from_ms and to_ms."
        )
    names = [c["name"] for c in found["columns"]]
    return [dict(zip(names, row, strict=True)) for row in found["rows"]]
