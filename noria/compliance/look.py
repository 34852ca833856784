"""What a check may look at: one system (or everything) as it stands on record, read in one transaction and never changed.

A check asks a `Look` for versions in production, their runs, data, approvals, evaluations; each is read once. What the database does not
say – does a signature verify, what is in a table, is the log intact – it asks of `Proofs`, which the application gives.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from noria.compliance import store
from noria.compliance.model import DAY_MS, Check, EvidenceReport, System, SystemSpec
from noria.kernel.db import Read

ENDPOINTS_MAX = 2_000
LIVE_ROLES = ("champion", "canary")
PRODUCTION_ALIASES = ("champion", "production")


class Proofs(Protocol):
    """What is asked of others."""

    def provenance(self, version_id: str) -> tuple[dict[str, Any] | None, str]:
        """The statement that is signed about a version, and why it does not hold; '' when it does."""
        ...

    def columns(self, dataset_version: str) -> list[tuple[str, list[str]]] | None:
        """Names of the columns of a dataset version with some of their values; None: they are not read yet, or no tables."""
        ...

    def audit(self) -> tuple[bool, str, int | None]:
        """Is the sealed log intact, what is wrong, and when did a place elsewhere last take a checkpoint?"""
        ...

    def metric_kind(self, metric: str) -> str:
        """drift, performance, …; '' for one that is not known."""
        ...

    def card(self, version_id: str) -> dict[str, str]:
        """What people wrote on the card of a version, by section."""
        ...


class Endpoint(Struct, frozen=True, kw_only=True):
    """An endpoint that is not deleted."""

    name: str
    model: str
    routes: list[dict[str, Any]]
    created_at_ms: int


class Revision(Struct, frozen=True, kw_only=True):
    """What an endpoint runs."""

    id: str
    endpoint: str
    number: int
    model: str
    model_version: int
    model_version_id: str
    digest: str
    state: str
    created_at_ms: int
    actor: str


class Version(Struct, frozen=True, kw_only=True):
    """A model version in production, and since when."""

    id: str
    model: str
    number: int
    digest: str
    run_id: str
    actor: str
    created_at_ms: int
    environment_digest: str
    packages: list[str]
    since_ms: int = 0
    where: list[str] = []

    @property
    def label(self) -> str:
        return f"{self.model}@{self.number}"

    @property
    def ref(self) -> str:
        return f"model_version:{self.id}"


class Run(Struct, frozen=True, kw_only=True):
    """The run that made a version."""

    id: str
    status: str
    user_name: str
    actor: str
    source_commit: str
    source_dirty: bool
    source_diff_digest: str
    ended_at_ms: int | None


class Data(Struct, frozen=True, kw_only=True):
    """A dataset version that a version was trained on; `dataset` is '' when it is gone."""

    id: str
    dataset: str
    number: int
    root_digest: str
    created_at_ms: int
    deleted_at_ms: int | None

    @property
    def label(self) -> str:
        return f"{self.dataset}@{self.number}" if self.dataset else self.id

    @property
    def ref(self) -> str:
        return f"dataset_version:{self.id}"


class Evaluated(Struct, frozen=True, kw_only=True):
    """An evaluation of a version."""

    version_id: str
    seq: int
    dataset_version: str
    split: str
    metrics: dict[str, float]
    slices: dict[str, dict[str, float]]
    at_ms: int
    actor: str


class Voted(Struct, frozen=True, kw_only=True):
    """One vote of an approval that was granted."""

    approval_id: str
    actor: str
    principal_id: str
    decision: str
    at_ms: int
    digest: str
    action: str
    authors: list[str]
    required: int
    is_emergency: bool


class Look:
    """See the module. `system` None: the whole installation."""

    def __init__(
        self, tx: Read, check: Check, system: System | None, *, now_ms: int, proofs: Proofs, shared: dict[str, Any]
    ) -> None:  # fmt: skip
        self.tx, self.check, self.system, self.now_ms, self.proofs = tx, check, system, now_ms, proofs
        self._shared = shared  # what was read already for another check of the same system

    @property
    def spec(self) -> SystemSpec:
        return self.system.spec if self.system else SystemSpec()

    def limit(self, name: str) -> float:
        return self.check.limits[name]

    def days_ago_ms(self, name: str = "days") -> int:
        return self.now_ms - int(self.limit(name) * DAY_MS)

    def _once(self, name: str, read: Callable[[], Any]) -> Any:
        if name not in self._shared:
            self._shared[name] = read()
        return self._shared[name]

    # --- what there is ------------------------------------------------------------------------------------------------

    @cached_property
    def endpoints(self) -> list[Endpoint]:
        """The endpoints of the system: members, and those that serve a member model."""
        return self._once("endpoints", self._read_endpoints)  # type: ignore[no-any-return]

    def _read_endpoints(self) -> list[Endpoint]:
        found = self.tx.all(
            Endpoint,
            "select name, model, routes, created_at_ms from endpoint where not is_deleted order by name limit :limit",
            limit=ENDPOINTS_MAX,
        )
        if self.system is None:
            return found
        members = set(self.spec.members)
        return [e for e in found if f"endpoint:{e.name}" in members or f"model:{e.model}" in members]

    @cached_property
    def live(self) -> list[Revision]:
        """Revisions that get traffic."""
        return self._once("live", lambda: self._revisions(_live_ids(self.endpoints)))  # type: ignore[no-any-return]

    def _revisions(self, ids: list[str]) -> list[Revision]:
        return self.tx.all(
            Revision,
            """select id, endpoint, number, model, model_version, model_version_id, digest, state, created_at_ms, actor
                 from revision where id in :ids order by endpoint, number limit 4000""",
            ids=ids,
        )

    def revisions_of(self, endpoint: str) -> list[Revision]:
        """The newest revisions of an endpoint, newest first."""
        return self.tx.all(
            Revision,
            """select id, endpoint, number, model, model_version, model_version_id, digest, state, created_at_ms, actor
                 from revision where endpoint = :endpoint order by number desc limit 20""",
            endpoint=endpoint,
        )

    @cached_property
    def versions(self) -> list[Version]:
        """Versions in production: those that get traffic, and those that a member model's champion names."""
        return self._once("versions", self._read_versions)  # type: ignore[no-any-return]

    def _read_versions(self) -> list[Version]:
        since: dict[str, int] = {}
        where: dict[str, list[str]] = {}
        for revision in self.live:
            key = revision.model_version_id
            since[key] = min(since.get(key, revision.created_at_ms), revision.created_at_ms)
            where.setdefault(key, []).append(f"endpoint:{revision.endpoint}")
        models = [m.removeprefix("model:") for m in self.spec.members if m.startswith("model:")]
        named = self.tx.rows(
            """select v.id, a.name as alias, a.moved_at_ms, m.name as model
                 from alias a join model m on m.id = a.model_id
                 join model_version v on v.model_id = a.model_id and v.number = a.number
                where m.name in :models and a.name in :aliases order by v.id limit 1000""",
            models=models, aliases=list(PRODUCTION_ALIASES),
        )  # fmt: skip
        for row in named:
            since[row["id"]] = min(since.get(row["id"], row["moved_at_ms"]), row["moved_at_ms"])
            where.setdefault(row["id"], []).append(f"alias:{row['model']}@{row['alias']}")
        found = self.tx.all(
            Version,
            """select v.id, m.name as model, v.number, v.digest, v.run_id, v.actor, v.created_at_ms, v.environment_digest,
                      v.packages
                 from model_version v join model m on m.id = v.model_id where v.id in :ids order by m.name, v.number limit 2000""",
            ids=list(since),
        )
        return [msgspec.structs.replace(v, since_ms=since[v.id], where=where[v.id]) for v in found]

    @property
    def production_ms(self) -> int | None:
        """When the newest of them went into production."""
        return max((v.since_ms for v in self.versions), default=None)

    @cached_property
    def runs(self) -> dict[str, Run]:
        """The runs that made the versions, by id."""
        return self._once("runs", self._read_runs)  # type: ignore[no-any-return]

    def _read_runs(self) -> dict[str, Run]:
        found = self.tx.all(
            Run,
            """select id, status, user_name, actor, source_commit, source_dirty, source_diff_digest, ended_at_ms
                 from run where id in :ids order by id limit 2000""",
            ids=[v.run_id for v in self.versions if v.run_id],
        )
        return {r.id: r for r in found}

    @cached_property
    def trained_on(self) -> dict[str, list[Data]]:
        """The data of each version, by its id."""
        return self._once("trained_on", self._read_trained_on)  # type: ignore[no-any-return]

    def _read_trained_on(self) -> dict[str, list[Data]]:
        edges = self.tx.rows(
            "select src, dst from edge where kind = 'trained_on' and src in :refs order by src, dst limit 20000",
            refs=[v.ref for v in self.versions],
        )
        ids = sorted({e["dst"].partition(":")[2] for e in edges})
        known = {d.id: d for d in self.data_versions(ids)}
        found: dict[str, list[Data]] = {v.id: [] for v in self.versions}
        for edge in edges:
            found[edge["src"].partition(":")[2]].append(known[edge["dst"].partition(":")[2]])
        return found

    def data_versions(self, ids: list[str]) -> list[Data]:
        """Dataset versions by id; one that is not known has no name."""
        found = self.tx.all(
            Data,
            """select v.id, d.name as dataset, v.number, v.root_digest, v.created_at_ms, v.deleted_at_ms
                 from dataset_version v join dataset d on d.id = v.dataset_id where v.id in :ids order by v.id limit 20000""",
            ids=ids,
        )
        gone = set(ids) - {d.id for d in found}
        return found + [
            Data(id=i, dataset="", number=0, root_digest="", created_at_ms=0, deleted_at_ms=None) for i in sorted(gone)
        ]

    @property
    def data(self) -> list[Data]:
        """Every dataset version that a version in production was trained on."""
        return sorted({d.id: d for ds in self.trained_on.values() for d in ds}.values(), key=lambda d: (d.dataset, d.number))

    @property
    def datasets(self) -> list[str]:
        return sorted({d.dataset for d in self.data if d.dataset})

    @cached_property
    def sheets(self) -> dict[str, store.SheetRow]:
        return self._once("sheets", lambda: store.sheets(self.tx, self.datasets))  # type: ignore[no-any-return]

    @cached_property
    def evaluations(self) -> dict[str, list[Evaluated]]:
        """The latest evaluation of each version per data and split."""
        return {
            version: list({(e.dataset_version, e.split): e for e in found}.values())
            for version, found in self.evaluations_ever.items()
        }

    @cached_property
    def evaluations_ever(self) -> dict[str, list[Evaluated]]:
        """Every evaluation of each version, in order."""
        return self._once("evaluations", self._read_evaluations)  # type: ignore[no-any-return]

    def _read_evaluations(self) -> dict[str, list[Evaluated]]:
        rows = self.tx.all(
            Evaluated,
            """select version_id, seq, dataset_version, split, metrics, slices, at_ms, actor from evaluation
                where version_id in :ids order by version_id, seq limit 20000""",
            ids=[v.id for v in self.versions],
        )
        found: dict[str, list[Evaluated]] = {v.id: [] for v in self.versions}
        for row in rows:
            found[row.version_id].append(row)
        return found

    @cached_property
    def votes(self) -> dict[str, list[Voted]]:
        """The votes of approvals that were granted, by the digest they are for."""
        return self._once("votes", self._read_votes)  # type: ignore[no-any-return]

    def _read_votes(self) -> dict[str, list[Voted]]:
        digests = sorted({v.digest for v in self.versions} | {r.digest for r in self.live})
        rows = self.tx.all(
            Voted,
            """select v.approval_id, v.actor, v.principal_id, v.decision, v.at_ms, a.digest, a.action, a.authors, a.required,
                      a.is_emergency
                 from approval a join approval_vote v on v.approval_id = a.id
                where a.digest in :digests and a.state in ('granted', 'expired')
                order by v.approval_id, v.at_ms limit 20000""",
            digests=digests,
        )
        given: dict[str, list[Voted]] = {}
        for row in rows:
            given.setdefault(row.approval_id, []).append(row)
        found: dict[str, list[Voted]] = {}
        for votes in given.values():
            yes = sum(v.decision == "approve" for v in votes)
            if votes[0].is_emergency or yes >= votes[0].required:  # an approval that expired unanswered was never granted
                found.setdefault(votes[0].digest, []).extend(votes)
        return found

    @cached_property
    def reports(self) -> list[EvidenceReport]:
        name = self.system.name if self.system else ""
        return self._once("reports", lambda: store.reports(self.tx, name))  # type: ignore[no-any-return]

    def facts(self, kind: str, *, subject: str | None = None, since_ms: int = 0, limit: int = 200) -> list[dict[str, Any]]:
        """Facts of a kind, newest first; of one subject if given."""
        about = "and subject = :subject" if subject is not None else ""
        args = {"subject": subject} if subject is not None else {}
        rows = self.tx.rows(
            f"""select seq, at_ms, subject, actor, data from event where kind = :kind {about} and at_ms >= :since
                order by seq desc limit :limit""",
            kind=kind, since=since_ms, limit=limit, **args,
        )  # fmt: skip
        return [{**row, "data": msgspec.json.decode(row["data"])} for row in rows]

    def tags(self, version: Version) -> dict[str, str]:
        """The tags of a version over those of its model."""
        rows = self.tx.rows(
            """select key, value, 0 as rank from model_tag where model_id = (select model_id from model_version where id = :id)
               union all select key, value, 1 as rank from model_version_tag where version_id = :id order by rank""",
            id=version.id,
        )
        return {r["key"]: r["value"] for r in rows}


def names_in(label: str) -> frozenset[str]:
    """Every name that an actor's label counts as: itself, without `for …`, whom it acts for."""
    plain, _, principal = label.partition(" for ")
    return frozenset({label, plain, principal} - {""})


def _live_ids(endpoints: list[Endpoint]) -> list[str]:
    return [
        str(r["revision_id"])
        for e in endpoints
        for r in e.routes
        if r.get("role") in LIVE_ROLES and int(r.get("weight", 0)) > 0
    ]
