"""The nouns of monitoring: what to watch, a span of event time, a number, a state; one answer with its truth."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from noria.kernel.events import Event
from noria.kernel.facts import Fact, fact

SCORE = "@score"  # the column of a profile that holds the model's score
PREDICTION = "@prediction"  # the column that holds what the model said: a class, or a number
LOSS = "@loss"  # of a stream: the loss of each labelled answer
REALISED = "@realised"  # beside an estimate: what the truth says by now
MINUTE_MS = 60_000
HOUR_MS = 3_600_000
BUCKET_MS = HOUR_MS  # sketches are kept per hour of event time unless a monitor needs finer ones
WINDOW_S_MIN = 60
WINDOW_S_MAX = 366 * 86_400
COLUMNS_MAX = 200

Severity = Literal["warn", "alert"]
WindowVerdict = Literal["over", "within", "too_few", "undefined"]
MonitorState = Literal["ok", "pending", "open"]
AlertState = Literal["open", "resolved"]


class Baseline(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The reference of one column as counts between quantile edges: a value x counts in the first bin whose edge is ≥ x.

    `counts` has one entry more than `edges`. `labels` replaces both for a column of words.
    """

    edges: list[float] = []
    counts: list[float] = []
    nulls: float = 0
    labels: dict[str, float] = {}


class Slice(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Answers whose input `column` equals `value`, or is ≥ `low` and < `high`."""

    column: str
    value: str | float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def name(self) -> str:
        """carrier = UA, temp in [30, 50), temp ≥ 50."""
        if self.value is not None:
            return f"{self.column} = {self.value:g}" if isinstance(self.value, float) else f"{self.column} = {self.value}"
        if self.low is None:
            return f"{self.column} < {self.high:g}"
        if self.high is None:
            return f"{self.column} ≥ {self.low:g}"
        return f"{self.column} in [{self.low:g}, {self.high:g})"


class MonitorSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to watch, over which span of event time, and when to speak up.

    A window [start, start + window_s) is judged when the endpoint's watermark, the largest event time seen, has passed its
    end by lateness_s. The alert opens when `k` of the last `n` judged windows are over the limit.
    """

    name: str
    endpoint: str
    metric: str
    limit: float
    columns: list[str] = []  # features a drift metric compares; empty: every column of the reference
    reference: str = ""  # dataset:flights@1, model:flights@3 (what it was trained on) or traffic:<from_ms>-<to_ms>
    baseline: dict[str, Baseline] = {}  # the reference itself, when it is at hand
    window_s: int = 86_400
    lateness_s: int = 0
    origin_ms: int = 0  # windows start at this time plus multiples of window_s
    k: int = 1
    n: int = 1
    clear_limit: float | None = None  # an open alert resolves only when values are back beyond this one, not just the limit
    min_count: int = 100  # fewer rows (labelled rows, for a metric that needs truth) are not judged
    slices: list[Slice] = []  # of a performance metric: judge each of these parts of the traffic, not the whole
    group: str = ""  # of a fairness metric: the input that names the groups
    min_group: int = 30  # groups with fewer answers are not compared
    alpha: float = 0.01  # a drift counts when chance explains it at most so often (false discovery rate over the columns)
    severity: Severity = "alert"
    owner: str = ""  # who is to look when it opens: a person or a team, in words
    description: str = ""


class Monitor(Struct, frozen=True, kw_only=True):
    """A monitor and where it stands."""

    id: str
    name: str
    endpoint: str
    spec: MonitorSpec
    state: MonitorState
    judged_until_ms: int
    counted_from_ms: int
    created_at_ms: int
    actor: str
    is_active: bool = True
    muted_until_ms: int | None = None  # until then (wall clock) windows are judged and no alert is opened
    mute_reason: str = ""
    muted_by: str = ""


class Finding(Struct, frozen=True, kw_only=True):
    """One number about one column in one window; None where it is not defined."""

    column: str
    value: float | None
    limit: float
    is_over: bool
    low: float | None = None
    high: float | None = None
    count: int = 0
    reference_count: int = 0
    p_value: float | None = None  # how often chance alone shows such a difference
    q_value: float | None = None  # the same, adjusted for the number of columns looked at


class Window(Struct, frozen=True, kw_only=True):
    """A judged span of event time. `value` is the worst finding; `coverage` is labelled rows by predictions."""

    monitor_id: str
    start_ms: int
    end_ms: int
    verdict: WindowVerdict
    value: float | None
    limit: float
    count: int
    predictions: int
    coverage: float
    findings: list[Finding]
    why: str
    judged_at_ms: int
    judgements: int = 1  # late truth opens a window again; this counts how often it was judged
    is_stale: bool = False
    low: float | None = None
    high: float | None = None
    seq: int | None = None  # the fact that moved the watermark past its end


class Alert(Struct, frozen=True, kw_only=True):
    """`k` of `n` windows were over the limit, from `opened_at_ms` until it was resolved."""

    id: str
    monitor_id: str
    monitor: str
    endpoint: str
    metric: str
    severity: Severity
    state: AlertState
    value: float
    limit: float
    why: str
    event_at_ms: int  # the end of the window that tipped it, in event time
    opened_at_ms: int
    resolved_at_ms: int | None = None
    resolved_event_at_ms: int | None = None
    resolved_by: str = ""
    resolution: str = ""
    owner: str = ""


class AlertStory(Struct, frozen=True, kw_only=True):
    """An alert, the facts that led to it, and what it led to: facts by cause, and the edges of what they speak of."""

    alert: Alert
    before: list[Event]
    after: list[Event]
    edges: list[dict[str, str]]


class Resolution(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why somebody closes an alert by hand."""

    reason: str


class Mute(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Silence until a time, or for a while from now, and why."""

    reason: str
    until_ms: int | None = None
    for_s: float | None = None


class PerformanceWindow(Struct, frozen=True, kw_only=True):
    """One metric over one span of event time, for one revision or for the whole endpoint (`group` empty)."""

    group: str
    model_version: str
    start_ms: int
    end_ms: int
    value: float | None
    low: float | None
    high: float | None
    count: int
    predictions: int
    coverage: float


class Performance(Struct, frozen=True, kw_only=True):
    """How good an endpoint is, and how far monitoring has read: everything up to `watermark_ms` of event time."""

    items: list[PerformanceWindow]
    next: str | None = None
    watermark_ms: int | None = None
    predictions: int = 0
    labels: int = 0


class Inference(Struct, frozen=True, kw_only=True):
    """One answer of an endpoint: what went in, what came out, and what turned out to be true."""

    prediction_id: str
    endpoint: str
    revision_id: str
    model_version: str
    key: str
    event_at_ms: int
    at_ms: int
    score: float | None
    prediction: str | None
    inputs: dict[str, Any] | None
    output: Any
    latency_ms: float | None
    truth: str | None
    truth_at_ms: int | None
    segment: str
    row: int


class LogFile(Struct, frozen=True, kw_only=True):
    """A Parquet file of the prediction log: the rows of many segments that arrived from `from_ms` to `to_ms`."""

    id: str
    endpoint: str
    kind: Literal["inference", "truth"]
    revision_id: str
    digest: str
    rows: int
    size_bytes: int
    event_from_ms: int
    event_to_ms: int
    from_ms: int
    to_ms: int
    made_at_ms: int = 0


class ArmEvidence(Struct, frozen=True, kw_only=True):
    """What one arm of a canary has shown."""

    labels: int
    mean_loss: float | None
    mean_score: float | None


class Judgement(Struct, frozen=True, kw_only=True):
    """One look at a running canary. The bounds hold at every look at once: peeking costs nothing."""

    canary_id: str
    endpoint: str
    number: int
    at_ms: int
    event_at_ms: int
    metric: str
    champion: ArmEvidence
    canary: ArmEvidence
    difference: float | None  # loss(canary) − loss(champion)
    low: float
    high: float
    evidence_worse: float  # a bet against "not worse"; it is worth 1/alpha at most once in 1/alpha harmless canaries
    evidence_not_worse: float
    labels_needed: int | None = None  # about so many more until the question is answered; 0: it is; None: that may never be
    score_psi: float | None
    action: Literal["wait", "hold", "advance", "promote", "roll_back"]
    words: str


@fact("monitor.created")
class MonitorCreated(Fact):
    """Somebody asked to watch an endpoint."""

    endpoint: str
    metric: str


@fact("monitor.removed")
class MonitorRemoved(Fact):
    """A monitor no longer watches; its windows and alerts are kept."""

    endpoint: str


@fact("monitor.muted", personal=("reason",))
class MonitorMuted(Fact):
    """A monitor opens no alert until a time; its windows are judged all the same."""

    endpoint: str
    until_ms: int
    reason: str


@fact("monitor.unmuted")
class MonitorUnmuted(Fact):
    """A monitor may open alerts again before its mute had ended."""

    endpoint: str


@fact("log.compacted")
class LogCompacted(Fact):
    """Segments of an endpoint became larger files."""

    endpoint: str
    segments: int
    files: int
    rows: int


@fact("log.deleted")
class LogDeleted(Fact):
    """A file of answers or truth was deleted, as the endpoint's policy says."""

    endpoint: str
    log: str  # inference, truth
    rows: int
    digest: str
    from_ms: int
    to_ms: int
    reason: str


@fact("window.evaluated")
class WindowEvaluated(Fact):
    """A window of event time was judged, or judged anew because late truth changed its number."""

    monitor: str
    start_ms: int
    end_ms: int
    verdict: str
    value: float | None
    limit: float
    count: int
    coverage: float
    judgements: int


@fact("alert.opened")
class AlertOpened(Fact):
    """k of n windows of a monitor were over its limit."""

    alert: str
    monitor: str
    metric: str
    value: float
    limit: float
    endpoint: str
    severity: str
    event_at_ms: int
    owner: str = ""
    why: str = ""


@fact("alert.resolved")
class AlertResolved(Fact):
    """An alert ended: its windows are within the limit again, or somebody closed it."""

    alert: str
    monitor: str
    endpoint: str
    reason: str
    severity: str = ""
