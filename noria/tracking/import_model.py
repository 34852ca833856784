"""What comes from elsewhere with the ids and times it had there: experiments, runs and logged models, and how they are sealed."""

from __future__ import annotations

from msgspec import Struct

from noria.kernel.facts import Fact, fact
from noria.tracking.model import DatasetInput, ModelStatus, ModelUse, Stage, Status

SOURCE_TAG = "noria.import.source"  # where it came from; on everything an import began
SEALED_TAG = "noria.import.at"  # when it was found to be complete; an import leaves such a run alone
IMPORT_TAGS = (SOURCE_TAG, SEALED_TAG)


class ImportedExperiment(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An experiment as it was elsewhere; one of the same name here takes its runs."""

    name: str
    created_at_ms: int
    updated_at_ms: int
    tags: dict[str, str] = {}


class ImportedRun(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A run as it was elsewhere, without its points and files. Repeating the request changes nothing."""

    id: str
    experiment_id: str  # here
    source: str
    started_at_ms: int
    name: str = ""
    user: str = ""
    tags: dict[str, str] = {}
    params: dict[str, str] = {}
    inputs: list[DatasetInput] = []
    models: list[ModelUse] = []


class ImportedModel(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A logged model as it was elsewhere, without its numbers and files."""

    id: str
    experiment_id: str  # here
    source: str
    created_at_ms: int
    updated_at_ms: int
    name: str = ""
    model_type: str = ""
    source_run_id: str = ""
    tags: dict[str, str] = {}
    params: dict[str, str] = {}


class ImportedNumber(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A number that a run measured on a logged model. `value`: a number, or NaN, Infinity, -Infinity."""

    run_id: str
    key: str
    value: float | str
    at_ms: int
    step: int = 0
    dataset_name: str = ""
    dataset_digest: str = ""


class ImportedNumbers(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Numbers of a logged model; those that are there already change nothing."""

    points: list[ImportedNumber]


class Counts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What belongs to a run or a logged model. `params`, `tags`: without those of the import itself."""

    points: int = 0
    params: int = 0
    tags: int = 0
    inputs: int = 0
    files: int = 0
    file_bytes: int = 0


class SealRun(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a run ended elsewhere, and what it must consist of by now. `is_complete`: it will get nothing more."""

    status: Status
    expect: Counts
    ended_at_ms: int | None = None
    stage: Stage = "active"
    deleted_at_ms: int | None = None
    is_complete: bool = True


class SealModel(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a logged model stood elsewhere, and what it must consist of by now."""

    status: ModelStatus
    expect: Counts
    updated_at_ms: int
    status_message: str = ""
    stage: Stage = "active"


class Begun(Struct, frozen=True, kw_only=True):
    """What an import found: is it new, is it complete already, and what of it could not be kept, with reasons."""

    id: str
    is_new: bool
    is_sealed: bool
    stage: Stage
    left_out: list[str] = []


@fact("run.imported")
class RunImported(Fact):
    """A run came from elsewhere, with its id and its times."""

    experiment_id: str
    name: str
    source: str


@fact("logged_model.imported")
class LoggedModelImported(Fact):
    """A logged model came from elsewhere, with its id and its times."""

    experiment_id: str
    name: str
    source: str
