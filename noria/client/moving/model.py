"""What is moved between trackers, and what a source of it must be able to do. Nothing here knows where it comes from.

A source is read in pages and chunks: whatever the number of runs, points and bytes, a bounded part of it is in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

from msgspec import Struct

ACTIVE, DELETED = "active", "deleted"
LOG_FILE = "console.log"


class Number(NamedTuple):
    """A point of a metric."""

    key: str
    value: float
    at_ms: int
    step: int


class ModelNumber(Struct, frozen=True, kw_only=True):
    """A number that a run measured on a logged model."""

    run_id: str
    key: str
    value: float
    at_ms: int
    step: int = 0
    dataset_name: str = ""
    dataset_digest: str = ""


class Input(Struct, frozen=True, kw_only=True):
    """Data that a run read."""

    name: str
    digest: str
    source_type: str = ""
    source: str = ""
    schema: str = ""
    profile: str = ""
    tags: dict[str, str] = {}
    dataset_version: str = ""  # the id of a version in Noria, when it is one


class Use(Struct, frozen=True, kw_only=True):
    """A logged model that a run read (`input`) or wrote (`output`)."""

    model_id: str
    direction: str
    step: int = 0


class Experiment(Struct, frozen=True, kw_only=True):
    id: str
    name: str
    created_at_ms: int
    updated_at_ms: int
    stage: str = ACTIVE
    tags: dict[str, str] = {}


class Run(Struct, frozen=True, kw_only=True):
    """A run without its points and files. `keys`: the metrics it has."""

    id: str
    experiment_id: str
    name: str
    user: str
    status: str
    started_at_ms: int
    ended_at_ms: int | None = None
    stage: str = ACTIVE
    deleted_at_ms: int | None = None
    tags: dict[str, str] = {}
    params: dict[str, str] = {}
    keys: list[str] = []
    inputs: list[Input] = []
    models: list[Use] = []
    place: str = ""  # where its files are, for the source to know


class Model(Struct, frozen=True, kw_only=True):
    """A logged model without its files."""

    id: str
    experiment_id: str
    name: str
    status: str
    created_at_ms: int
    updated_at_ms: int
    model_type: str = ""
    source_run_id: str = ""
    status_message: str = ""
    stage: str = ACTIVE
    tags: dict[str, str] = {}
    params: dict[str, str] = {}
    points: list[ModelNumber] = []
    place: str = ""


class Registered(Struct, frozen=True, kw_only=True):
    """A registered model without its versions."""

    name: str
    created_at_ms: int
    updated_at_ms: int
    description: str = ""
    tags: dict[str, str] = {}
    aliases: dict[str, int] = {}


class Version(Struct, frozen=True, kw_only=True):
    """A version of a registered model. `source`: where its files are, in the words of where it comes from."""

    model: str
    number: int
    source: str
    created_at_ms: int
    updated_at_ms: int
    run_id: str = ""
    run_link: str = ""
    description: str = ""
    status: str = "READY"
    tags: dict[str, str] = {}


class File(NamedTuple):
    path: str
    size_bytes: int


class Trace(Struct, frozen=True, kw_only=True):
    """A trace: what MLflow's protocol says of it, and its spans as the text of its traces.json."""

    id: str
    info: dict[str, Any]
    spans: bytes


class Source(Protocol):
    """Where things come from. Safe to use from several threads."""

    label: str  # kept with what was imported

    def experiments(self) -> Iterator[Experiment]: ...
    def runs(self, experiment: Experiment) -> Iterator[Run]: ...
    def numbers(self, run: Run) -> Iterator[Number]:
        """Every point of a run; those of one key come together."""
        ...

    def logged_models(self, experiment: Experiment) -> Iterator[Model]: ...
    def registered(self) -> Iterator[Registered]: ...
    def versions(self) -> Iterator[Version]:
        """Every version of every model, the oldest first, so that what one is copied from comes before it."""
        ...

    def files(self, owner: Run | Model) -> Iterator[File]: ...
    def read(self, owner: Run | Model, path: str) -> Iterator[bytes]: ...
    def log(self, run: Run) -> Iterator[str]:
        """What a run printed, in order."""
        ...

    def traces(self, experiment: Experiment) -> Iterator[Trace]: ...
    def close(self) -> None: ...
