"""The judge of a canary: rolls back a worse one, promotes a good one, waits for labels; against a small serving of its own."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from noria.kernel.errors import Conflict, Forbidden
from noria.kernel.ids import ModelVersionId, RevisionId
from noria.kernel.op import Op
from noria.monitoring.canary import CanaryJudge, TestState, decide, share_at
from noria.monitoring.model import Judgement
from noria.monitoring.sequential import CanaryTest
from noria.serving.model import Canary, Guard
from tests.conftest import Noria
from tests.monitoring.given import DAY, HOUR, answers, rows_of, truths

assert ModelVersionId


class SmallServing:
    """One endpoint with one canary; keeps what it was told."""

    def __init__(self, guard: Guard, steps: list[int], *, at_ms: int = 0) -> None:
        self.open: Canary | None = Canary(
            id="c1", endpoint="flights", revision_id=RevisionId("r2"), champion_revision_id=RevisionId("r1"), model_version=2,
            steps=steps, step=0, guard=guard, state="running", started_at_ms=at_ms, stepped_at_ms=at_ms,
        )  # fmt: skip
        self.told: list[tuple[str, str]] = []
        self.evidence: dict[str, Any] = {}
        self.causes: list[int | None] = []
        self.refuses = False

    def running(self, op: Op) -> list[Canary]:
        return [self.open] if self.open else []

    def advance(self, op: Op, name: str, *, evidence: dict[str, Any] | None = None) -> Canary:
        assert self.open
        self._tell(op, "advance", "", evidence)
        self.open = msgspec.structs.replace(self.open, step=self.open.step + 1, stepped_at_ms=op.at_ms)
        return self.open

    def promote(self, op: Op, name: str, *, evidence: dict[str, Any] | None = None) -> None:
        self._tell(op, "promote", "", evidence)
        self.open = None

    def rollback(self, op: Op, name: str, reason: str, evidence: dict[str, Any] | None = None) -> None:
        self._tell(op, "roll_back", reason, evidence)
        self.open = None

    def _tell(self, op: Op, action: str, reason: str, evidence: dict[str, Any] | None) -> None:
        if self.refuses:
            raise Forbidden("Policy refuses: an approval is missing.")
        if self.open is None:
            raise Conflict("There is no canary.")
        self.told.append((action, reason))
        self.evidence = evidence or {}
        self.causes.append(op.cause)


GUARD = Guard(min_labels=50, max_worse=0.02)


def traffic(
    noria: Noria, rng: Any, n: int, *, day: int, canary_score: Any, share: float = 0.25, labels: bool = True, at_ms: int = 1
) -> None:
    """`n` answers of both arms on one day with their truths; the champion's scores are right."""
    chance = rng.beta(1.5, 3, n)
    late = rng.random(n) < chance
    arms = rng.random(n) < share
    ids = [f"{day}-{i}-{rng.integers(1 << 40)}" for i in range(n)]
    for revision, version, mine in (("r1", 1, ~arms), ("r2", 2, arms)):
        rows = [
            {"id": ids[i], "event_at_ms": day * DAY + i * 1000, "at_ms": at_ms,
             "score": float(chance[i]) if revision == "r1" else canary_score(float(chance[i]))}
            for i in np.flatnonzero(mine)
        ]  # fmt: skip
        answers(noria, rows, settle=False, revision=revision, version=version)
    if labels:
        known = [{"id": ids[i], "value": float(late[i]), "at_ms": day * DAY + i * 1000 + HOUR} for i in range(n)]
        truths(noria, known, settle=False)
    noria.settle()


def judged(noria: Noria) -> list[Judgement]:
    items = noria.http.get("/api/v1/endpoints/flights/canary/evidence").json()["items"]
    return msgspec.convert(items, list[Judgement])


@pytest.fixture
def rng() -> Any:
    return np.random.default_rng(5)


def test_a_worse_canary_is_rolled_back_with_its_evidence(noria: Noria, rng: Any) -> None:
    serving = SmallServing(GUARD, [25])
    judge = CanaryJudge(noria.app.db, noria.app.ops, noria.app.blobs, serving)
    for day in range(10, 20):
        traffic(noria, rng, 150, day=day, canary_score=lambda p: 1 - p / 4)
        judge.reconcile()
        if not serving.open:
            break
    [(action, reason)] = serving.told
    assert action == "roll_back"
    assert "The canary is worse by more than 0.02: brier loss" in reason
    last = judged(noria)[-1]
    assert last.action == "roll_back"
    assert last.low > 0.02
    assert last.difference is not None and last.low < last.difference < last.high
    assert last.evidence_worse >= 20
    assert serving.evidence["words"] == last.words
    assert serving.causes == [noria.facts("truth.written")[-1].seq]
    assert [j.number for j in judged(noria)] == list(range(1, len(judged(noria)) + 1))


def test_a_good_canary_advances_and_is_promoted(noria: Noria, rng: Any) -> None:
    serving = SmallServing(GUARD, [25, 50])
    judge = CanaryJudge(noria.app.db, noria.app.ops, noria.app.blobs, serving)
    for day in range(10, 30):
        noria.clock.advance(60)
        traffic(
            noria, rng, 150, day=day, canary_score=lambda p: p, share=0.25 if day < 12 else 0.5, at_ms=noria.clock.now_ms()
        )
        judge.reconcile()
        if not serving.open:
            break
    assert [action for action, _ in serving.told] == ["advance", "promote"]
    last = judged(noria)[-1]
    assert (last.action, last.canary.labels >= 100) == ("promote", True)
    assert "no harm was found" in last.words.lower() or "proven not to be worse" in last.words


def test_without_labels_it_waits(noria: Noria, rng: Any) -> None:
    serving = SmallServing(GUARD, [25])
    judge = CanaryJudge(noria.app.db, noria.app.ops, noria.app.blobs, serving)
    traffic(noria, rng, 400, day=10, canary_score=lambda p: p, labels=False)
    for _ in range(3):
        judge.reconcile()
    assert serving.told == []
    assert judged(noria) == []


def test_answers_without_a_score_roll_back_without_any_label(noria: Noria, rng: Any) -> None:
    serving = SmallServing(GUARD, [25])
    traffic(noria, rng, 600, day=10, canary_score=lambda p: None if p < 0.4 else p, labels=False)
    CanaryJudge(noria.app.db, noria.app.ops, noria.app.blobs, serving).reconcile()
    assert [a for a, _ in serving.told] == ["roll_back"]
    assert "without a score" in serving.told[0][1]


def test_one_answer_for_all_rolls_back_without_any_label(noria: Noria, rng: Any) -> None:
    serving = SmallServing(GUARD, [25])
    traffic(noria, rng, 600, day=10, canary_score=lambda p: 0.3, labels=False)
    CanaryJudge(noria.app.db, noria.app.ops, noria.app.blobs, serving).reconcile()
    assert "one and the same score" in serving.told[0][1]


@pytest.mark.parametrize(("limit", "is_back"), [(None, False), (0.9, False), (0.2, True)])
def test_scores_that_drift_from_the_champions_roll_back_without_any_label(
    noria: Noria, rng: Any, limit: float | None, is_back: bool
) -> None:
    serving = SmallServing(Guard(max_score_psi=limit), [25])
    traffic(noria, rng, 1200, day=10, canary_score=lambda p: p**0.6, labels=False)
    CanaryJudge(noria.app.db, noria.app.ops, noria.app.blobs, serving).reconcile()
    assert (serving.open is None) == is_back
    if is_back:
        assert "(PSI) from the champion's" in serving.told[0][1] and serving.evidence["score_psi"] > 0.2


def test_scores_that_are_the_champions_pass_a_narrow_guard(noria: Noria, rng: Any) -> None:
    """With few answers PSI is far from 0 by chance; that is not the canary's doing."""
    serving = SmallServing(Guard(max_score_psi=0.05), [25])
    traffic(noria, rng, 500, day=10, canary_score=lambda p: p, labels=False)
    CanaryJudge(noria.app.db, noria.app.ops, noria.app.blobs, serving).reconcile()
    assert serving.open and serving.told == []


@pytest.mark.parametrize(("limit", "is_back"), [(0.1, True), (0.6, False)])
def test_a_canary_that_treats_groups_less_alike_is_rolled_back(noria: Noria, rng: Any, limit: float, is_back: bool) -> None:
    serving = SmallServing(Guard(max_fairness_gap=limit, fairness_column="origin"), [50])
    for revision, version, favour in (("r1", 1, 0.0), ("r2", 2, 0.4)):
        rows = []
        for i in range(400):
            origin = ("EWR", "JFK")[i % 2]
            said = float(rng.random() < 0.4 + (favour if origin == "JFK" else 0.0))
            rows.append(
                {
                    "event_at_ms": 10 * DAY + i * 1000,
                    "score": 0.3 + said / 3,
                    "prediction": said,
                    "in_origin": origin,
                    "at_ms": 1,
                }
            )
        answers(noria, rows, settle=False, revision=revision, version=version)
    noria.settle()
    judge = CanaryJudge(noria.app.db, noria.app.ops, noria.app.blobs, serving)
    judge.reconcile()
    assert (serving.open is None) == is_back, serving.told
    if is_back:
        assert "Between groups of origin (EWR, JFK)" in serving.told[0][1]


def by_origin(noria: Noria, n: int, *, canary: float | None, start: int = 0) -> None:
    """`n` answers of each arm in turn from two origins; the champion says yes to 40 % of both, the canary to `canary` of one."""
    for revision, version, favoured in (("r1", 1, 0.4), ("r2", 2, canary)):
        if favoured is None:
            continue
        rows = []
        for i in range(n):
            said = float(i // 2 % 10 < 10 * (favoured if i % 2 else 0.4))
            rows.append({
                "event_at_ms": 10 * DAY + (start + i) * 1000, "score": 0.3 + said / 3, "prediction": said,
                "in_origin": ("EWR", "JFK")[i % 2], "at_ms": 1,
            })  # fmt: skip
        answers(noria, rows, settle=False, revision=revision, version=version)
    noria.settle()


def test_an_unfair_canary_is_seen_however_long_the_endpoint_has_answered(noria: Noria) -> None:
    serving = SmallServing(Guard(max_fairness_gap=0.1, fairness_column="origin"), [50])
    judge = CanaryJudge(noria.app.db, noria.app.ops, noria.app.blobs, serving)
    by_origin(noria, 4000, canary=None)
    by_origin(noria, 40, canary=0.4, start=4000)
    judge.reconcile()
    assert serving.told == []
    by_origin(noria, 100, canary=0.9, start=4100)  # few beside the champion's four thousand
    judge.reconcile()
    assert [action for action, _ in serving.told] == ["roll_back"]


def test_a_rollback_that_was_refused_is_not_forgotten(noria: Noria) -> None:
    serving = SmallServing(Guard(max_fairness_gap=0.1, fairness_column="origin"), [50])
    judge = CanaryJudge(noria.app.db, noria.app.ops, noria.app.blobs, serving)
    serving.refuses = True
    by_origin(noria, 200, canary=0.9)
    judge.reconcile()
    assert serving.open and judged(noria)[-1].action == "roll_back"
    serving.refuses = False
    noria.clock.advance(60)
    judge.reconcile()
    assert [action for action, _ in serving.told] == ["roll_back"]


def test_answers_from_before_the_canary_do_not_count(noria: Noria, rng: Any) -> None:
    traffic(noria, rng, 300, day=10, canary_score=lambda p: 1 - p, at_ms=1_000)
    serving = SmallServing(GUARD, [25], at_ms=2_000)
    judge = CanaryJudge(noria.app.db, noria.app.ops, noria.app.blobs, serving)
    judge.reconcile()
    assert serving.told == []
    traffic(noria, rng, 40, day=11, canary_score=lambda p: p, at_ms=3_000)
    judge.reconcile()
    last = judged(noria)[-1]
    assert last.champion.labels + last.canary.labels == 40


def test_every_label_is_used_once_whoever_looks_and_how_often(noria: Noria, rng: Any) -> None:
    serving = SmallServing(msgspec.structs.replace(GUARD, min_labels=10_000), [25])
    for day in (10, 11):
        traffic(noria, rng, 100, day=day, canary_score=lambda p: p)
        for _ in range(2):
            CanaryJudge(
                noria.app.db, noria.app.ops, noria.app.blobs, serving
            ).reconcile()  # a new one each time, as after a restart
    counts = [j.champion.labels + j.canary.labels for j in judged(noria)]
    assert counts == [100, 200]
    assert [r["judgements"] for r in rows_of(noria, "select judgements from canary_test")] == [2]


def test_a_refusal_of_policy_is_asked_again_later_not_all_the_time(noria: Noria, rng: Any) -> None:
    serving = SmallServing(GUARD, [25])
    serving.refuses = True
    judge = CanaryJudge(noria.app.db, noria.app.ops, noria.app.blobs, serving)
    traffic(noria, rng, 600, day=10, canary_score=lambda p: p)
    for _ in range(3):
        judge.reconcile()
    assert len(judged(noria)) == 1
    serving.refuses = False
    judge.reconcile()
    assert serving.told == []
    noria.clock.advance(20)
    judge.reconcile()
    assert [a for a, _ in serving.told] == ["promote"]


def test_a_promotion_that_a_crash_interrupted_is_done_after_the_restart(noria: Noria, rng: Any) -> None:
    serving = SmallServing(GUARD, [25])
    serving.refuses = True
    traffic(noria, rng, 600, day=10, canary_score=lambda p: p)
    CanaryJudge(noria.app.db, noria.app.ops, noria.app.blobs, serving).reconcile()
    serving.refuses = False
    CanaryJudge(noria.app.db, noria.app.ops, noria.app.blobs, serving).reconcile()
    assert [a for a, _ in serving.told] == ["promote"]
    assert len(judged(noria)) == 1


def _state(**fields: Any) -> TestState:
    from noria.monitoring.canary import Arm

    defaults: dict[str, Any] = {
        "test": {}, "champion": Arm(labels=30, loss=6.0), "canary": Arm(labels=10, loss=2.0), "shares": [(0, 25)], "step": 0,
        "step_labels": 10,
    }  # fmt: skip
    return TestState(**{**defaults, **fields})


@pytest.mark.parametrize(
    ("guard", "step_labels", "waited_s", "is_last", "broken", "action", "words"),
    [
        (Guard(min_labels=11), 10, 0.0, True, "", "wait", "This step has 10 of 11 labels of the canary."),
        (Guard(min_labels=10, min_duration_s=60), 10, 59.0, True, "", "wait", "This step has seen 59 of 60 s of event time."),
        (Guard(min_labels=10), 10, 0.0, False, "", "advance", "No harm was found, which is no proof that there is none."),
        (Guard(min_labels=10, max_worse=0.1), 10, 0.0, True, "", "promote", "No harm was found"),
        (Guard(min_labels=10), 10, 0.0, True, "It is broken.", "roll_back", "It is broken."),
        (Guard(metric="log_loss", min_labels=10), 10, 0.0, True, "", "hold", "The judge knows no bounded loss for 'log_loss'"),
    ],
)  # fmt: skip
def test_decisions(
    guard: Guard, step_labels: int, waited_s: float, is_last: bool, broken: str, action: str, words: str
) -> None:
    found, said = decide(
        guard, CanaryTest.start(guard.max_worse), _state(step_labels=step_labels), broken=broken, is_last_step=is_last,
        waited_s=waited_s,
    )  # fmt: skip
    assert found == action
    assert words in said


def test_the_share_is_that_of_the_time_of_the_answer() -> None:
    shares = [(100, 25), (200, 50)]
    assert [share_at(shares, t) for t in (99, 100, 199, 200)] == [(0.0, 0), (0.25, 100), (0.25, 100), (0.5, 200)]
