"""What workers and jobs say to each other and to the server about tries that run elsewhere."""

from __future__ import annotations

from msgspec import Struct

from noria.pipelines.model.places import Place
from noria.pipelines.model.work import Assignment, Held


class Handing(Struct, frozen=True, kw_only=True):
    """A worker hands a try that it holds to a job elsewhere, of which it says where it will be."""

    worker: str
    step_run_id: str
    attempt: int
    place: Place


class Ticket(Struct, frozen=True, kw_only=True):
    """What a job begins with. It can be used once, so it is worth nothing to whoever reads it later in the job's description."""

    ticket: str


class Begin(Struct, frozen=True, kw_only=True):
    """A job is there. `key` is its own: asked again under it, since the answer was lost, it is given the same."""

    key: str
    node: str = ""
    job: str = ""  # what the executor calls it, where that is known to the job alone
    python: str = ""


class Begun(Struct, frozen=True, kw_only=True):
    """All that a job needs. The token in the assignment is bound to this try: its output and its result count under no other."""

    assignment: Assignment
    worker: str
    log_bytes: int  # where its output goes on


class Told(Struct, frozen=True, kw_only=True):
    """What the server knows of a try, as the worker asks that handed it on."""

    state: str  # of the attempt: running, or how it ended
    has_begun: bool
    log_bytes: int
    is_held: bool  # is it still this worker's?


class AskingHow(Struct, frozen=True, kw_only=True):
    """A worker asks what became of a try. `note`: a line for its log, kept only while no job has begun with it."""

    worker: str
    held: Held
    note: str = ""
