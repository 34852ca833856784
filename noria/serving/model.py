"""The nouns of serving: what is wanted behind an address, one immutable wish, and what is.

An endpoint points at revisions with weights; a revision is a model version plus configuration and never changes. What moves is
the pointer: deploy, canary, promote and roll back are one row's change, told to the nodes by a growing generation.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct, field

from noria.kernel.facts import Fact, fact
from noria.kernel.ids import ModelVersionId, RevisionId

Role = Literal["champion", "canary", "shadow", "previous"]
RevisionState = Literal["pending", "ready", "failed", "retired"]
EnvironmentChoice = Literal["default", "auto", "own", "server", "offline"]
CanaryState = Literal["starting", "running", "promoted", "rolled_back"]

BUCKETS = 10_000  # The split hashes a key to one of these; a weight of 1 % is 100 of them.
CANARY_STEPS = (25, 50)
TRAFFIC_STEP_MS = 10_000  # Traffic is kept in steps of this length.
LATENCY_REQUESTS_MIN = 100  # Of each side; below it a p95 is one slow request.
ERROR_REQUESTS_MIN = 20  # The error guard-rail says nothing about fewer answers than this.


class RevisionConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a revision is run. Part of the revision: changing it makes a new one."""

    max_in_flight: int = 1024  # requests waiting for this revision; beyond it the gateway answers 429
    max_batch_rows: int = 1024  # rows in one call of the model
    timeout_ms: int = 30_000  # deadline of a request that brings none
    min_replicas: int = 1  # workers; 0: none after idle_s without a request, and the next request is held until one is there
    max_replicas: int = 1
    target_in_flight: int = 8  # requests in flight per worker above which another is started
    idle_s: float = 300.0  # how long a worker must have been dispensable to be ended
    engine: Literal["original", "onnx"] = "original"  # onnx: converted, if the answers stay the same
    # auto: its own unless the server's has what the model needs; offline: its own, out of what is cached; default: as the server is set.
    environment: EnvironmentChoice = "default"
    network_ports: tuple[int, ...] = ()  # TCP ports that the model's own code may connect to; 0: any
    rate_per_s: float = 0.0  # requests a second of each caller, beyond it the gateway answers 429; 0: any number
    burst: int = 0  # how many of them may come at once; 0: as many as in one second
    memory_mb: int = 0  # of one worker with all its processes, beyond which it is ended; 0: as the node is set
    disk_mb: int = 0  # of files that it keeps, the same
    max_tasks: int = 0  # processes and threads of it, the same


class Revision(Struct, frozen=True, kw_only=True):
    """One immutable wish: this model version, run like this."""

    id: RevisionId
    endpoint: str
    number: int
    model: str
    model_version: int
    model_version_id: ModelVersionId
    digest: str
    config: RevisionConfig
    environment: str
    state: RevisionState
    error: str = ""
    created_at_ms: int
    actor: str = ""


class Route(Struct, frozen=True, kw_only=True):
    """A share of an endpoint's traffic. `previous` and `shadow` have weight 0: kept warm, or answering to nobody."""

    revision_id: RevisionId
    model_version: int
    weight: int
    role: Role


class Endpoint(Struct, frozen=True, kw_only=True):
    """What is wanted behind one address. `status`: empty (no route yet), ready, or failed (its only revision cannot load)."""

    name: str
    model: str
    generation: int
    routes: list[Route]
    pending_revision_id: str = ""
    status: Literal["pending", "ready", "failed"] = "pending"
    created_at_ms: int
    updated_at_ms: int = 0


class Guard(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a canary is worse. `metric`, `alpha`, `max_worse` and `min_labels` are of the sequential test of labelled answers; the
    other limits hold without labels, and None switches one off.
    """

    metric: str = "brier"
    alpha: float = 0.05
    max_worse: float = 0.0
    min_labels: int = 100
    max_error_share: float = 0.02  # it may fail by at most this share of its requests more than the champion
    min_duration_s: float = 0.0
    max_latency_ratio: float | None = None  # its p95 may be at most so many times the champion's
    max_score_psi: float | None = None  # its scores may be at most so far from the champion's, beyond what chance explains
    max_fairness_gap: float | None = None  # between groups its positive answers may differ by at most so much more
    fairness_column: str = ""  # the input that names the groups


class Canary(Struct, frozen=True, kw_only=True):
    """A revision on trial: `weight` percent of the traffic at step `step` of `steps`."""

    id: str
    endpoint: str
    revision_id: RevisionId
    champion_revision_id: RevisionId
    model_version: int
    steps: list[int]
    step: int
    guard: Guard
    state: CanaryState
    started_at_ms: int
    stepped_at_ms: int
    ended_at_ms: int | None = None
    reason: str = ""
    evidence: dict[str, Any] = {}

    @property
    def weight(self) -> int:
        """Percent of the traffic that the canary gets now."""
        return self.steps[self.step] if self.state == "running" else 0

    @property
    def is_last_step(self) -> bool:
        return self.step + 1 >= len(self.steps)


class Replica(Struct, frozen=True, kw_only=True):
    """One worker process that runs a revision on a node."""

    node: str
    revision_id: RevisionId
    seat: int = 0  # which of the revision's workers on the node
    state: Literal["starting", "ready", "failed", "restarting", "stopped"]
    pid: int = 0
    restarts: int = 0
    digest: str = ""
    engine: str = ""  # what became of the wish for ONNX, in words
    environment: str = ""  # where it runs, in words
    isolation: str = ""  # what of the machine is kept from it, in words
    doing: str = ""  # what it waits for while it starts
    error: str = ""
    memory_bytes: int = 0  # what it uses with all its processes
    memory_limit_bytes: int = 0
    fault: str = ""  # how a worker in this seat last ended unasked
    fault_at_ms: int = 0
    at_ms: int = 0


class EndpointDetail(Struct, frozen=True, kw_only=True):
    """An endpoint with everything that surrounds it, for its page."""

    endpoint: Endpoint
    revisions: list[Revision]
    canary: Canary | None
    canaries: list[Canary]
    replicas: list[Replica]
    url: str = ""
    grpc: str = ""  # host and port; empty: gRPC is switched off


class ReplicaReport(Struct, frozen=True, kw_only=True):
    """What a node tells of its workers, and the generation whose routes it follows."""

    node: str
    generation: int = 0
    replicas: list[Replica]


class TrafficSample(Struct, frozen=True, kw_only=True):
    """What one revision answered since the last report. `latency` counts answers per bucket, see `latency_bucket`."""

    endpoint: str
    revision_id: RevisionId
    at_ms: int
    requests: int
    errors: int
    rejected: int = 0
    latency: dict[int, int] = {}


class TrafficReport(Struct, frozen=True, kw_only=True):
    """What a node answered since its last report."""

    node: str
    samples: list[TrafficSample]


class TrafficSeries(Struct, frozen=True, kw_only=True):
    """Columns over the same steps as `Traffic.t`."""

    count: list[int]
    errors: list[int]
    p50_ms: list[float | None]
    p99_ms: list[float | None]


class Traffic(Struct, frozen=True, kw_only=True):
    """Requests of an endpoint over time; `t` is the start of each step."""

    t: list[int]
    by_revision: dict[str, TrafficSeries]


class SegmentInfo(Struct, frozen=True, kw_only=True):
    """A sealed file of inferences or truths; docs/internals/serving.md has its columns."""

    endpoint: str
    kind: Literal["inference", "truth"]
    digest: str
    rows: int
    event_from_ms: int
    event_to_ms: int
    at_ms: int
    revision_id: str = ""
    size_bytes: int = 0
    seq: int = 0  # given when it is registered


class Recording(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What of an endpoint's answers is written, and for how long. Changes hold for what is answered a second later."""

    sample: float = 1.0  # the share of answers that is written
    inputs: Literal["all", "none"] = "all"  # none: outputs and times only
    columns: dict[str, Literal["drop", "mask", "hash"]] = {}  # inputs that are not written as they came
    key: Literal["keep", "hash"] = "keep"  # entity keys, of answers and of truth
    keep_days: float | None = None  # answers and truth that arrived longer ago are deleted
    keep_rows: int | None = None  # as are all but the latest
    hold: str = ""  # why nothing may be deleted now, such as a legal hold


class RecordingPolicy(Struct, frozen=True, kw_only=True):
    """The policy of one endpoint as a node gets it; `salt` is the secret that hashes are keyed with."""

    endpoint: str
    recording: Recording
    salt: str


class ModelFileInfo(Struct, frozen=True, kw_only=True):
    """One file of a model directory, to be fetched by digest."""

    path: str
    size_bytes: int
    digest: str


class Conversion(Struct, frozen=True, kw_only=True):
    """What a model was made into for serving: files by digest, registered once. None: it stays as it was saved, as `words` say."""

    digest: str  # of the model's files
    revision_id: RevisionId  # for which it was made first
    made_digest: str  # of the files below, as `registry.model.digest_of` has it
    files: list[ModelFileInfo]
    words: str
    at_ms: int = 0


class DesiredRevision(Struct, frozen=True, kw_only=True):
    """What a node needs to run a revision."""

    id: RevisionId
    endpoint: str
    model: str
    model_version: int
    digest: str
    config: RevisionConfig
    files: list[ModelFileInfo]
    onnx: Conversion | None = None  # that is registered


class DesiredEndpoint(Struct, frozen=True, kw_only=True):
    """The routes of one endpoint as a node must serve them."""

    name: str
    model: str
    generation: int
    routes: list[Route]


class Predictor(Struct, frozen=True, kw_only=True):
    """A token that may predict or bring truth: on every endpoint (None) or on those named."""

    token_id: str
    secret_sha256: str
    expires_at_ms: int | None
    predict: list[str] | None
    truth: list[str] | None


class DesiredAuth(Struct, frozen=True, kw_only=True):
    """Who may call the gateway. `is_open`: everybody, because there are no accounts and the server listens on loopback."""

    version: str
    is_open: bool
    predictors: list[Predictor] = []


class Desired(Struct, frozen=True, kw_only=True):
    """Everything a node must run. The node keeps it on disk and serves from it when the control plane is away."""

    generation: int
    endpoints: list[DesiredEndpoint]
    revisions: list[DesiredRevision]
    auth: DesiredAuth
    recordings: list[RecordingPolicy] = []


class DeployRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What it takes to deploy: `model` is a handle such as `flights@3`."""

    model: str
    config: RevisionConfig = RevisionConfig()
    wait: bool = False


class CanaryRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What it takes to try a version on a share of the traffic."""

    model: str
    steps: list[int] = field(default_factory=lambda: list(CANARY_STEPS))
    guard: Guard = Guard()
    config: RevisionConfig = RevisionConfig()


class ShadowRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What it takes to let a version answer in the shadow; an empty `model` ends it."""

    model: str = ""
    config: RevisionConfig = RevisionConfig()


class RollbackRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why to go back."""

    reason: str = "asked for"
    evidence: dict[str, Any] = {}


class LeftOut(Struct, frozen=True, kw_only=True):
    """Something of an endpoint that another system cannot say, and what happens instead."""

    field: str
    why: str
    instead: str


class Exported(Struct, frozen=True, kw_only=True):
    """An endpoint in the words of another system."""

    endpoint: str
    format: Literal["kserve", "ray"]
    objects: list[dict[str, Any]]
    left_out: list[LeftOut]


@fact("endpoint.created")
class EndpointCreated(Fact):
    """An address for answers came to be."""

    model: str


@fact("endpoint.deleted")
class EndpointDeleted(Fact):
    """An endpoint no longer answers; what it recorded stays."""


@fact("endpoint.split_changed")
class EndpointSplitChanged(Fact):
    """Traffic moved between revisions."""

    generation: int
    routes: list[dict[str, Any]]
    reason: str
    evidence: dict[str, Any] = {}


@fact("recording.changed")
class RecordingChanged(Fact):
    """What of an endpoint's answers is written, or for how long, was decided anew."""

    sample: float
    inputs: str
    columns: dict[str, str]
    key: str
    keep_days: float | None
    keep_rows: int | None
    hold: str


@fact("revision.created")
class RevisionCreated(Fact):
    """Somebody wants a model version served."""

    endpoint: str
    model: str
    version: int
    role: str


@fact("revision.ready")
class RevisionReady(Fact):
    """A node runs the revision and has warmed it."""

    endpoint: str
    version: int


@fact("endpoint.worker_ended")
class EndpointWorkerEnded(Fact):
    """A worker that answered ended unasked: it crashed, or took more than its limit. Another is started."""

    revision: str
    version: int
    node: str
    reason: str


@fact("revision.failed")
class RevisionFailed(Fact):
    """The revision's model could not be loaded; the endpoint keeps its old route."""

    endpoint: str
    version: int
    error: str


@fact("model_version.converted")
class ModelVersionConverted(Fact):
    """The version was made into ONNX for serving; `made` is the digest of what came of it, which is signed."""

    digest: str
    made: str
    words: str


@fact("canary.started")
class CanaryStarted(Fact):
    """The canary is loaded and gets its first share of the traffic."""

    canary: str
    revision: str
    version: int
    weight: int


@fact("canary.advanced")
class CanaryAdvanced(Fact):
    """The canary gets its next share."""

    canary: str
    revision: str
    version: int
    weight: int
    evidence: dict[str, Any] = {}


@fact("canary.promoted")
class CanaryPromoted(Fact):
    """The canary became the champion."""

    canary: str
    revision: str
    version: int
    evidence: dict[str, Any] = {}


@fact("canary.rolled_back")
class CanaryRolledBack(Fact):
    """The canary lost its traffic; the champion has all of it again."""

    canary: str
    revision: str
    version: int
    reason: str
    evidence: dict[str, Any] = {}


@fact("segment.written")
class SegmentWritten(Fact):
    """A file of inferences was sealed and registered."""

    endpoint: str
    rows: int
    digest: str
    segment: int
    revision: str
    event_from_ms: int
    event_to_ms: int


@fact("truth.written")
class TruthWritten(Fact):
    """A file of truths was sealed and registered."""

    endpoint: str
    rows: int
    digest: str
    segment: int
    event_from_ms: int
    event_to_ms: int
