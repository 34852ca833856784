"""What may be changed of something that starts a pipeline by itself."""

from __future__ import annotations

from noria.kernel.errors import Conflict, Invalid
from noria.pipelines.model.schedules import NewSchedule, Schedule
from noria.pipelines.model.triggers import NewTrigger, Trigger


def check_change(found: Schedule | Trigger, new: NewSchedule | NewTrigger) -> None:
    """Raises Invalid, Conflict unless `new` may take the place of what `found` says."""
    if (new.name, new.pipeline) != (found.name, found.pipeline):
        raise Invalid(
            f"{found.name} keeps its name and its pipeline.", where="name", hint="Make another one, and delete this."
        )
    if found.is_declared:
        raise Conflict(
            f"{found.name} comes from the code of {found.pipeline}.", hint="Change it there; the next version brings it."
        )
