"""The only wiring there is; it reads like a table of contents. Tests call `build` with a temporary home and a manual clock."""

from __future__ import annotations

from pathlib import Path

from litestar.handlers import HTTPRouteHandler
from msgspec import Struct

import noria.access.http
import noria.access.people_http
import noria.access.scim_http
import noria.access.sign_in_http
import noria.access.vault_http
import noria.compliance.http
import noria.conversations.http
import noria.datasets.http
import noria.governance.channel_http
import noria.governance.http
import noria.governance.keys_http
import noria.governance.mlflow
import noria.governance.supply_http
import noria.http.lineage
import noria.http.manual
import noria.http.search
import noria.http.sign_in
import noria.http.static
import noria.http.system
import noria.loops.http
import noria.monitoring.http
import noria.pipelines.elsewhere_http
import noria.pipelines.http
import noria.registry.http
import noria.reports.http
import noria.serving.http
import noria.serving.scoring_http
import noria.tracking.http
import noria.tracking.traces_http
import noria.tracking.views.http
from noria.access.oidc import OidcSettings
from noria.access.onlooker import Onlooker
from noria.access.service import Access
from noria.compliance.proofs import StandingProofs
from noria.compliance.service import Compliance
from noria.config import Config, load_config
from noria.conversations.addresses import JOB_KIND as TELL_PERSON
from noria.conversations.addresses import Addresses
from noria.conversations.inbox import Inboxes
from noria.conversations.service import Conversations
from noria.conversations.subjects import Subjects
from noria.datasets.service import Datasets
from noria.governance.anchors import parse_anchors
from noria.governance.approvals import Approvals
from noria.governance.audit import Audit
from noria.governance.channels import JOB_KIND as TELL
from noria.governance.channels import Channels, speak
from noria.governance.descriptions import Descriptions
from noria.governance.digests import Sha256s
from noria.governance.forgetting import Forgetting
from noria.governance.hooks import JOB_KIND as POLICY_JOB_KIND
from noria.governance.hooks import Hooks as PolicyHooks
from noria.governance.key_rotation import Keys
from noria.governance.mlflow_hooks import MlflowHooks
from noria.governance.notices import Notices
from noria.governance.policies import Policies
from noria.governance.provenance import Provenances
from noria.governance.questions import Questions
from noria.governance.scans import Scans
from noria.governance.standing import Standing
from noria.governance.webhooks import JOB_KIND, Webhooks
from noria.http.asgi import asgi
from noria.http.door import ASGI
from noria.http.manual import Manual
from noria.kernel.blobs import BlobStore, open_blobs
from noria.kernel.clock import Clock, SystemClock
from noria.kernel.collector import Collector, KeptBlobs
from noria.kernel.db import Database
from noria.kernel.envelope import open_keys
from noria.kernel.errors import Invalid
from noria.kernel.events import Pump, Reconciler, Subscriber
from noria.kernel.jobs import Jobs
from noria.kernel.op import Ops
from noria.kernel.ticks import Ticks
from noria.loops.service import Loops, LoopsReconciler
from noria.migrations import open_db
from noria.monitoring.metrics import METRICS
from noria.monitoring.service import Monitoring
from noria.pipelines.admission import Admission
from noria.pipelines.asking import Answers
from noria.pipelines.backfills import Backfills
from noria.pipelines.declared import Declared
from noria.pipelines.elsewhere import Elsewhere
from noria.pipelines.files import Watch
from noria.pipelines.hooks import Hooks
from noria.pipelines.lineage import RunLineage
from noria.pipelines.queues import Queues
from noria.pipelines.schedules import Schedules
from noria.pipelines.service import Pipelines
from noria.pipelines.sweeps import Sweeps
from noria.pipelines.transitions import Transitions
from noria.pipelines.triggers import Triggers
from noria.pipelines.work import Work
from noria.registry.service import Registry
from noria.reports.panels import Panels
from noria.reports.service import Reports
from noria.reports.sharing import Sharing
from noria.repository.repository import open_repository
from noria.serving.scoring import Scorings
from noria.serving.service import Serving
from noria.serving.traffic import Upkeep
from noria.serving.trying import Trying
from noria.tracking.evaluations import Evaluations
from noria.tracking.purge import Purge
from noria.tracking.service import Tracking
from noria.tracking.traces import Traces
from noria.tracking.transfers import Transfers
from noria.tracking.views.service import Views


class App(Struct, frozen=True, kw_only=True):
    """Every service of one control plane, wired."""

    config: Config
    clock: Clock
    db: Database
    blobs: BlobStore
    collector: Collector
    ticks: Ticks
    ops: Ops
    access: Access
    jobs: Jobs
    pump: Pump
    datasets: Datasets
    tracking: Tracking
    transfers: Transfers
    traces: Traces
    views: Views
    evaluations: Evaluations
    registry: Registry
    pipelines: Pipelines
    elsewhere: Elsewhere
    sweeps: Sweeps
    work: Work
    queues: Queues
    schedules: Schedules
    triggers: Triggers
    hooks: Hooks
    backfills: Backfills
    serving: Serving
    scorings: Scorings
    monitoring: Monitoring
    policies: Policies
    approvals: Approvals
    notices: Notices
    audit: Audit
    keys: Keys
    forgetting: Forgetting
    webhooks: Webhooks
    channels: Channels
    scans: Scans
    provenances: Provenances
    descriptions: Descriptions
    mlflow_hooks: MlflowHooks
    loops: Loops
    reports: Reports
    sharing: Sharing
    conversations: Conversations
    inboxes: Inboxes
    addresses: Addresses
    compliance: Compliance
    manual: Manual

    def routes(self) -> list[HTTPRouteHandler]:
        """The routes of every slice."""
        return [
            *noria.http.system.routes(self.config, self.db, self.blobs, self.ticks, self.access),
            *noria.http.lineage.routes(self.config, self.db),
            *noria.http.manual.routes(self.manual),
            *noria.http.search.routes(self.db, self.manual),
            *noria.http.static.routes(self.access),
            *noria.http.sign_in.routes(self.access),
            *noria.access.http.routes(self.access),
            *noria.access.people_http.routes(self.access),
            *noria.access.sign_in_http.routes(self.access),
            *noria.access.vault_http.routes(self.access.vault),
            *noria.access.scim_http.routes(self.access),
            *noria.datasets.http.routes(self.datasets),
            *noria.tracking.http.routes(self.tracking, self.transfers),
            *noria.tracking.traces_http.routes(self.traces, self.evaluations),
            *noria.tracking.views.http.routes(self.views),
            *noria.registry.http.routes(self.registry),
            *noria.pipelines.http.routes(
                self.pipelines,
                self.schedules,
                self.triggers,
                self.queues,
                self.work,
                self.hooks,
                self.backfills,
                self.sweeps,
            ),
            *noria.pipelines.elsewhere_http.routes(self.elsewhere, self.blobs),
            *noria.serving.http.routes(self.serving, Trying(self.config.gateway_url, self.config.internal_token.reveal())),
            *noria.serving.scoring_http.routes(self.scorings),
            *noria.monitoring.http.routes(self.monitoring),
            *noria.governance.http.routes(self.policies, self.approvals, self.notices, self.audit, self.webhooks),
            *noria.governance.channel_http.routes(self.channels),
            *noria.governance.supply_http.routes(self.scans, self.provenances, self.descriptions),
            *noria.governance.keys_http.routes(self.keys, self.forgetting),
            *noria.governance.mlflow.routes(self.mlflow_hooks),
            *noria.loops.http.routes(self.loops),
            *noria.reports.http.routes(self.reports, self.sharing),
            *noria.conversations.http.routes(self.conversations, self.inboxes, self.addresses),
            *noria.compliance.http.routes(self.compliance),
        ]

    def start(self) -> None:
        """Start the background work: facts, reconcilers, jobs."""
        self.pump.start()
        self.jobs.start()

    def stop(self) -> None:
        self.jobs.stop()
        self.pump.stop()
        self.db.close()


def build(config: Config, *, clock: Clock | None = None, blobs: BlobStore | None = None) -> App:
    """Wire the control plane: open database and blobs, make each service, connect readers of facts."""
    clock = clock or SystemClock()
    config.home.mkdir(parents=True, exist_ok=True)
    db = open_db(config.database_url, clock=clock)
    blobs = KeptBlobs(blobs or open_blobs(config.blobs_url), db)
    collector = Collector(db, blobs)
    ticks = Ticks()
    access = _open_access(db, config, clock)
    policies = Policies(db, suspicious_models=config.suspicious_models)
    ops = blobs.ops = Ops(clock, access, policies)
    jobs = Jobs(db, ops)
    datasets = Datasets(db, blobs, ticks, open_repository(config.blobs_url, clock=clock.now_ms), remotes=config.remotes)
    jobs.register("dataset.profile", datasets.run_profile)
    tracking = Tracking(db, blobs, ticks, datasets)
    transfers = Transfers(db, blobs, tracking, limit_bytes=config.upload_limit_mb << 20, is_direct=config.direct_transfers)
    traces, evaluations = Traces(db, tracking), Evaluations(db)
    registry = Registry(db, blobs, tracking)
    transitions = Transitions(Questions())
    pipelines = Pipelines(db, ops, blobs, transitions, lease_s=config.lease_s)
    queues = Queues(db, lease_s=config.lease_s)
    work = Work(db, ops, ticks, access, pipelines, transitions)
    watch = Watch(db, ops, config.watched)
    schedules, triggers = Schedules(db, ops, pipelines), Triggers(db, ops, access, pipelines, watch)
    pipelines.declared = Declared(schedules, triggers)
    backfills = Backfills(db, ops, pipelines)
    sweeps = Sweeps(db, ops, ticks, pipelines, transitions)
    serving = Serving(db, blobs, ticks, access, registry, gateway_url=config.gateway_url, grpc_address=config.grpc_address)
    scorings = Scorings(db, datasets, registry, pipelines, serving)
    monitoring = Monitoring(db, ops, blobs, ticks, datasets, registry, serving)
    approvals = Approvals(db, ops, access)
    scans = registry.inspector = Scans(db, ops, blobs, registry)
    sha256s = Sha256s(db, blobs)
    provenances = Provenances(db, ops, sha256s, registry, config.home)
    descriptions = Descriptions(db, ops, blobs, sha256s, registry, datasets, config.browser_url)
    audit = Audit(db, ops, blobs, config.home, parse_anchors(config.anchors))
    webhooks = Webhooks(db, ops, access)
    jobs.register(JOB_KIND, webhooks.deliver)
    channels = Channels(db, ops, access, url=config.browser_url)
    jobs.register(TELL, channels.tell)
    hooks = PolicyHooks(db, webhooks)
    jobs.register(POLICY_JOB_KIND, hooks.run)
    loops = Loops(db, ops, pipelines, registry, serving, monitoring, approvals)
    panels = Panels(tracking, registry, datasets, monitoring, serving)
    reports = Reports(db, access, panels)
    sharing = Sharing(
        db, ops, Ops(clock, Onlooker(access), policies), access, reports, panels, url=config.browser_url,
        is_public_allowed=config.public_reports,
    )  # fmt: skip
    subjects = Subjects(datasets, tracking, registry, pipelines, serving, monitoring, approvals, loops, reports)
    conversations = Conversations(db, ops, access, subjects)
    addresses = Addresses(
        db, ops, access, conversations, speak, url=config.browser_url, allow_private=config.persons_private
    )  # fmt: skip
    jobs.register(TELL_PERSON, addresses.tell)
    inboxes = Inboxes(db, ops, access, conversations, addresses)
    standing = Standing(db, blobs, config.home, parse_anchors(config.anchors))
    proofs = StandingProofs(
        ops, datasets, registry, statement=standing.provenance, audit=standing.audit,
        metric_kind=lambda name: METRICS[name].kind if name in METRICS else "",
    )  # fmt: skip
    compliance = Compliance(db, ops, access, datasets, proofs)
    tracking.purge = Purge(db, tracking, collector)
    collector.users += [
        tracking,
        registry,
        pipelines,
        serving,
        monitoring.log_keeper,
    ]  # datasets keep their bytes in packs of their own
    runs_lineage = RunLineage(db, ops, tracking)
    subscribers: list[Subscriber] = [
        triggers,
        runs_lineage,
        Answers(pipelines),
        monitoring.ingest,
        webhooks,
        channels,
        loops,
        inboxes,
    ]
    reconcilers: list[Reconciler] = [
        datasets.adopter(lambda: ops.system("datasets")), datasets.upkeep(config.collect_hours),
        work, Admission(db, ops, pipelines, transitions), sweeps, schedules, watch, backfills, approvals, scans,
        provenances, audit,
        monitoring.judge, monitoring.canary_judge, monitoring.log_keeper, LoopsReconciler(loops), compliance,
        Upkeep(db), collector, tracking.purge,
        transfers,
    ]  # fmt: skip
    return App(
        config=config, clock=clock, db=db, blobs=blobs, collector=collector, ticks=ticks, ops=ops, access=access, jobs=jobs,
        pump=Pump(db, subscribers, reconcilers), datasets=datasets, tracking=tracking, transfers=transfers, traces=traces,
        evaluations=evaluations, views=Views(db, tracking),
        registry=registry,
        pipelines=pipelines, elsewhere=Elsewhere(db, ops, access, blobs, pipelines, work),
        sweeps=sweeps, work=work, queues=queues, schedules=schedules, triggers=triggers,
        hooks=Hooks(db, ops, access), backfills=backfills, serving=serving,
        scorings=scorings,
        monitoring=monitoring, policies=policies,
        approvals=approvals, notices=Notices(db), audit=audit, keys=Keys(db, config.home, audit),
        forgetting=Forgetting(db), webhooks=webhooks, channels=channels,
        scans=scans, provenances=provenances, descriptions=descriptions, mlflow_hooks=MlflowHooks(db, webhooks), loops=loops,
        reports=reports, sharing=sharing, conversations=conversations, inboxes=inboxes, addresses=addresses,
        compliance=compliance, manual=Manual(),
    )  # fmt: skip


def _open_access(db: Database, config: Config, clock: Clock) -> Access:
    """The service of access. Raises Invalid for settings that do not fit together."""
    oidc = None
    if config.oidc_issuer:
        if not config.oidc_client_id:
            raise Invalid("NORIA_OIDC_ISSUER is set, and NORIA_OIDC_CLIENT_ID is not.", where="oidc_client_id")
        oidc = OidcSettings(
            issuer=config.oidc_issuer, client_id=config.oidc_client_id, client_secret=config.oidc_client_secret.reveal(),
            scopes=config.oidc_scopes, groups_claim=config.oidc_groups_claim,
            redirect_url=f"{config.browser_url}/login/oidc/callback", home_url=f"{config.browser_url}/login",
        )  # fmt: skip
    return Access(
        db, clock=clock, is_loopback=config.is_loopback, step_up_minutes=config.step_up_minutes, oidc=oidc,
        mapped=dict(_pair(text) for text in config.oidc_groups), browser_url=config.browser_url,
        keys=open_keys(config.secrets_key, config.home),
    )  # fmt: skip


def _pair(text: str) -> tuple[str, str]:
    theirs, sign, ours = (part.strip() for part in text.partition("="))
    if not (theirs and sign and ours):
        raise Invalid(f"NORIA_OIDC_GROUPS holds {text!r}; theirs=ours is needed.", where="oidc_groups")
    return theirs, ours


def local_asgi(home: Path) -> tuple[ASGI, str]:
    """The application on a local home, in this process and without background work: what the CLI uses when no server runs."""
    config = load_config(home=str(home))
    app = build(config)
    app.datasets.adopter(lambda: app.ops.system("datasets")).reconcile()  # what the command line committed on this home
    return asgi(app), config.control_url
