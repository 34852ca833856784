"""The judge of a running canary: reads labelled answers of both arms as their truth comes, and decides.

    roll back   when the test finds the canary worse by more than guard.max_worse (its false alarm rate is at most guard.alpha, however
                often it looks), or when its answers are plainly broken: no score where the champion has one, or one and the same for all
    advance     when the step has seen guard.min_labels labels of the canary and guard.min_duration_s of event time without harm
    promote     the same on the last step; the words say whether it is proven not to be worse or only not found to be

Invariant: a label is used once, and never taken back; what the test knows and how far it has read are one row, written together.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

import msgspec
from msgspec import Struct

from noria.kernel.blobs import BlobStore
from noria.kernel.db import Database, Read, js
from noria.kernel.errors import Conflict, Forbidden, NoriaError
from noria.kernel.op import Op, Ops
from noria.monitoring import answers_store, canaries_store, segments_store, sketches_store
from noria.monitoring.answers_store import Labelled, Stream
from noria.monitoring.canaries_store import CanaryTestRow
from noria.monitoring.fairness import rates
from noria.monitoring.metrics.base import wilson
from noria.monitoring.metrics.psi import psi
from noria.monitoring.model import SCORE, ArmEvidence, Judgement
from noria.monitoring.rows import read_rows
from noria.monitoring.segments_store import Watermark
from noria.monitoring.sequential import SEEN_MIN, CanaryTest
from noria.monitoring.sketches import Profile, Sketch, align, merge_profiles
from noria.serving.model import Canary, Guard

log = logging.getLogger("noria.monitoring")

LABELS_PER_LOOK = 2_000  # judged between two looks at the database; 40 µs each
ANSWERS_MIN = 100  # the guard on broken answers says nothing about fewer
MISSING_MORE = 0.05  # so much larger a share of answers without a score is broken
ASK_AGAIN_MS = 15_000  # after policy refused
LOOK_AGAIN = 1.05  # Groups are compared when the canary has so many times the answers of the last look: few false alarms.
FAIRNESS_ROWS_MAX = 20_000  # of each side, spread over the canary's life
OUTCOMES_MAX = 100  # distinct truths whose mean losses are kept apart; the rest share one
Action = Literal["wait", "hold", "advance", "promote", "roll_back"]


class CanaryControl(Protocol):
    """What the judge needs of serving, whose canaries implement it."""

    def running(self, op: Op) -> list[Canary]: ...
    def advance(self, op: Op, name: str, *, evidence: dict[str, Any] | None = None) -> Any: ...
    def promote(self, op: Op, name: str, *, evidence: dict[str, Any] | None = None) -> Any: ...
    def rollback(self, op: Op, name: str, reason: str, evidence: dict[str, Any] | None = None) -> Any: ...


class Arm(Struct, kw_only=True):
    """Running sums of one arm."""

    labels: int = 0
    loss: float = 0.0
    score: float = 0.0

    def evidence(self) -> ArmEvidence:
        n = self.labels
        return ArmEvidence(labels=n, mean_loss=self.loss / n if n else None, mean_score=self.score / n if n else None)


class TestState(Struct, kw_only=True):
    """Everything the judge remembers of one canary."""

    __test__ = False  # not a test, whatever pytest thinks of the name
    test: dict[str, Any]
    champion: Arm
    canary: Arm
    shares: list[tuple[int, int]]  # (from at_ms, percent of the traffic)
    step: int
    step_labels: int = 0  # labels of canary answers since the step began
    step_from_ms: int = 0  # event time when it began
    action: str = "wait"


class Look(Struct, kw_only=True):
    """What one look found."""

    row: CanaryTestRow
    state: TestState
    judgement: Judgement
    mark: Watermark
    used: int  # labels read in this look
    was_label_seq: int | None


class CanaryJudge:
    """Reconciler: judges every running canary once per turn."""

    name = "monitoring.canary"
    wake_on: frozenset[str] = frozenset({"truth.written", "segment.written", "canary.started", "canary.advanced"})

    def __init__(self, db: Database, ops: Ops, blobs: BlobStore, control: CanaryControl, *, every_s: float = 1.0) -> None:
        self._db, self._ops, self._blobs, self._control, self.every_s = db, ops, blobs, control, every_s
        self._looked: dict[
            str, tuple[int, str]
        ] = {}  # canary: its answers when its groups were compared last, what was found
        self._refused: dict[str, tuple[str, int]] = {}  # canary: what was refused, and when to ask again

    def reconcile(self) -> None:
        for canary in self._control.running(self._ops.system(self.name)):
            try:
                while self.judge(canary):
                    pass
            except Conflict as moved:
                log.info("the canary of %s moved while it was judged: %s", canary.endpoint, moved.message)
            except NoriaError as error:
                log.warning("the canary of %s could not be judged: %s", canary.endpoint, error.message, exc_info=error)

    def judge(self, canary: Canary) -> bool:
        """One look. True when there may be more labels to read for the same step."""
        with self._db.read() as tx:
            found = _look(tx, self._blobs, canary, self._looked)
        if found is None:
            return False
        op = self._ops.system(self.name, cause=found.mark.seq or None)
        is_new = found.used > 0 or found.state.action != found.judgement.action
        if not is_new and (found.judgement.action in ("wait", "hold") or self._is_refused(canary, found.judgement, op)):
            return False
        if is_new and not self._record(op, canary, found):
            return False
        try:
            return self._act(op, canary, found.judgement) and found.used >= LABELS_PER_LOOK
        except Forbidden as refused:
            # Policy may want an approval that somebody gives in an hour. Say so once, and ask again now and then.
            log.warning("the canary of %s may not %s: %s", canary.endpoint, found.judgement.action, refused.message)
            self._refused[canary.id] = (found.judgement.action, op.at_ms + ASK_AGAIN_MS)
            return False

    def _is_refused(self, canary: Canary, judgement: Judgement, op: Op) -> bool:
        action, until_ms = self._refused.get(canary.id, ("", 0))
        return action == judgement.action and op.at_ms < until_ms

    def _record(self, op: Op, canary: Canary, look: Look) -> bool:
        """Keep what the test knows together with how far it has read; False when another judge was faster."""
        judgement = msgspec.structs.replace(look.judgement, number=look.row.judgements + 1, at_ms=op.at_ms)
        look.state.action = judgement.action
        row = msgspec.structs.replace(look.row, judgements=judgement.number, state=msgspec.to_builtins(look.state))
        with self._db.write(op) as tx:
            if not canaries_store.put_canary_test(tx, row, was_label_seq=look.was_label_seq):
                return False
            canaries_store.add_judgement(
                tx, canary.id, judgement.number, canary.endpoint, op.at_ms, judgement.event_at_ms, js(judgement)
            )
        look.judgement = judgement
        return True

    def _act(self, op: Op, canary: Canary, judgement: Judgement) -> bool:
        """Do what was decided; True when the canary goes on as it did. Raises Forbidden, Conflict."""
        evidence = msgspec.to_builtins(judgement)
        if judgement.action == "roll_back":
            self._control.rollback(op, canary.endpoint, judgement.words, evidence)
        elif judgement.action == "promote":
            self._control.promote(op, canary.endpoint, evidence=evidence)
        elif judgement.action == "advance":
            self._control.advance(op, canary.endpoint, evidence=evidence)
        else:
            return True
        return False


def _look(tx: Read, blobs: BlobStore, canary: Canary, looked: dict[str, tuple[int, str]]) -> Look | None:
    """Read the labels since the last look into the test, and decide. None while there is nothing to look at."""
    streams = {s.revision_id: s for s in answers_store.streams(tx, canary.endpoint)}
    mine, theirs = streams.get(canary.revision_id), streams.get(canary.champion_revision_id)
    mark = segments_store.watermark(tx, canary.endpoint)
    if mine is None or theirs is None or mark is None:
        return None
    row = canaries_store.canary_test(tx, canary.id)
    was_label_seq = row.label_seq if row else None
    if row is None:
        row, state = _begin(tx, canary, [mine.id, theirs.id], mark)
    else:
        state = msgspec.convert(row.state, TestState)
    _note_step(state, canary, mark)
    loss_of = LOSSES.get(canary.guard.metric)
    test = CanaryTest.from_dict(state.test)
    labels = answers_store.labelled_after(tx, [mine.id, theirs.id], row.label_seq, limit=LABELS_PER_LOOK) if loss_of else []
    # A segment holds one arm, so that labels may come in blocks of one arm. Within a look they are taken in the order of their truth,
    # which knows no arm; across looks that is not possible, and blocks of 600 cost half the power but no false alarm.
    for label in sorted(labels, key=lambda found: (found.truth_at_ms, found.prediction_id)):
        _use(test, state, label, mine, loss_of) if loss_of else None
    state.test = test.as_dict()
    row = msgspec.structs.replace(row, label_seq=labels[-1].label_seq if labels else row.label_seq)
    first = answers_store.first_event_at(tx, [mine.id], 0)
    champions, canarys = (_profile(tx, stream, first) for stream in (theirs, mine))
    broken, drift = _distribution(champions, canarys, canary.guard)
    if not broken and first is not None and canary.guard.max_fairness_gap is not None:
        answers, broken = looked.get(
            canary.id, (0, "")
        )  # a rollback may be refused: what was found holds until the next look
        if canarys.rows >= answers * LOOK_AGAIN:
            broken = _fairness(tx, blobs, mine, theirs, canary.guard, first, mark.event_at_ms)
            looked[canary.id] = (canarys.rows, broken)
    action, words = decide(
        canary.guard, test, state, broken=broken, is_last_step=canary.is_last_step,
        waited_s=(mark.event_at_ms - state.step_from_ms) / 1000,
    )  # fmt: skip
    low, high = test.bounds(canary.guard.alpha)
    champion, mine_evidence = state.champion.evidence(), state.canary.evidence()
    difference = None
    if champion.mean_loss is not None and mine_evidence.mean_loss is not None:
        difference = mine_evidence.mean_loss - champion.mean_loss
    judgement = Judgement(
        canary_id=canary.id, endpoint=canary.endpoint, number=row.judgements, at_ms=0, event_at_ms=mark.event_at_ms,
        metric=canary.guard.metric, champion=champion, canary=mine_evidence, difference=difference, low=low, high=high,
        evidence_worse=_bounded_exp(test.worse.peak), evidence_not_worse=_bounded_exp(test.not_worse.peak),
        labels_needed=test.labels_needed(canary.guard.alpha), score_psi=drift, action=action, words=words,
    )  # fmt: skip
    return Look(row=row, state=state, judgement=judgement, mark=mark, used=len(labels), was_label_seq=was_label_seq)


def decide(
    guard: Guard, test: CanaryTest, state: TestState, *, broken: str, is_last_step: bool, waited_s: float
) -> tuple[Action, str]:
    """What to do about a canary, and why, in words."""
    seen = _in_words(guard, test, state)
    if guard.metric not in LOSSES:
        return "hold", f"The judge knows no bounded loss for {guard.metric!r}; use one of {', '.join(sorted(LOSSES))}."
    if broken:
        return "roll_back", broken
    if test.is_worse(guard.alpha):
        margin = f" by more than {guard.max_worse:g}" if guard.max_worse else ""
        return "roll_back", f"The canary is worse{margin}: {seen} The chance of a false alarm is at most {guard.alpha:g}."
    verdict = _verdict(guard, test)
    if state.step_labels < guard.min_labels:
        return (
            "wait",
            f"{seen} This step has {state.step_labels} of {guard.min_labels} labels of the canary. {verdict}".rstrip(),
        )
    if waited_s < guard.min_duration_s:
        waited = f"This step has seen {waited_s:.0f} of {guard.min_duration_s:.0f} s of event time."
        return "wait", f"{seen} {waited} {verdict}".rstrip()
    verdict = verdict or "No harm was found, which is no proof that there is none."
    return ("promote" if is_last_step else "advance"), f"{seen} {verdict}"


def _verdict(guard: Guard, test: CanaryTest) -> str:
    """What is known of a canary that is not found to be worse, and how many labels more would tell; nothing of a few labels."""
    margin = f" by more than {guard.max_worse:g}" if guard.max_worse else ""
    if test.is_not_worse(guard.alpha):
        _, high = test.bounds(guard.alpha)
        return (
            f"It is proven to be better, by {-high:.3f} or more." if high < 0 else f"It is proven not to be worse{margin}."
        )
    if test.worse.n < SEEN_MIN:
        return ""
    needed = test.labels_needed(guard.alpha)
    unproven = "No harm was found, which is no proof that there is none"
    if needed is None:
        return f"{unproven}: the arms are so alike that more labels need not tell them apart."
    return f"{unproven}: at this rate about {round_up(needed):,} more labels would tell."


def round_up(count: int) -> int:
    """A guess with the two digits that it deserves."""
    unit: int = 10 ** max(0, len(str(count)) - 2)
    return -(-count // unit) * unit


def _in_words(guard: Guard, test: CanaryTest, state: TestState) -> str:
    champion, canary = state.champion.evidence(), state.canary.evidence()
    total = champion.labels + canary.labels
    if champion.mean_loss is None or canary.mean_loss is None:
        return f"{total} labels, {canary.labels} of the canary."
    low, high = test.bounds(guard.alpha)
    return (
        f"{guard.metric} loss {canary.mean_loss:.3f} against {champion.mean_loss:.3f} after {total} labels, {canary.labels} of the "
        f"canary; the difference lies between {low:+.3f} and {high:+.3f}."
    )


def _begin(tx: Read, canary: Canary, stream_ids: Sequence[int], mark: Watermark) -> tuple[CanaryTestRow, TestState]:
    first = answers_store.first_label_since(tx, stream_ids, canary.stepped_at_ms)
    state = TestState(
        test=CanaryTest.start(canary.guard.max_worse).as_dict(), champion=Arm(), canary=Arm(),
        shares=[(canary.stepped_at_ms, canary.weight)], step=canary.step, step_from_ms=mark.event_at_ms,
    )  # fmt: skip
    row = CanaryTestRow(
        canary_id=canary.id, endpoint=canary.endpoint, label_seq=mark.label_seq if first is None else first - 1, judgements=0,
        state={}, is_over=False,
    )  # fmt: skip
    return row, state


def _note_step(state: TestState, canary: Canary, mark: Watermark) -> None:
    if canary.step == state.step:
        return
    state.step, state.step_labels, state.step_from_ms = canary.step, 0, mark.event_at_ms
    state.shares.append((canary.stepped_at_ms, canary.weight))


def _use(
    test: CanaryTest, state: TestState, label: Labelled, mine: Stream, loss_of: Callable[[Labelled], float | None]
) -> None:
    """Give one label to the test, unless its answer was given outside the split or has no loss."""
    share, since_ms = share_at(state.shares, label.at_ms)
    loss = loss_of(label)
    if loss is None or not 0 < share < 1:
        return
    is_canary = label.stream_id == mine.id
    seen = test.arms.seen
    outcome = label.truth if label.truth in seen or len(seen) < OUTCOMES_MAX else "…"
    test.add(is_canary=is_canary, share=share, loss=loss, outcome=outcome)
    arm = state.canary if is_canary else state.champion
    arm.labels += 1
    arm.loss += loss
    arm.score += label.score or 0.0
    state.step_labels += is_canary and since_ms == state.shares[-1][0]


def share_at(shares: Sequence[tuple[int, int]], at_ms: int) -> tuple[float, int]:
    """The canary's share of the traffic at a time, and since when; 0 before the canary began."""
    for from_ms, percent in reversed(shares):
        if at_ms >= from_ms:
            return percent / 100, from_ms
    return 0.0, 0


def _brier(label: Labelled) -> float | None:
    if label.score is None or label.truth_value is None:
        return None
    return (label.score - label.truth_value) ** 2


def _error(label: Labelled) -> float | None:
    return None if label.prediction is None else float(label.prediction != label.truth)


# Losses in [0, 1]. log_loss is not among them: without a bound, no test of this kind is valid.
LOSSES: dict[str, Callable[[Labelled], float | None]] = {"brier": _brier, "accuracy": _error}


def _profile(tx: Read, stream: Stream, from_ms: int | None) -> Profile:
    """The answers of a stream from the bucket of `from_ms` on; of None there are none."""
    mark = segments_store.watermark(tx, stream.endpoint)
    if from_ms is None or mark is None:
        return Profile()
    return merge_profiles(sketches_store.sketches(tx, [stream.id], from_ms // mark.bucket_ms * mark.bucket_ms, 1 << 62))


def _distribution(champions: Profile, canarys: Profile, guard: Guard) -> tuple[str, float | None]:
    """Without any label: are the canary's answers plainly broken, and how far are its scores from the champion's?"""
    a, b = (profile.columns.get(SCORE, Sketch(labels={})) for profile in (champions, canarys))
    if b.count + b.nulls < ANSWERS_MIN or a.count + a.nulls < ANSWERS_MIN:
        return "", None
    missing = wilson(b.nulls, b.count + b.nulls)
    if missing.low > a.nulls / (a.count + a.nulls) + MISSING_MORE:
        return f"The canary leaves {missing.value:.0%} of its answers without a score; the champion does not.", None
    if len(b.bins) == 1 and len(a.bins) >= 10:
        return f"The canary gives one and the same score to all {b.count} answers.", None
    aligned = align(a, b)
    value = psi(aligned.reference, aligned.current)
    if not math.isfinite(value):
        return "", None
    # Without any drift PSI is about (bins − 1)(1/n + 1/m): what is beyond that is the canary's doing.
    chance = (len(aligned.reference) - 1) * (1 / a.count + 1 / b.count)
    if guard.max_score_psi is not None and value - chance > guard.max_score_psi:
        return (
            f"The canary's scores are {value:.3g} (PSI) from the champion's over {b.count} answers; {guard.max_score_psi:g} is allowed, "
            f"and {chance:.2g} would be chance."
        ), value
    return "", value


def _fairness(tx: Read, blobs: BlobStore, mine: Stream, theirs: Stream, guard: Guard, from_ms: int, upto_ms: int) -> str:
    """Why the canary treats groups less alike than the champion does; empty while it does not, or without a guard.

    The gap is that of positive answers between the extreme groups; it counts when it is beyond chance, too.
    """
    if guard.max_fairness_gap is None:
        return ""
    found = []
    for stream in (mine, theirs):
        rows = read_rows(tx, blobs, [stream.id], from_ms, upto_ms + 1, limit=FAIRNESS_ROWS_MAX)
        if guard.fairness_column not in rows.inputs:
            return ""
        found.append(rates(rows, guard.fairness_column).parity_gap)
    gap, champion = found
    if gap.value is None or champion.value is None or gap.value <= champion.value + guard.max_fairness_gap:
        return ""
    if gap.p_value is None or gap.p_value > guard.alpha:
        return ""
    return (
        f"Between groups of {guard.fairness_column} ({gap.between[0]}, {gap.between[1]}) the canary's positive answers differ by "
        f"{gap.value:.1%}, the champion's by {champion.value:.1%}; {guard.max_fairness_gap:.1%} more is allowed."
    )


def _bounded_exp(value: float) -> float:
    """exp without overflow; evidence beyond 1e300 is evidence enough."""
    return math.exp(min(value, 690.0)) if value > -math.inf else 0.0
