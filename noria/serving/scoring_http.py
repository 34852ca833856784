"""The routes of batch scoring, which its pipeline asks."""

from __future__ import annotations

from noria.http.route import Routes, post
from noria.kernel.op import Op
from noria.serving.scoring import Scorings
from noria.serving.scoring_model import Scored, ScoredSegment, Scoring, ScoringRequest


def routes(scorings: Scorings) -> Routes:
    @post("/api/v1/scoring/check", action="model.score")
    def check_scoring(op: Op, data: ScoringRequest) -> Scoring:
        """May this model score this data? Which version of each that is."""
        return scorings.check(op, data)

    @post("/api/v1/scoring/results", action="model.score", status_code=204)
    def note_scored(op: Op, data: Scored) -> None:
        """A dataset version holds what a model says of another one."""
        scorings.note(op, data)

    @post("/api/v1/scoring/segments", action="endpoint.predict", status_code=204)
    def record_scored(op: Op, data: ScoredSegment) -> None:
        """Record predictions of a batch like those that the endpoint gave."""
        scorings.record(op, data)

    return [check_scoring, note_scored, record_scored]
