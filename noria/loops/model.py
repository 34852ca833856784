"""The nouns of loops: the closed loop as one object, and its turns.

A loop says what to watch, how to train, when a challenger is better, who must agree, and how it is tried on live traffic.
A turn is one trip around it. Its states only move along MOVES; the four at the end are final.
"""

from __future__ import annotations

import math
import re
from typing import Any, Literal

import msgspec
from msgspec import Struct, field

from noria.kernel.errors import Invalid
from noria.kernel.facts import Fact, fact
from noria.kernel.ids import ModelVersionId, Ref, check_name
from noria.registry.model import Evaluation, ModelVersion, check_alias
from noria.serving.model import Guard

DAY_MS = 86_400_000
COOLDOWN_S_MAX = 366 * 86_400
TURNS_PER_DAY_MAX = 1_000
PARAMS_BYTES_MAX = 64 << 10
APPROVERS_MAX = 10
_PLACE = re.compile(r"\$\{([^}]*)\}")
_KNOWN_PLACE = re.compile(r"^(data\.\w+|seq|subject|loop|turn|model|champion)\Z")

TurnState = Literal[
    "triggered", "training", "comparing", "awaiting_approval", "canary", "promoted", "rolled_back", "rejected", "failed",
    "stopped",
]  # fmt: skip
ENDED: frozenset[str] = frozenset({"promoted", "rolled_back", "rejected", "failed", "stopped"})
MOVES: dict[str, frozenset[str]] = {
    "triggered": frozenset({"training", "failed", "stopped"}),
    "training": frozenset({"comparing", "failed", "stopped"}),
    "comparing": frozenset({"awaiting_approval", "canary", "promoted", "rejected", "failed", "stopped"}),
    "awaiting_approval": frozenset({"canary", "promoted", "rejected", "failed", "stopped"}),
    "canary": frozenset({"promoted", "rolled_back", "failed", "stopped"}),
}


class Gate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a challenger is better than the champion: by `min_improvement` on the same split of the same dataset version.

    `max_p`: the challenger's evaluation must also carry `<metric>_p`, the p-value of a paired comparison, at most this.
    `needs_interval`: it must carry `<metric>_difference_low` and `…_high` (challenger − champion), wholly on the better side.
    """

    metric: str
    direction: Literal["lower", "higher"] = "lower"
    min_improvement: float = 0.0
    split: str = ""  # empty: any split that both were evaluated on, the latest first
    max_p: float | None = None
    needs_interval: bool = False


class Approval(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who must agree before live traffic: nobody (`auto`), or `count` people who are not the author."""

    mode: Literal["auto", "required"] = "required"
    count: int = 1
    roles: list[str] = []


class CanaryPlan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a challenger is tried: shares of the traffic in percent, one after the other; without any it is deployed at once."""

    steps: list[int] = field(default_factory=lambda: [25])
    guard: Guard = Guard()


class Budget(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many turns a loop may take. None: no limit."""

    turns_per_day: int | None = 4
    turns: int | None = None


class LoopSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The closed loop, declared.

    `params` may name parts of what started the turn: `${data.event_at_ms}` of the alert, `${champion}`, `${turn}`.
    `output` is the pipeline's output that names the version it made: `flights@8`, `8`, or `model_version:<id>`.
    """

    name: str
    model: str
    endpoint: str
    pipeline: str
    gate: Gate
    monitor: str = ""  # empty: only by hand
    params: dict[str, Any] = {}
    output: str = "version"
    champion: str = "champion"  # the alias
    approval: Approval = field(default_factory=Approval)
    canary: CanaryPlan = field(default_factory=CanaryPlan)
    cooldown_s: float = 3600.0  # from the end of a turn to the start of the next
    budget: Budget = Budget()
    enabled: bool = True
    description: str = ""


class Comparison(Struct, frozen=True, kw_only=True):
    """The verdict of the gate, with what it rests on."""

    passed: bool
    reason: str
    metric: str
    direction: str
    dataset_version: str = ""
    split: str = ""
    champion: int | None = None
    challenger: int | None = None
    champion_value: float | None = None
    challenger_value: float | None = None
    improvement: float | None = None
    min_improvement: float = 0.0
    p: float | None = None
    low: float | None = None
    high: float | None = None


class Step(Struct, frozen=True, kw_only=True):
    """One move of a turn, from its facts."""

    seq: int
    at_ms: int
    state: str
    why: str
    cause: int | None = None
    after: int | None = None  # the fact it waited for: the end of a run, an approval, a canary's verdict


class Turn(Struct, frozen=True, kw_only=True):
    """One trip around a loop, with the spec as it was when it began."""

    id: str
    loop_id: str
    loop: str
    number: int
    state: TurnState
    trigger: Literal["alert", "manual"]
    cause: int | None  # the fact that started it
    spec: LoopSpec
    started_at_ms: int
    moved_at_ms: int
    started_by: str
    ended_at_ms: int | None = None
    reason: str = ""  # why it is in this state, as a sentence
    params: dict[str, Any] = {}
    pipeline_run_id: str = ""
    model_version_id: ModelVersionId | None = None
    challenger: int | None = None
    champion: int | None = None
    comparison: Comparison | None = None
    approval_id: str = ""
    canary_id: str = ""
    is_settled: bool = True  # False: stopped, but what it had started may still have to be ended
    steps: list[Step] = []  # its moves, oldest first; filled where a turn is shown

    @property
    def ref(self) -> Ref:
        return Ref("turn", self.id)


class Loop(Struct, frozen=True, kw_only=True):
    """A loop and where it stands."""

    id: str
    name: str
    spec: LoopSpec
    is_enabled: bool
    owner: str  # the principal whose rights it acts with
    created_at_ms: int
    updated_at_ms: int
    turns_count: int = 0
    turn: Turn | None = None  # the one under way, or the last
    waits_until_ms: int | None = None  # the end of the cool-down

    @property
    def ref(self) -> Ref:
        return Ref("loop", self.name)


class Pass(Struct, frozen=True, kw_only=True):
    """An alert that did not start a turn at once; it still does later if it stays open and the loop is free again."""

    cause: int
    at_ms: int
    reason: str
    alert: str = ""


class LoopPage(Struct, frozen=True, kw_only=True):
    """A loop with its newest turns and the alerts it passed over."""

    loop: Loop
    turns: list[Turn]
    passes: list[Pass]


class RunRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Start a turn by hand; `params` override those of the loop."""

    params: dict[str, Any] = {}
    reason: str = ""


class StopRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Stop now, and why."""

    reason: str = ""


@fact("loop.created")
class LoopCreated(Fact):
    """A loop was declared."""

    spec: dict[str, Any]


@fact("loop.changed")
class LoopChanged(Fact):
    """A loop's spec changed; turns under way keep the one they began with."""

    spec: dict[str, Any]


@fact("loop.deleted")
class LoopDeleted(Fact):
    """A loop is gone; its turns stay in the record."""


@fact("loop.stopped")
class LoopStopped(Fact):
    """Somebody pressed the stop button: no turn starts until the loop is started again."""

    reason: str
    turn: str = ""


@fact("loop.started")
class LoopStarted(Fact):
    """A stopped loop may take turns again."""


@fact("loop.passed_over")
class LoopPassedOver(Fact):
    """An alert started no turn yet, because of the cool-down, the budget or a turn under way."""

    reason: str
    alert: str


@fact("loop.turn_started")
class LoopTurnStarted(Fact):
    """A turn began; its cause is the alert, or somebody's request."""

    loop: str
    number: int
    trigger: str
    reason: str = ""


@fact("loop.turn_advanced")
class LoopTurnAdvanced(Fact):
    """A turn moved to another state; `evidence` is what the move rests on, `after` the fact it had waited for."""

    loop: str
    state: str
    was: str
    reason: str
    evidence: dict[str, Any] = {}
    after: int | None = None


def check_spec(spec: LoopSpec) -> None:
    """Raises Invalid for a loop that could never turn, or never stop."""
    for what, name in (("loop", spec.name), ("model", spec.model), ("endpoint", spec.endpoint), ("pipeline", spec.pipeline)):
        check_name(name, what=what)
    check_alias(spec.champion)
    if spec.monitor:
        check_name(spec.monitor, what="monitor")
    if not 0 <= spec.cooldown_s <= COOLDOWN_S_MAX:
        raise Invalid("cooldown_s must be between 0 and a year.", where="cooldown_s")
    for where, limit in (("budget.turns_per_day", spec.budget.turns_per_day), ("budget.turns", spec.budget.turns)):
        if limit is not None and not 0 <= limit <= TURNS_PER_DAY_MAX:
            raise Invalid(f"{where} must be between 0 and {TURNS_PER_DAY_MAX}.", where=where)
    _check_gate(spec.gate)
    if not 1 <= spec.approval.count <= APPROVERS_MAX:
        raise Invalid(f"approval.count must be between 1 and {APPROVERS_MAX}.", where="approval.count")
    steps = spec.canary.steps
    if any(not 1 <= s <= 99 for s in steps) or steps != sorted(set(steps)) or len(steps) > 20:
        raise Invalid("canary.steps are growing percentages between 1 and 99.", where="canary.steps")
    if len(msgspec.json.encode(spec.params)) > PARAMS_BYTES_MAX:
        raise Invalid(f"params are larger than {PARAMS_BYTES_MAX >> 10} KiB.", where="params")
    for text in _texts(spec.params):
        for place in _PLACE.findall(text):
            if not _KNOWN_PLACE.match(place):
                raise Invalid(
                    f"${{{place}}} names nothing that a turn knows.", where="params",
                    hint="Use ${data.<field of the alert>}, ${seq}, ${subject}, ${loop}, ${turn}, ${model} or ${champion}.",
                )  # fmt: skip


def _check_gate(gate: Gate) -> None:
    if not gate.metric:
        raise Invalid("The gate needs a metric to compare.", where="gate.metric")
    if not math.isfinite(gate.min_improvement) or gate.min_improvement < 0:
        raise Invalid("gate.min_improvement must be 0 or more.", where="gate.min_improvement")
    if gate.max_p is not None and not 0 < gate.max_p <= 1:
        raise Invalid("gate.max_p must be above 0 and at most 1.", where="gate.max_p")


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [text for part in parts for text in _texts(part)]


def fill(value: Any, known: dict[str, Any]) -> Any:
    """`value` with its places filled in. A text that is one place becomes what it names, of whatever type.

    Raises Invalid for a place that this turn has nothing for: an alert's field, in a turn started by hand.
    """
    if isinstance(value, dict):
        return {k: fill(v, known) for k, v in value.items()}
    if isinstance(value, list):
        return [fill(v, known) for v in value]
    if not isinstance(value, str):
        return value
    whole = _PLACE.fullmatch(value)
    if whole:
        return _known(whole[1], known)
    return _PLACE.sub(lambda found: str(_known(found[1], known)), value)


def _known(place: str, known: dict[str, Any]) -> Any:
    if place not in known:
        raise Invalid(
            f"The parameters need ${{{place}}}, which this turn does not have.", where="params",
            hint="Give it with --param when you start a turn by hand.",
        )  # fmt: skip
    return known[place]


def compare(gate: Gate, challenger: ModelVersion, champion: ModelVersion | None) -> Comparison:
    """What the gate says. It passes only on numbers of both, from the same split of the same dataset version."""
    if champion is None:
        return _no(gate, "There is no champion to compare with; promote a first version by hand.", challenger.number)
    if champion.id == challenger.id:
        return _no(gate, f"{challenger.label} is the champion itself.", challenger.number)
    found = _same_holdout(gate, challenger, champion)
    if found is None:
        on = f"split {gate.split!r}" if gate.split else "split"
        return _no(
            gate, f"Not both have {gate.metric} on the same dataset version and {on}.", challenger.number, champion.number
        )
    ours, theirs = found
    sign = 1.0 if gate.direction == "lower" else -1.0
    improvement = sign * (theirs.metrics[gate.metric] - ours.metrics[gate.metric])
    p, low, high = (ours.metrics.get(f"{gate.metric}_{part}") for part in ("p", "difference_low", "difference_high"))
    reason = _objection(gate, improvement, p, low, high)
    words = (
        f"{gate.metric} {ours.metrics[gate.metric]:.4g} against the champion's {theirs.metrics[gate.metric]:.4g} "
        f"on {ours.split} of {ours.dataset_version[:12]}: {'better' if improvement > 0 else 'worse'} by {abs(improvement):.4g}"
    )
    return Comparison(
        passed=not reason, reason=f"{words}." if not reason else f"{words}; {reason}.", metric=gate.metric,
        direction=gate.direction, dataset_version=ours.dataset_version, split=ours.split, champion=champion.number,
        challenger=challenger.number, champion_value=theirs.metrics[gate.metric], challenger_value=ours.metrics[gate.metric],
        improvement=improvement, min_improvement=gate.min_improvement, p=p, low=low, high=high,
    )  # fmt: skip


def _objection(gate: Gate, improvement: float, p: float | None, low: float | None, high: float | None) -> str:
    """Why the numbers are not enough; '' when they are."""
    if improvement <= 0 or improvement < gate.min_improvement:
        return f"at least {gate.min_improvement:.4g} was asked for" if gate.min_improvement else "that is no improvement"
    if gate.max_p is not None and (p is None or p > gate.max_p):
        return f"the evaluation has no {gate.metric}_p" if p is None else f"p is {p:.3g}, above {gate.max_p:.3g}"
    if gate.needs_interval:
        if low is None or high is None:
            return f"the evaluation has no {gate.metric}_difference_low and _high"
        beyond = high < -gate.min_improvement if gate.direction == "lower" else low > gate.min_improvement
        if not beyond:
            return f"the interval of the difference, {low:.4g} to {high:.4g}, reaches the champion"
    return ""


def _no(gate: Gate, reason: str, challenger: int, champion: int | None = None) -> Comparison:
    return Comparison(
        passed=False, reason=reason, metric=gate.metric, direction=gate.direction, challenger=challenger, champion=champion,
        min_improvement=gate.min_improvement,
    )  # fmt: skip


def _same_holdout(gate: Gate, challenger: ModelVersion, champion: ModelVersion) -> tuple[Evaluation, Evaluation] | None:
    """The latest evaluation of the challenger on a holdout that the champion has the metric on too, and the champion's."""
    theirs = {(e.dataset_version, e.split): e for e in champion.evaluations if gate.metric in e.metrics}
    for ours in challenger.evaluations:
        same = theirs.get((ours.dataset_version, ours.split))
        if same and gate.metric in ours.metrics and gate.split in ("", ours.split):
            return ours, same
    return None
