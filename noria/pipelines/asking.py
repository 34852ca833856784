"""Questions of steps to people: what pipelines need of whoever asks them, and the subscriber that hears the answers.

Governance asks (noria/governance/questions.py), in the transaction of the step: there is never one without the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from noria.kernel.db import Read, Write
from noria.kernel.events import Event
from noria.kernel.ids import Ref
from noria.pipelines.model.runs import PipelineRun
from noria.pipelines.model.spec import Answer, Question
from noria.pipelines.model.steps import StepRun

if TYPE_CHECKING:
    from noria.pipelines.service import Pipelines


class Asker(Protocol):
    """Puts a step's question to people."""

    def ask(
        self, tx: Write, run: PipelineRun, step: StepRun, question: Question, *, evidence: dict[str, Any], until_ms: int
    ) -> str:
        """Returns the id under which it is answered. Raises Invalid."""
        ...

    def answer(self, tx: Read, question_id: str) -> Answer | None:
        """What was said; None while nobody has, and there is time left."""
        ...

    def withdraw(self, tx: Write, question_id: str) -> None:
        """The step does not want to know any more."""
        ...


class Answers:
    """A subscriber of what people decided; being told twice changes nothing."""

    name = "pipelines.answers"

    def __init__(self, pipelines: Pipelines) -> None:
        self._pipelines = pipelines

    def interest(self, _: Read) -> frozenset[str]:
        return frozenset({"approval.granted", "approval.rejected", "approval.expired", "approval.withdrawn"})

    def handle(self, event: Event) -> None:
        self._pipelines.control.answered(Ref.parse(event.subject).id)
