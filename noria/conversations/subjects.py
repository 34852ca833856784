"""What can be talked about: each kind of thing, read with the rights of whoever asks. What one may not read one may not talk about."""

from __future__ import annotations

from noria.conversations.model import Subject
from noria.datasets.service import Datasets
from noria.governance.approvals import Approvals
from noria.kernel.errors import Invalid
from noria.kernel.ids import Ref
from noria.kernel.op import Op
from noria.loops.service import Loops
from noria.monitoring.service import Monitoring
from noria.pipelines.service import Pipelines
from noria.registry.service import Registry
from noria.reports.service import Reports
from noria.serving.service import Serving
from noria.tracking.service import Tracking

KINDS = (
    "run", "experiment", "dataset", "dataset_version", "model", "model_version", "pipeline", "pipeline_run", "endpoint",
    "monitor", "alert", "approval", "loop", "report",
)  # fmt: skip


class Subjects:
    """Finds the thing that a ref names, or says NotFound as its own page would."""

    def __init__(
        self, datasets: Datasets, tracking: Tracking, registry: Registry, pipelines: Pipelines, serving: Serving,
        monitoring: Monitoring, approvals: Approvals, loops: Loops, reports: Reports,
    ) -> None:  # fmt: skip
        self._datasets, self._tracking, self._registry, self._pipelines = datasets, tracking, registry, pipelines
        self._serving, self._monitoring, self._approvals, self._loops, self._reports = (
            serving,
            monitoring,
            approvals,
            loops,
            reports,
        )

    def find(self, op: Op, text: str) -> Subject:
        """The thing; versions also as `model_version:fraud@7`. Raises Invalid for a kind that is not talked about, NotFound."""
        ref = Ref.parse(text)
        if ref.kind not in KINDS:
            raise Invalid(
                f"There is no talking about a {ref.kind.replace('_', ' ')[:40]}.",
                where="subject",
                hint=f"About: {', '.join(KINDS)}.",
            )
        found: Subject = getattr(self, f"_{ref.kind}")(op, ref.id)
        return found

    def _run(self, op: Op, run_id: str) -> Subject:
        found = self._tracking.run(op, run_id)
        return Subject(ref=Ref("run", found.id), on=Ref("experiment", found.experiment_id), title=found.name or found.id[:8])

    def _experiment(self, op: Op, experiment_id: str) -> Subject:
        found = self._tracking.experiment(op, experiment_id)
        ref = Ref("experiment", found.id)
        return Subject(ref=ref, on=ref, title=found.name)

    def _dataset(self, op: Op, name: str) -> Subject:
        return _named("dataset", self._datasets.dataset(op, name).name)

    def _dataset_version(self, op: Op, ident: str) -> Subject:
        found = self._datasets.version(op, ident if "@" in ident else f"dataset_version:{ident}")
        return Subject(
            ref=Ref("dataset_version", found.id), on=Ref("dataset", found.dataset), title=f"{found.dataset}@{found.number}"
        )

    def _model(self, op: Op, name: str) -> Subject:
        return _named("model", self._registry.model(op, name).name)

    def _model_version(self, op: Op, ident: str) -> Subject:
        found = self._registry.version(op, ident if "@" in ident else f"model_version:{ident}")
        return Subject(
            ref=Ref("model_version", found.id), on=Ref("model", found.model), title=f"{found.model}@{found.number}"
        )

    def _pipeline(self, op: Op, name: str) -> Subject:
        return _named("pipeline", self._pipelines.pipeline(op, name).name)

    def _pipeline_run(self, op: Op, run_id: str) -> Subject:
        found = self._pipelines.mine(op, "pipeline.read", run_id)
        return Subject(
            ref=Ref("pipeline_run", found.id),
            on=Ref("pipeline", found.pipeline),
            title=f"{found.pipeline}, run {found.id[:8]}",
        )

    def _endpoint(self, op: Op, name: str) -> Subject:
        return _named("endpoint", self._serving.endpoint(op, name).name)

    def _monitor(self, op: Op, name: str) -> Subject:
        return _named("monitor", self._monitoring.monitor(op, name).name)

    def _alert(self, op: Op, alert_id: str) -> Subject:
        found = self._monitoring.alert(op, alert_id).alert
        return Subject(
            ref=Ref("alert", found.id), on=Ref("monitor", found.monitor), title=f"{found.metric} of {found.endpoint}"
        )

    def _approval(self, op: Op, approval_id: str) -> Subject:
        found = self._approvals.approval(op, approval_id)
        return Subject(
            ref=Ref("approval", found.id),
            on=Ref.parse(found.subject),
            title=f"{found.action} of {found.subject.partition(':')[2]}",
        )

    def _loop(self, op: Op, name: str) -> Subject:
        return _named("loop", self._loops.loop(op, name).name)

    def _report(self, op: Op, report_id: str) -> Subject:
        found = self._reports.summary(op, report_id)
        return Subject(ref=found.ref, on=found.ref, title=found.title)


def _named(kind: str, name: str) -> Subject:
    ref = Ref(kind, name)
    return Subject(ref=ref, on=ref, title=name)
