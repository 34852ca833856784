"""The nouns of batch scoring: what is asked for, what the door answers, and what came of it."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from noria.kernel.facts import Fact, fact
from noria.serving.model import ModelFileInfo


class ScoringRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model version (`flights@champion`) or an endpoint (`flights`), and the dataset version it is to score.

    `output`: the dataset that is to get the predictions. `record`: the predictions are to be recorded like those of the endpoint.
    """

    model: str
    dataset: str
    output: str = ""
    record: bool = False


class Scoring(Struct, frozen=True, kw_only=True):
    """The door says yes: exactly which model, exactly which data. `endpoint` and `revision_id` when it was named by its endpoint."""

    model: str
    number: int
    version_id: str
    digest: str
    files: list[ModelFileInfo]
    signature: dict[str, Any] | None
    dataset: str
    dataset_number: int
    dataset_version_id: str
    endpoint: str = ""
    revision_id: str = ""


class Scored(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The dataset version `output` holds what a model version says of another dataset version. All three by id."""

    model_version: str
    dataset_version: str
    output: str
    rows: int
    pipeline_run: str = ""


class ScoredSegment(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file of predictions, stored under its digest, that is to be recorded like those of an endpoint."""

    endpoint: str
    revision_id: str
    digest: str
    rows: int
    size_bytes: int
    at_ms: int


@fact("dataset_version.scored")
class DatasetVersionScored(Fact):
    """The version holds what a model says of the rows of another version."""

    model: str
    number: int
    source: str
    rows: int
