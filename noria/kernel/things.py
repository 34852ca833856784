"""The things there are to have rights on: each slice says beside its tables how to list the ids of its own.

Access needs it for one question only: what is left of "everything" for somebody who lacks a clearance.
"""

from __future__ import annotations

_LISTED: dict[str, str] = {}  # kind → the query for the ids that its refs carry


def things(kind: str, query: str) -> None:
    """Declare that refs of `kind` carry what `query` gives in its first column. `:workspace` is known to it."""
    assert _LISTED.get(kind, query) == query, f"things of kind {kind} are declared twice"
    _LISTED[kind] = query


def kinds() -> frozenset[str]:
    """Every kind that was declared."""
    return frozenset(_LISTED)


def query_of(kind: str) -> str:
    return _LISTED[kind]
