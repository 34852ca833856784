"""Personal values in facts: beside the log, never in it.

A fact declares which of its fields may say something about a person. Of such a value the log holds only a commitment, SHA-256(salt ‖
value); value and salt lie in `event_personal`. Readers get the value back; the sealed tree is over the commitment. Erasing takes value
and salt away: nothing in the log changes, every proof and signature stays valid, and what was said cannot be guessed from the hash.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import msgspec

from noria.kernel.facts import PERSONAL

if TYPE_CHECKING:
    from noria.kernel.db import Read

COMMITMENT = "personal:sha256:"
ERASED = "erased"
SALT_BYTES = 16


class Row(Protocol):
    """A fact as it is read."""

    @property
    def seq(self) -> int: ...
    @property
    def kind(self) -> str: ...
    @property
    def data(self) -> dict[str, Any]: ...


R = TypeVar("R", bound=Row)


def commitment(salt: str, value: str) -> str:
    """What the log holds of a value; `salt` in hex."""
    return COMMITMENT + hashlib.sha256(bytes.fromhex(salt) + value.encode()).hexdigest()


def committed(kind: str, data: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """The data of a fact as the log holds it, and the rows that lie beside it."""
    beside = []
    for field in PERSONAL.get(kind, ()):
        value = data.get(field)
        if isinstance(value, str) and value:
            salt = secrets.token_hex(SALT_BYTES)
            beside.append({"field": field, "salt": salt, "value": value})
            data = {**data, field: commitment(salt, value)}
    return data, beside


def shown(tx: Read, events: list[R]) -> list[R]:
    """The same facts with the values that are still there; in the place of others: erased."""
    wanted = {e.seq for e in events if _fields(e.kind, e.data)}
    if not wanted:
        return events
    values = _values(tx, wanted)
    return [
        msgspec.structs.replace(e, data=filled(e.seq, e.kind, e.data, values)) if e.seq in wanted else e  # type: ignore[type-var]
        for e in events
    ]


def shown_rows(tx: Read, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same of rows whose data is text."""
    found = {r["seq"]: msgspec.json.decode(r["data"]) for r in rows if r["kind"] in PERSONAL}
    wanted = {r["seq"] for r in rows if r["seq"] in found and _fields(r["kind"], found[r["seq"]])}
    if not wanted:
        return rows
    values = _values(tx, wanted)
    return [
        {**r, "data": msgspec.json.encode(filled(r["seq"], r["kind"], found[r["seq"]], values)).decode()} if r["seq"] in wanted else r
        for r in rows
    ]  # fmt: skip


def filled(seq: int, kind: str, data: dict[str, Any], values: dict[tuple[int, str], str]) -> dict[str, Any]:
    return {**data, **{field: values.get((seq, field), ERASED) for field in _fields(kind, data)}}


def _fields(kind: str, data: dict[str, Any]) -> list[str]:
    return [f for f in PERSONAL.get(kind, ()) if isinstance(data.get(f), str) and data[f].startswith(COMMITMENT)]


def _values(tx: Read, seqs: set[int]) -> dict[tuple[int, str], str]:
    rows = tx.rows("select seq, field, value from event_personal where seq in :seqs order by seq", seqs=sorted(seqs))
    return {(int(r["seq"]), str(r["field"])): str(r["value"]) for r in rows}
