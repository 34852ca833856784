"""The nouns of registry: models, their numbered versions, aliases that move, and evaluations."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, NewType

from blake3 import blake3
from msgspec import Struct

from noria.kernel.errors import Invalid
from noria.kernel.facts import Fact, fact
from noria.kernel.ids import ModelVersionId, Ref
from noria.tracking.model import check_key

ModelId = NewType("ModelId", str)

FILES_PER_VERSION = 10_000  # A model directory has tens of files; beyond this it is a dataset.
TAG_LENGTH_MAX = 100_000  # MLflow's limit for a model version tag's value.
TAGS_PER_REQUEST = 1_000  # Each is a row, written in one transaction.
DESCRIPTION_LENGTH_MAX = 100_000
METRICS_PER_EVALUATION = 1_000
REASON_LENGTH_MAX = 2_000

# The tags that make a model, or a version of it, a prompt. Source: mlflow/prompt/constants.py of MLflow 3.
PROMPT_TAG = "mlflow.prompt.is_prompt"
TEXT_TAG = "mlflow.prompt.text"
TYPE_TAG = "_mlflow_prompt_type"
FIXED_TAGS = (PROMPT_TAG, TEXT_TAG, TYPE_TAG)
STAGE_TAG = "mlflow.stage"  # the older MLflow's way of saying which version is used
GATED_STAGES = ("Staging", "Production")  # a move to these asks policy as the move of an alias of that name does
_ALIAS = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_\-.]{0,254}\Z")
_NOT_AN_ALIAS = re.compile(r"^(?:latest|v?\d+|[0-9a-f]{32})\Z", re.IGNORECASE)


class Alias(Struct, frozen=True, kw_only=True):
    """A movable name of a model: `champion → 7`."""

    model: str
    name: str
    version: int
    generation: int  # compare-and-set; starts at 1, +1 per move
    moved_at_ms: int
    actor: str

    @property
    def ref(self) -> Ref:
        return Ref("alias", f"{self.model}@{self.name}")


class Evaluation(Struct, frozen=True, kw_only=True):
    """Numbers of one version on one split of one dataset version. The latest per (dataset version, split) counts."""

    dataset_version: str  # the id of a dataset version
    split: str
    metrics: dict[str, float]
    at_ms: int = 0  # 0: the time of the operation that records it
    slices: dict[str, dict[str, float]] = {}  # "origin=EWR" → metrics of that slice
    actor: str = ""


class ModelVersion(Struct, frozen=True, kw_only=True):
    """A version: its files never change; tags, description and aliases live beside them."""

    id: ModelVersionId
    model: str
    number: int
    run_id: str  # "" when it was not built by a run
    source: str
    digest: str  # BLAKE3 over the sorted (path, digest) of its files
    size_bytes: int
    files_count: int
    flavors: dict[str, Any]
    environment_digest: str
    packages: list[str]
    logged_model: str  # MLflow's id of the logged model, or ""
    run_link: str
    created_at_ms: int
    updated_at_ms: int
    actor: str
    status: str
    description: str
    signature: dict[str, Any] | None = None  # {"inputs": [...], "outputs": [...], "params": [...]}
    input_example: Any = None
    tags: dict[str, str] = {}
    aliases: list[str] = []
    evaluations: list[Evaluation] = []

    @property
    def ref(self) -> Ref:
        return Ref("model_version", self.id)

    @property
    def label(self) -> str:
        """`flights@7`."""
        return f"{self.model}@{self.number}"


class ModelFile(Struct, frozen=True, kw_only=True):
    """One file of a version, by digest."""

    path: str
    size_bytes: int
    digest: str


def digest_of(files: list[ModelFile]) -> str:
    """BLAKE3 over the sorted (path, digest) of `files`: the identity of a directory's content.

    Each pair is framed by its length, so that no two different directories give the same bytes.
    """
    hasher = blake3()
    for file in sorted(files, key=lambda f: f.path.encode()):
        path = file.path.encode()
        hasher.update(len(path).to_bytes(8, "big") + path + bytes.fromhex(file.digest))
    digest: str = hasher.hexdigest()
    return digest


class Model(Struct, frozen=True, kw_only=True):
    """A named line of versions."""

    id: ModelId
    name: str
    description: str
    created_at_ms: int
    updated_at_ms: int
    actor: str
    versions_count: int = 0
    latest: int | None = None
    tags: dict[str, str] = {}
    aliases: list[Alias] = []

    @property
    def ref(self) -> Ref:
        return Ref("model", self.name)


class AliasMove(Struct, frozen=True, kw_only=True):
    """One entry of the timeline: from `at_ms` until `until_ms` (None: still), `alias` named `version` (None: nothing)."""

    alias: str
    version: int | None
    was: int | None
    generation: int
    at_ms: int
    until_ms: int | None
    actor: str
    verdicts: list[dict[str, Any]] = []
    reason: str = ""  # what whoever moved it said


class EdgeSummary(Struct, frozen=True, kw_only=True):
    """One relation of a version, as its page shows it."""

    kind: str
    ref: str
    is_outgoing: bool
    protects: bool


class VersionPage(Struct, frozen=True, kw_only=True):
    """A version with everything its page shows."""

    version: ModelVersion
    files: list[ModelFile]
    moves: list[AliasMove]
    edges: list[EdgeSummary]


class ModelPage(Struct, frozen=True, kw_only=True):
    """A model with its newest versions."""

    model: Model
    versions: list[ModelVersion]


class NewModel(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What it takes to make a model."""

    name: str
    description: str = ""
    tags: dict[str, str] = {}


class NewVersion(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What it takes to make a version: where the files are."""

    source: str
    run_id: str = ""
    description: str = ""
    tags: dict[str, str] = {}


class AliasWish(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Point an alias at `version`; `expect` is the generation last seen (0: it names nothing yet; None: whatever it is).

    `reason` is kept with the move.
    """

    version: int
    expect: int | None = None
    reason: str = ""


class Changes(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Changes of a description and of tags; a tag set to null is removed."""

    description: str | None = None
    tags: dict[str, str | None] = {}


@fact("model.created")
class ModelCreated(Fact):
    """A model came to be."""

    description: str = ""
    tags: dict[str, str] = {}


@fact("model.updated")
class ModelUpdated(Fact):
    """A model's description or tags changed."""

    description: str | None = None
    tags: dict[str, str | None] = {}
    prompt: bool = False


@fact("model.renamed")
class ModelRenamed(Fact):
    """A model has another name; the subject is the new one."""

    was: str


@fact("model.deleted")
class ModelDeleted(Fact):
    """A model is gone with its versions."""

    versions: int


@fact("model_version.created")
class ModelVersionCreated(Fact):
    """A version was registered; its files never change from here on."""

    model: str
    number: int
    run_id: str
    digest: str
    source: str = ""
    description: str = ""
    tags: dict[str, str] = {}


@fact("model_version.updated")
class ModelVersionUpdated(Fact):
    """A version's description or tags changed."""

    model: str
    number: int
    description: str | None = None
    tags: dict[str, str | None] = {}
    prompt: bool = False


@fact("model_version.promoted", personal=("reason",))
class ModelVersionPromoted(Fact):
    """An alias now names this version; `was` is the number it named before."""

    model: str
    number: int
    alias: str
    was: int | None
    generation: int
    reason: str = ""
    prompt: bool = False


@fact("model_version.demoted", personal=("reason",))
class ModelVersionDemoted(Fact):
    """An alias that named this version was taken away."""

    model: str
    number: int
    alias: str
    generation: int
    reason: str = ""
    prompt: bool = False


@fact("model_version.evaluated")
class ModelVersionEvaluated(Fact):
    """Numbers of a version on a split of a dataset version were recorded."""

    model: str
    number: int
    dataset_version: str
    split: str


@fact("model_version.deleted")
class ModelVersionDeleted(Fact):
    """A version is gone; its number is not used again."""

    model: str
    number: int


def check_alias(name: str) -> str:
    """`name` if it can be an alias: nothing that reads as a version number. Raises Invalid."""
    if not isinstance(name, str) or not _ALIAS.match(name):
        raise Invalid(
            f"{str(name)[:80]!r} cannot be an alias.",
            where="alias",
            hint="Use letters, digits, '_', '-' and '.'; at most 255.",
        )
    if _NOT_AN_ALIAS.match(name):
        raise Invalid(f"{name!r} reads as a version, so it cannot be an alias.", where="alias", hint="Try champion.")
    return name


def is_prompt(tags: Mapping[str, str | None]) -> bool:
    return str(tags.get(PROMPT_TAG, "")).lower() == "true"


def check_tags(tags: dict[str, str | None]) -> None:
    """Raises Invalid for a key that cannot be one, a value beyond its limit, or too many of them."""
    if len(tags) > TAGS_PER_REQUEST:
        raise Invalid(
            f"At most {TAGS_PER_REQUEST} tags fit one request. Got {len(tags)}.", where="tags",
            hint="Send them in several requests.",
        )  # fmt: skip
    for key, value in tags.items():
        check_key(key, "tag")
        if value is not None and len(value) > TAG_LENGTH_MAX:
            raise Invalid(f"The tag {key!r} is longer than {TAG_LENGTH_MAX} characters.", where="tags")


def check_description(text: str) -> None:
    if len(text) > DESCRIPTION_LENGTH_MAX:
        raise Invalid(f"The description is longer than {DESCRIPTION_LENGTH_MAX} characters.", where="description")


def check_reason(text: str) -> str:
    """`text` if it can be the reason of a move. Raises Invalid."""
    if len(text) > REASON_LENGTH_MAX:
        raise Invalid(f"The reason has {len(text)} characters; at most {REASON_LENGTH_MAX} are kept.", where="reason")
    return text


def check_evaluation(evaluation: Evaluation) -> None:
    """Raises Invalid for a metric that is not a finite number, or for none at all."""
    if not evaluation.dataset_version or not evaluation.split:
        raise Invalid("An evaluation names its dataset version and its split.", where="dataset_version")
    groups = {"": evaluation.metrics, **evaluation.slices}
    if not evaluation.metrics or sum(map(len, groups.values())) > METRICS_PER_EVALUATION:
        raise Invalid(f"An evaluation has 1 to {METRICS_PER_EVALUATION} metrics.", where="metrics")
    for group, metrics in groups.items():
        for key, value in metrics.items():
            if not math.isfinite(value):
                at = f"{key} of {group}" if group else key
                raise Invalid(f"The metric {at} is {value}; only finite numbers can be compared.", where="metrics")
