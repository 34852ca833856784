"""The rows of tries that run elsewhere: columns of `attempt`."""

from __future__ import annotations

from msgspec import Struct

from noria.kernel.db import Read, Write, js
from noria.pipelines.model.places import Place


class Handed(Struct, frozen=True, kw_only=True):
    """A try with what it takes to know its job again. `ticket` and `holder` are ids of tokens, not secrets."""

    worker: str
    state: str
    ticket: str
    holder: str
    begun: str  # the key of the job that began
    log_bytes: int
    place: Place
    is_current: bool  # does its step still run, in this try?


def handed(tx: Read, step_id: str, number: int) -> Handed | None:
    return tx.one(
        Handed,
        """select a.worker, a.state, a.ticket, a.holder, a.begun, a.log_bytes, a.place,
                  (s.state = 'running' and s.attempt = a.number and s.worker = a.worker) as is_current
             from attempt a join step_run s on s.id = a.step_run_id
            where a.step_run_id = :id and a.number = :number""",
        id=step_id, number=number,
    )  # fmt: skip


def lock(tx: Write, step_id: str, number: int) -> None:
    """Hold a try, so that what is read of it stays true to the end of the transaction."""
    tx.run(
        "update attempt set ticket = ticket where step_run_id = :id and number = :number", id=step_id, number=number
    )  # fmt: skip


def hand_on(tx: Write, step_id: str, number: int, *, ticket: str, place: Place) -> None:
    """Only the newest ticket counts."""
    tx.run(
        "update attempt set ticket = :ticket, place = :place where step_run_id = :id and number = :number",
        id=step_id, number=number, ticket=ticket, place=js(place),
    )  # fmt: skip


def save_begun(tx: Write, step_id: str, number: int, *, key: str, holder: str, place: Place) -> None:
    tx.run(
        """update attempt set begun = :key, holder = :holder, place = :place
            where step_run_id = :id and number = :number""",
        id=step_id, number=number, key=key, holder=holder, place=js(place),
    )  # fmt: skip
