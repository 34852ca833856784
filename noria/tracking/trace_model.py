"""The nouns of tracing: traces, their spans, what people and judges said of them; the rules of their names and sizes."""

from __future__ import annotations

import re
from typing import Any, Literal

from msgspec import Struct

from noria.kernel.errors import Invalid
from noria.kernel.facts import Fact, fact
from noria.kernel.ids import ExperimentId, Ref
from noria.tracking.model import check_key, check_value

SPANS_PER_REQUEST = 10_000
SPANS_PER_TRACE = 50_000  # a trace is read whole
PAIRS_PER_TRACE = 1_000  # tags, and as many entries of metadata
ASSESSMENTS_PER_TRACE = 1_000
TRACES_PER_LINK = 100  # MLflow's limit of one request
TRACES_PER_READ = 1_000
PREVIEW_LENGTH_MAX = 1_000  # of what is made from spans; MLflow's own limit
PREVIEW_LENGTH_KEPT = 65_536  # of what a client sends
NAME_LENGTH_MAX = 250
TEXT_LENGTH_MAX = 1 << 20  # of the value, error or rationale of an assessment
VALUE_DEPTH_MAX = 100  # of an attribute; SQLite reads JSON of 1,000 levels, and one level here is up to four there
LATEST_MS = 253_402_300_799_999  # the end of the year 9999, where RFC 3339 ends

State = Literal["STATE_UNSPECIFIED", "OK", "ERROR", "IN_PROGRESS"]
STATES: tuple[str, ...] = ("STATE_UNSPECIFIED", "OK", "ERROR", "IN_PROGRESS")
Kind = Literal["feedback", "expectation"]
SOURCE_TYPES: tuple[str, ...] = ("SOURCE_TYPE_UNSPECIFIED", "HUMAN", "LLM_JUDGE", "CODE")

# MLflow's names. The tags among them are not rows: they follow from the trace.
NAME_TAG = "mlflow.traceName"
ARTIFACTS_TAG = "mlflow.artifactLocation"
SPANS_TAG = "mlflow.trace.spansLocation"
DERIVED_TAGS = frozenset({ARTIFACTS_TAG, SPANS_TAG})
LINKED_PROMPTS = "mlflow.linkedPrompts"
RUN_METADATA = "mlflow.sourceRun"
SESSION_METADATA = "mlflow.trace.session"
USER_METADATA = "mlflow.trace.user"
TOKENS_METADATA = "mlflow.trace.tokenUsage"
SIZE_METADATA = "mlflow.trace.sizeStats"
SPANS_FILE = "traces.json"  # where clients that cannot send spans put them


class Assessment(Struct, frozen=True, kw_only=True):
    """What a person, a judge or a program said of a trace: feedback, or what was expected.

    Another assessment may override it; it is then kept, but no longer valid.
    """

    id: str
    trace_id: str
    name: str
    kind: Kind
    source_type: str
    source_id: str
    value: Any = None
    format: str = ""  # how MLflow packed the value, when it did
    error: dict[str, Any] | None = None
    rationale: str | None = None
    metadata: dict[str, str] = {}
    span_id: str = ""
    overrides: str = ""
    is_valid: bool = True
    created_at_ms: int
    updated_at_ms: int
    actor: str = ""


class AssessmentChange(Struct, frozen=True, kw_only=True):
    """What to change of an assessment; None leaves it. `has_value`: `value` and `error` replace what was there."""

    kind: Kind | None = None
    name: str | None = None
    has_value: bool = False
    value: Any = None
    format: str = ""
    error: dict[str, Any] | None = None
    rationale: str | None = None
    metadata: dict[str, str] | None = None


class Trace(Struct, frozen=True, kw_only=True):
    """One request through a program: what came in, what went out, how long it took. Its spans are read on their own."""

    id: str
    experiment_id: ExperimentId
    name: str = ""
    state: State = "STATE_UNSPECIFIED"
    at_ms: int
    duration_ms: int | None = None
    client_request_id: str | None = None
    request_preview: str | None = None
    response_preview: str | None = None
    is_final: bool = False  # its client has said all of the above; until then it follows from the spans
    spans_count: int = 0
    tags: dict[str, str] = {}
    metadata: dict[str, str] = {}
    run_ids: list[str] = []
    assessments: list[Assessment] = []

    @property
    def ref(self) -> Ref:
        return Ref("trace", self.id)

    @property
    def artifact_uri(self) -> str:
        return f"mlflow-artifacts:/{self.experiment_id}/traces/{self.id}/artifacts"


class Span(Struct, frozen=True, kw_only=True):
    """One part of a trace as it is kept. `body` is OTLP's JSON of it without the ids; `attributes` the plain values in it."""

    trace_id: str
    span_id: str  # hex digits, as is parent_id; '' for the root
    parent_id: str
    name: str
    kind: str
    status: Literal["UNSET", "OK", "ERROR"]
    start_ns: int
    end_ns: int | None
    body: str
    attributes: dict[str, Any]
    resource: dict[str, Any] = {}


class SpanView(Struct, frozen=True, kw_only=True):
    """A span as people look at it: times in microseconds since the trace began, attributes as plain values."""

    id: str
    parent_id: str
    name: str
    kind: str
    status: str
    message: str = ""
    offset_us: int
    duration_us: int | None = None
    inputs: Any = None
    outputs: Any = None
    attributes: dict[str, Any] = {}
    events: list[dict[str, Any]] = []


@fact("trace.deleted")
class TraceDeleted(Fact):
    """Traces were removed from an experiment, with their spans, files and assessments; `trace_ids` names the first hundred."""

    count: int
    trace_ids: list[str]


@fact("assessment.created")
class AssessmentCreated(Fact):
    """A person judged a trace, or said what it should have answered. Those of programs and judges write no fact."""

    trace_id: str
    name: str
    kind: str
    source: str
    overrides: str


@fact("assessment.updated")
class AssessmentUpdated(Fact):
    """An assessment was changed."""

    trace_id: str
    name: str


@fact("assessment.deleted")
class AssessmentDeleted(Fact):
    """An assessment was removed; what it overrode is valid again."""

    trace_id: str
    name: str
    overrides: str


_ID = re.compile(r"[a-zA-Z0-9][\w\-]{0,63}", re.ASCII)


def check_trace_id(trace_id: str) -> str:
    """`trace_id` if it can be one. Raises Invalid."""
    if not _ID.fullmatch(trace_id):
        raise Invalid(
            f"{trace_id[:80]!a} cannot be the id of a trace.", where="trace_id",
            hint="Ids have 1 to 64 letters, digits, dashes and underscores.",
        )  # fmt: skip
    return trace_id


def check_pairs(pairs: dict[str, str], what: str) -> dict[str, str]:
    """Tags or metadata of a trace. Raises Invalid: nothing is cut."""
    if len(pairs) > PAIRS_PER_TRACE:
        raise Invalid(f"A trace has at most {PAIRS_PER_TRACE} {what} entries; these are {len(pairs)}.", where=what)
    for key, value in pairs.items():
        check_value(check_key(key, f"trace {what}"), value, f"trace {what}")
    return pairs


def check_name(name: str) -> str:
    if len(name) > NAME_LENGTH_MAX:
        raise Invalid(f"The trace name has {len(name)} characters; at most {NAME_LENGTH_MAX} are allowed.", where="name")
    return name


def check_time(at_ms: int, where: str = "request_time") -> int:
    if not 0 <= at_ms <= LATEST_MS:
        raise Invalid("A time lies between the years 1970 and 9999.", where=where)
    return at_ms


def check_duration(duration_ms: int | None) -> int | None:
    if duration_ms is not None and not 0 <= duration_ms <= LATEST_MS:
        raise Invalid("A duration cannot be negative.", where="execution_duration")
    return duration_ms


def check_preview(text: str | None, where: str) -> str | None:
    if text is not None and len(text) > PREVIEW_LENGTH_KEPT:
        raise Invalid(
            f"The preview has {len(text)} characters; at most {PREVIEW_LENGTH_KEPT} are kept.", where=where,
            hint="The whole text belongs into the inputs and outputs of the root span.",
        )  # fmt: skip
    return text
