"""The nouns of evaluation datasets: questions with what was expected, to judge a program by."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from noria.kernel.facts import Fact, fact
from noria.kernel.ids import Ref

RECORDS_PER_REQUEST = 10_000
RECORDS_PER_PAGE = 1_000  # MLflow's
RECORD_LENGTH_MAX = 1 << 20  # of inputs, outputs, expectations or source, as JSON
EXPERIMENTS_MAX = 100


class EvaluationDataset(Struct, frozen=True, kw_only=True):
    """A named set of records, of use to some experiments."""

    id: str
    name: str
    digest: str = ""
    schema: dict[str, Any] | None = None
    records_count: int = 0
    created_at_ms: int
    updated_at_ms: int
    created_by: str = ""
    updated_by: str = ""
    tags: dict[str, str] = {}
    experiment_ids: list[str] = []

    @property
    def ref(self) -> Ref:
        return Ref("evaluation_dataset", self.id)


class Record(Struct, frozen=True, kw_only=True):
    """One question. Two records of a dataset never have the same inputs."""

    id: str
    dataset_id: str
    inputs: dict[str, Any]
    outputs: Any = None
    expectations: dict[str, Any] | None = None
    tags: dict[str, str] = {}
    source: dict[str, Any] | None = None
    source_type: str = ""
    source_id: str = ""
    created_at_ms: int
    updated_at_ms: int
    created_by: str = ""
    updated_by: str = ""


class RecordIn(Struct, kw_only=True):
    """A record as it is sent."""

    inputs: dict[str, Any] = {}
    outputs: Any = None
    expectations: dict[str, Any] | None = None
    tags: dict[str, str] | None = None
    source: dict[str, Any] | None = None


@fact("evaluation_dataset.created")
class EvaluationDatasetCreated(Fact):
    """An evaluation dataset was begun."""

    name: str


@fact("evaluation_dataset.changed")
class EvaluationDatasetChanged(Fact):
    """Records of an evaluation dataset were added, changed or removed."""

    inserted: int
    updated: int
    deleted: int


@fact("evaluation_dataset.deleted")
class EvaluationDatasetDeleted(Fact):
    """An evaluation dataset was removed with its records."""

    name: str
