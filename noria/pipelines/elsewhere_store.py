"""The rows of tries that run elsewhere: columns of `attempt`."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from noria.kernel.db import Read, Write, js
from noria.pipelines.model.places import Place
from noria.pipelines.model.steps import StepRun
from noria.pipelines.model.work import Held
from noria.pipelines.step_store import STEP

ORPHANS_MAX = 1000


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


def pass_on(tx: Write, step_id: str, number: int, *, worker: str) -> None:
    """A try is this worker's from here on; its job stays what it is."""
    tx.run(
        "update attempt set worker = :worker where step_run_id = :id and number = :number",
        id=step_id, number=number, worker=worker,
    )  # fmt: skip


def is_same_agent(tx: Read, former: str, worker: str) -> bool:
    """Were both processes started under one name, by one principal?"""
    return bool(
        tx.scalar(
            """select count(*) from pipeline_worker a join pipeline_worker b on a.name = b.name and a.principal = b.principal
                where a.id = :former and b.id = :worker and a.name <> '' and a.principal <> ''""",
            former=former, worker=worker,
        )
    )  # fmt: skip


def held_elsewhere(tx: Read, worker: str) -> list[StepRun]:
    """What a worker holds and has handed on."""
    return tx.all(
        StepRun,
        f"""select {STEP} from step_run
             where state = 'running' and worker = :worker
               and exists (select 1 from attempt a
                            where a.step_run_id = step_run.id and a.number = step_run.attempt and a.ticket <> '')
             order by id limit :limit""",
        worker=worker, limit=ORPHANS_MAX,
    )  # fmt: skip


def orphans(tx: Read, worker: str, since_ms: int) -> list[tuple[Held, Place]]:
    """Tries that earlier processes of a worker handed on, and that were taken from them since."""
    found = tx.rows(
        """select a.step_run_id, a.number, a.place
             from attempt a join pipeline_worker former on former.id = a.worker
                  join pipeline_worker now on now.name = former.name and now.principal = former.principal
            where now.id = :worker and former.id <> now.id and now.name <> '' and now.principal <> ''
              and a.state = 'lost' and a.ticket <> '' and a.ended_at_ms >= :since
            order by a.ended_at_ms desc, a.step_run_id limit :limit""",
        worker=worker, since=since_ms, limit=ORPHANS_MAX,
    )  # fmt: skip
    return [
        (Held(step_run_id=row["step_run_id"], attempt=int(row["number"])), msgspec.json.decode(row["place"], type=Place))
        for row in found
    ]


def save_begun(tx: Write, step_id: str, number: int, *, key: str, holder: str, place: Place) -> None:
    tx.run(
        """update attempt set begun = :key, holder = :holder, place = :place
            where step_run_id = :id and number = :number""",
        id=step_id, number=number, key=key, holder=holder, place=js(place),
    )  # fmt: skip
