"""The rows of transfers."""

from __future__ import annotations

from msgspec import structs

from noria.kernel.db import Read, Write
from noria.tracking.transfer_model import Transfer

_COLUMNS = ", ".join(field.name for field in structs.fields(Transfer))
_VALUES = ", ".join(f":{field.name}" for field in structs.fields(Transfer))


def add(tx: Write, made: Transfer) -> None:
    tx.run(f"insert into transfer ({_COLUMNS}) values ({_VALUES})", **structs.asdict(made))


def transfer(tx: Read, transfer_id: str) -> Transfer | None:
    return tx.one(Transfer, f"select {_COLUMNS} from transfer where id = :id", id=transfer_id)


def open_count(tx: Read) -> int:
    """How many uploads are under way."""
    return int(tx.scalar("select count(*) from transfer where kind = 'upload' and state = 'open'") or 0)


def open_ids(tx: Read, ids: list[str]) -> list[str]:
    """Those of `ids` that are open uploads."""
    return tx.column("select id from transfer where id in :ids and kind = 'upload' and state = 'open' order by id", ids=ids)


def set_state(tx: Write, transfer_id: str, state: str) -> None:
    tx.run("update transfer set state = :state where id = :id", id=transfer_id, state=state)


def remove(tx: Write, ids: list[str]) -> None:
    tx.run("delete from transfer where id in :ids", ids=ids)


def remove_expired(tx: Write, now_ms: int, limit: int) -> int:
    """Forget transfers whose time is over; gives how many."""
    ids = tx.column(
        "select id from transfer where expires_at_ms <= :now order by expires_at_ms limit :limit", now=now_ms, limit=limit
    )
    if ids:
        remove(tx, ids)
    return len(ids)
