"""The nouns of tracking: experiments, runs and their points, files, inputs, logged models; the rules of their names."""

from __future__ import annotations

import re
from functools import lru_cache
from posixpath import normpath
from typing import Any, Literal
from urllib.parse import unquote

from msgspec import Struct

from noria.kernel.errors import Invalid
from noria.kernel.facts import Fact, fact
from noria.kernel.ids import ExperimentId, Ref, RunId

DEFAULT_EXPERIMENT = ExperimentId("0")  # MLflow's client logs here when nobody chose an experiment.

POINTS_PER_BATCH = 1000  # MLflow's limits of one log-batch request
PARAMS_PER_BATCH = 100
TAGS_PER_BATCH = 100
ENTITIES_PER_BATCH = 1000
PAIRS_PER_REQUEST = 1_000  # tags, or params, of one request that is no batch: to begin an experiment, a run or a model
KEY_LENGTH_MAX = 250
NAME_LENGTH_MAX = 500  # of an experiment
VALUE_LENGTH_MAX = 65_536  # MLflow promises 6,000 for a param and 8,000 for a tag; longer ones are kept, never cut
PATH_LENGTH_MAX = 2_048
LOG_CHUNK_BYTES_MAX = 1 << 20
LOG_BYTES_MAX = 64 << 20  # of one run; a run that prints more keeps its log as an artifact

Stage = Literal["active", "deleted"]
Status = Literal["RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"]
STATUSES: tuple[str, ...] = ("RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED")
ENDED: frozenset[str] = frozenset({"FINISHED", "FAILED", "KILLED"})
ModelStatus = Literal["LOGGED_MODEL_PENDING", "LOGGED_MODEL_READY", "LOGGED_MODEL_UPLOAD_FAILED"]
MODEL_STATUSES: tuple[str, ...] = ("LOGGED_MODEL_PENDING", "LOGGED_MODEL_READY", "LOGGED_MODEL_UPLOAD_FAILED")

# The context of a run, as tags: MLflow's own names where it has one.
RUN_NAME_TAG = "mlflow.runName"
USER_TAG = "mlflow.user"
MODEL_HISTORY_TAG = "mlflow.log-model.history"
COMMIT_TAG = "mlflow.source.git.commit"
DIRTY_TAG = "mlflow.source.git.dirty"
DIFF_TAG = "noria.source.diff_digest"
ARGV_TAG = "noria.argv"
ENVIRONMENT_TAG = "noria.environment_digest"
DATASET_VERSION_TAG = "noria.dataset_version"


class Experiment(Struct, frozen=True, kw_only=True):
    """A named question that runs try to answer."""

    id: ExperimentId
    name: str
    stage: Stage = "active"
    created_at_ms: int
    updated_at_ms: int
    actor: str = ""
    tags: dict[str, str] = {}
    runs_count: int = 0

    @property
    def artifact_uri(self) -> str:
        return f"mlflow-artifacts:/{self.id}"


class Point(Struct, frozen=True, kw_only=True, gc=False):
    """One number of a run. `value` may be NaN or infinite; `model_id` says which logged model it measures, if any."""

    key: str
    value: float
    at_ms: int
    step: int = 0
    model_id: str = ""
    dataset_name: str = ""
    dataset_digest: str = ""


class DatasetInput(Struct, frozen=True, kw_only=True):
    """Data that a run read. `dataset_version` is the id of the version in Noria, when it is one."""

    name: str
    digest: str
    source_type: str = ""
    source: str = ""
    schema: str = ""
    profile: str = ""
    tags: dict[str, str] = {}
    dataset_version: str = ""


class ModelUse(Struct, frozen=True, kw_only=True):
    """A logged model that a run read or wrote."""

    model_id: str
    direction: Literal["input", "output"]
    step: int = 0


class Run(Struct, frozen=True, kw_only=True):
    """One attempt: its settings, its latest numbers, where it came from."""

    id: RunId
    experiment_id: ExperimentId
    name: str
    status: Status
    stage: Stage = "active"
    started_at_ms: int
    ended_at_ms: int | None = None
    user: str = ""
    actor: str = ""
    source_commit: str = ""
    source_dirty: bool = False
    source_diff_digest: str = ""
    argv: str = ""
    environment_digest: str = ""
    log_bytes: int = 0
    tags: dict[str, str] = {}
    params: dict[str, str] = {}
    metrics: dict[str, float] = {}
    points: list[Point] = []  # the latest point of each key, with its step and time
    inputs: list[DatasetInput] = []
    models: list[ModelUse] = []

    @property
    def ref(self) -> Ref:
        return Ref("run", self.id)

    @property
    def artifact_uri(self) -> str:
        return f"mlflow-artifacts:/{self.experiment_id}/{self.id}/artifacts"


class Artifact(Struct, frozen=True, kw_only=True):
    """A file of a run or a logged model, or a folder of them."""

    path: str
    is_dir: bool = False
    size_bytes: int = 0
    digest: str = ""
    at_ms: int = 0


class LoggedModel(Struct, frozen=True, kw_only=True):
    """A model that a run wrote: its files, params, tags and the numbers measured on it."""

    id: str
    experiment_id: ExperimentId
    name: str
    model_type: str = ""
    source_run_id: str = ""
    status: ModelStatus = "LOGGED_MODEL_PENDING"
    status_message: str = ""
    stage: Stage = "active"
    created_at_ms: int
    updated_at_ms: int
    actor: str = ""
    tags: dict[str, str] = {}
    params: dict[str, str] = {}
    points: list[ModelPoint] = []

    @property
    def ref(self) -> Ref:
        return Ref("logged_model", self.id)

    @property
    def artifact_uri(self) -> str:
        return f"mlflow-artifacts:/{self.experiment_id}/models/{self.id}/artifacts"


class ModelPoint(Struct, frozen=True, kw_only=True):
    """A number measured on a logged model, by the run that measured it."""

    model_id: str
    run_id: str
    key: str
    value: float
    at_ms: int
    step: int = 0
    dataset_name: str = ""
    dataset_digest: str = ""


class NewRun(Struct, frozen=True, kw_only=True):
    """A request to start a run, in an experiment named or given by id."""

    experiment: str = ""
    experiment_id: str = ""
    name: str = ""
    tags: dict[str, str] = {}
    started_at_ms: int | None = None
    id: str = ""  # made by the client, which may repeat the request; the server makes one when it is empty


class RunChange(Struct, frozen=True, kw_only=True):
    """What to change of a run; None leaves it."""

    name: str | None = None
    status: Status | None = None
    ended_at_ms: int | None = None
    tags: dict[str, str] = {}


class LogText(Struct, frozen=True, kw_only=True):
    """Text to append to a run's log. `offset`: where the writer believes it goes, in bytes; a repeated text is kept once."""

    text: str
    offset: int | None = None


class LogPage(Struct, frozen=True, kw_only=True):
    """A part of a run's log, from `offset`; read on from `next_offset`."""

    text: str
    offset: int
    next_offset: int
    size_bytes: int
    is_ended: bool


class RunColumns(Struct, frozen=True, kw_only=True):
    """A page of runs by column. Absent values are null; NaN and the infinities are strings: JSON has no numbers for them."""

    ids: list[str]
    columns: dict[str, list[Any]]
    next: str | None = None


@fact("experiment.created")
class ExperimentCreated(Fact):
    """An experiment was begun."""

    name: str


@fact("experiment.renamed")
class ExperimentRenamed(Fact):
    """An experiment got another name."""

    name: str
    was: str


@fact("experiment.deleted")
class ExperimentDeleted(Fact):
    """An experiment was put away; it can be restored."""

    name: str


@fact("experiment.restored")
class ExperimentRestored(Fact):
    """An experiment was brought back."""

    name: str


@fact("run.created")
class RunCreated(Fact):
    """A run began."""

    experiment_id: str
    name: str


@fact("run.started")
class RunStarted(Fact):
    """A run logged its first number."""

    experiment_id: str


@fact("run.finished")
class RunFinished(Fact):
    """A run ended: FINISHED, FAILED or KILLED."""

    experiment_id: str
    status: str


@fact("run.deleted")
class RunDeleted(Fact):
    """A run was put away; it can be restored."""

    experiment_id: str


@fact("run.tagged")
class RunTagged(Fact):
    """A run's tags were changed along with those of others; null: removed."""

    experiment_id: str
    tags: dict[str, str | None]


@fact("run.restored")
class RunRestored(Fact):
    """A run was brought back."""

    experiment_id: str


@fact("logged_model.created")
class LoggedModelCreated(Fact):
    """A run logged a model."""

    experiment_id: str
    name: str
    run_id: str


@fact("logged_model.deleted")
class LoggedModelDeleted(Fact):
    """A logged model was put away."""

    experiment_id: str


@fact("logged_model.restored")
class LoggedModelRestored(Fact):
    """A logged model was brought back."""

    experiment_id: str


# --- names and paths ----------------------------------------------------------------------------------------------------

_KEY = re.compile(r"[/\w.\- :]*")  # MLflow's rule for params, metrics and tags
_RUN_ID = re.compile(r"[a-zA-Z0-9][\w\-]{0,255}", re.ASCII)
_DRIVE = re.compile(r"[a-zA-Z]:")
_DECODES_MAX = 5


@lru_cache(maxsize=65_536)
def check_key(key: str, what: str) -> str:
    """`key` if it can name a param, metric or tag, by MLflow's rule. Raises Invalid."""
    if not key:
        raise Invalid(f"A {what} needs a name.", where="key")
    if len(key) > KEY_LENGTH_MAX:
        raise Invalid(f"The {what} name has {len(key)} characters; at most {KEY_LENGTH_MAX} are allowed.", where="key")
    if not _KEY.fullmatch(key):
        raise Invalid(
            f"{_shown(key)} cannot be the name of a {what}.", where="key",
            hint="Names may only contain letters, digits, underscores, dashes, periods, spaces, colons and slashes.",
        )  # fmt: skip
    norm = normpath(key)
    if norm != key or norm == "." or norm.startswith(("..", "/")):
        raise Invalid(f"{_shown(key)} cannot be the name of a {what}: as a path it would be {norm!r}.", where="key")
    return key


def check_value(key: str, value: str, what: str) -> str:
    """`value` if it can be the value of a param or tag. Raises Invalid: nothing is ever cut."""
    if len(value) > VALUE_LENGTH_MAX:
        raise Invalid(
            f"The {what} {key!r} has {len(value)} characters; at most {VALUE_LENGTH_MAX} are allowed.", where="value",
            hint="Log it as an artifact.",
        )  # fmt: skip
    return value


def check_count(pairs: dict[str, str], what: str) -> None:
    """Raises Invalid for more pairs than one request may bring: each is a row, written in one transaction."""
    if len(pairs) > PAIRS_PER_REQUEST:
        raise Invalid(
            f"At most {PAIRS_PER_REQUEST} {what}s fit one request. Got {len(pairs)}.", where=f"{what}s",
            hint="Send it in several requests.",
        )  # fmt: skip


def check_run_id(run_id: str) -> str:
    """`run_id` if it can be one. Raises Invalid."""
    if not _RUN_ID.fullmatch(run_id):
        raise Invalid(f"{_shown(run_id)} cannot be the id of a run.", where="run_id")
    return run_id


def check_new_run_id(run_id: str) -> str:
    """`run_id` if a client may give it to a new run. Raises Invalid."""
    check_run_id(run_id)
    if run_id.startswith("m-"):
        raise Invalid(f"{_shown(run_id)} cannot be the id of a run: logged models are called so.", where="id")
    return run_id


def check_path(path: str, *, what: str = "artifact path") -> str:
    """`path` if it names a file below its root in every spelling; '' is the root itself. Raises Invalid.

    Paths are rows and bytes lie under digests, so nothing could escape; but other programs turn these names into files.
    A path is refused when it, or what it becomes when percent-decoded any number of times, is absolute, climbs, or contains
    a backslash or a control character.
    """
    if len(path) > PATH_LENGTH_MAX:
        raise Invalid(f"The {what} has {len(path)} characters; at most {PATH_LENGTH_MAX} are allowed.", where="path")
    spelling = path
    for _ in range(_DECODES_MAX):
        if not _is_inside(spelling):
            raise Invalid(
                f"{_shown(path)} cannot be an {what}.", where="path",
                hint="Write a relative path with forward slashes, without empty, '.' or '..' parts.",
            )  # fmt: skip
        decoded = unquote(spelling)
        if decoded == spelling:
            return path
        spelling = decoded
    raise Invalid(f"{_shown(path)} cannot be an {what}: it is percent-encoded too often.", where="path")


def _is_inside(path: str) -> bool:
    if path == "":
        return True
    if _DRIVE.match(path) or path.startswith("~") or any(c == "\\" or c == "\x7f" or c < " " for c in path):
        return False
    return all(part not in ("", ".", "..") for part in path.split("/"))


def _shown(text: str) -> str:
    return ascii(text if len(text) <= 80 else text[:80] + "…")
