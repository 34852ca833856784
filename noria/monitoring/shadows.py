"""A shadow beside what callers got: how often they differ, by how much, and which of the two the truth agrees with.

A shadow's answer has the prediction id of the answer that was given, so the two are one join. Bounded: the latest COMPARED_MAX pairs.
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from noria.kernel.db import Database, Read
from noria.kernel.errors import Invalid, NotFound
from noria.kernel.ids import Ref
from noria.kernel.op import Op
from noria.monitoring import answers_store
from noria.monitoring.answers_store import Pair
from noria.monitoring.metrics.base import wilson
from noria.monitoring.segments import number

COMPARED_MAX = 100_000
LISTED_MAX = 200


class Disagreement(Struct, frozen=True, kw_only=True):
    """One request to which the two said different things."""

    prediction_id: str
    key: str
    event_at_ms: int
    answer: str | None  # what the caller got
    answer_score: float | None
    shadow: str | None
    shadow_score: float | None
    truth: str | None


class Disagreements(Struct, frozen=True, kw_only=True):
    """A shadow's record. `share` is of `compared`, with its 95 % interval; the two last counts are of disagreements with a truth."""

    endpoint: str
    revision_id: str
    model_version: str
    compared: int
    differ: int
    share: float | None
    low: float | None
    high: float | None
    score_difference: float | None  # mean of |shadow − answer| over all pairs with two scores
    answer_right: int
    shadow_right: int
    words: str
    items: list[Disagreement]


class Shadows:
    """See the module."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def compare(
        self, op: Op, endpoint: str, *, revision: str = "", tolerance: float = 0.0, from_ms: int = 0, limit: int = 50
    ) -> Disagreements:
        """The newest shadow of an endpoint, or the one named. Numbers differ when they are more than `tolerance` apart.
        The single answers are listed for those with `inference.read` only; the counts for all with `endpoint.read`.

        Raises NotFound when nothing has answered in the shadow, Invalid, Forbidden.
        """
        op.require("endpoint.read", Ref("endpoint", endpoint))
        if not 0 <= tolerance < 1e300:
            raise Invalid("tolerance is a number from 0 on.", where="tolerance")
        if not 1 <= limit <= LISTED_MAX:
            raise Invalid(f"limit is between 1 and {LISTED_MAX}.", where="limit")
        with self._db.read() as tx:
            streams = answers_store.streams(tx, endpoint, shadows=True)
            shadows = [s for s in streams if s.is_shadow and revision in ("", s.revision_id)]
            if not shadows:
                raise NotFound(
                    f"Nothing has answered in the shadow of {endpoint!r} yet.", ref=Ref("endpoint", endpoint),
                    hint=f"noria endpoint shadow MODEL@SELECTOR --name {endpoint}",
                )  # fmt: skip
            mine = shadows[-1]
            pairs = _pairs(tx, [s.id for s in streams if not s.is_shadow], mine.id, from_ms)
        apart = [p for p in pairs if differs(p, tolerance)]
        listed = apart[:limit] if op.can("inference.read", Ref("endpoint", endpoint)) else []
        share = wilson(len(apart), len(pairs)) if pairs else None
        both = [
            abs(p.shadow_score - p.answer_score) for p in pairs if p.shadow_score is not None and p.answer_score is not None
        ]
        known = [p for p in apart if p.truth is not None]
        found = Disagreements(
            endpoint=endpoint, revision_id=mine.revision_id, model_version=mine.model_version, compared=len(pairs),
            differ=len(apart), share=share.value if share else None, low=share.low if share else None,
            high=share.high if share else None, score_difference=sum(both) / len(both) if both else None,
            answer_right=sum(p.answer == p.truth for p in known), shadow_right=sum(p.shadow == p.truth for p in known), words="",
            items=[Disagreement(**{f: getattr(p, f) for f in Disagreement.__struct_fields__}) for p in listed],
        )  # fmt: skip
        return _told(found, len(known))


def _pairs(tx: Read, live: list[int], shadow: int, from_ms: int) -> list[Pair]:
    return answers_store.pairs(tx, live, shadow, from_ms, limit=COMPARED_MAX) if live else []


def differs(pair: Pair, tolerance: float) -> bool:
    """Did the two say different things?"""
    if pair.answer == pair.shadow:
        return False
    a, b = number(pair.answer), number(pair.shadow)
    return a is None or b is None or abs(a - b) > tolerance


def _told(found: Disagreements, known: int) -> Disagreements:
    """With the verdict as a sentence."""
    label = found.model_version
    if found.share is None or found.low is None or found.high is None:
        return replace(
            found, words=f"{label} has answered in the shadow, but none of its answers is beside one that was given."
        )
    words = (
        f"{label} said something else in {found.share:.1%} of {found.compared} answers "
        f"(between {found.low:.1%} and {found.high:.1%})."
    )
    if known:
        words += f" Of the {known} whose truth is known it was right in {found.shadow_right}, the answer given in {found.answer_right}."
    return replace(found, words=words)
