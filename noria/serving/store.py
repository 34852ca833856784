"""The rows of serving. Every change takes `next_generation` first: one row that orders all changes and tells the nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from noria.kernel.collector import mentioned
from noria.kernel.db import Read, Write, js
from noria.kernel.errors import NotFound
from noria.kernel.ids import Ref
from noria.kernel.lineage import Station, station
from noria.kernel.naming import Noun, findable
from noria.kernel.things import things
from noria.serving.model import (
    Canary,
    Conversion,
    Endpoint,
    ModelFileInfo,
    RecordingPolicy,
    Replica,
    Revision,
    Route,
    SegmentInfo,
    TrafficSample,
)

things("endpoint", "select name from endpoint where not is_deleted")


def _live(row: dict[str, Any]) -> list[str]:
    """An endpoint that has traffic, and the revisions that answer it."""
    routes = [r for r in msgspec.json.decode(row["routes"]) if r["weight"] > 0]
    return [str(row["ref"]), *(f"revision:{r['revision_id']}" for r in routes)] if routes else []


station(
    Station(
        kind="endpoint", action="endpoint.read", live=_live,
        query="""select 'endpoint:' || name as ref, 'endpoint:' || name as scope, name as label, status as state,
                        created_at_ms as at_ms, routes
                   from endpoint where name in :ids and not is_deleted""",
    )
)  # fmt: skip
station(
    Station(
        kind="revision", action="endpoint.read",
        query="""select 'revision:' || id as ref, 'endpoint:' || endpoint as scope,
                        endpoint || ': ' || model || '@' || model_version as label, state, created_at_ms as at_ms
                   from revision where id in :ids""",
    )
)  # fmt: skip
findable(
    Noun(
        kind="endpoint", action="endpoint.read",
        query="""select 'endpoint:' || name as scope, 'endpoint:' || name as ref, name as label, 'answers with ' || model as detail,
                        updated_at_ms as at_ms
                   from endpoint where not is_deleted""",
    )
)  # fmt: skip

_ENDPOINT = "name, model, generation, routes, pending_revision_id, status, created_at_ms, updated_at_ms"
_REVISION = (
    "id, endpoint, number, model, model_version, model_version_id, digest, config, environment, state, error,"
    " created_at_ms, actor"
)
_CANARY = (
    "id, endpoint, revision_id, champion_revision_id, model_version, steps, step, guard, state, started_at_ms, stepped_at_ms,"
    " ended_at_ms, reason, evidence"
)
_CONVERSION = "digest, revision_id, made_digest, files, words, at_ms"
_SEGMENT = "seq, endpoint, kind, revision_id, digest, rows, size_bytes, event_from_ms, event_to_ms, at_ms"
SEGMENTS_LOCK = 0x7365676D  # 'segm': the PostgreSQL advisory lock that orders segments


def generation(tx: Read) -> int:
    return int(tx.scalar("select generation from serving_generation where id = 1") or 0)


def next_generation(tx: Write) -> int:
    """Move the generation; until the commit, other changes of serving wait here."""
    return int(
        tx.scalar(
            """insert into serving_generation (id, generation) values (1, 1)
               on conflict (id) do update set generation = serving_generation.generation + 1
               returning generation"""
        )
    )


# --- endpoints ----------------------------------------------------------------------------------------------------------


def endpoint(tx: Read, name: str) -> Endpoint:
    """Raises NotFound."""
    found = find_endpoint(tx, name)
    if found is None:
        raise NotFound(f"There is no endpoint {name!r}.", ref=Ref("endpoint", name), hint="noria endpoint list shows them.")
    return found


def find_endpoint(tx: Read, name: str) -> Endpoint | None:
    return tx.one(Endpoint, f"select {_ENDPOINT} from endpoint where name = :name and not is_deleted", name=name)


def endpoints(tx: Read, *, names: list[str] | None = None, after: str = "", limit: int = 1000) -> list[Endpoint]:
    """By name; of `names` only, if given."""
    where, args = "", dict[str, Any]()
    if names is not None:
        where, args = "and name in :names", {"names": names or [""]}
    return tx.all(
        Endpoint,
        f"select {_ENDPOINT} from endpoint where not is_deleted and name > :after {where} order by name limit :limit",
        after=after, limit=limit, **args,
    )  # fmt: skip


def put_endpoint(tx: Write, wanted: Endpoint) -> None:
    tx.run(
        """insert into endpoint (name, model, generation, routes, pending_revision_id, status, created_at_ms, updated_at_ms,
                                 is_deleted)
           values (:name, :model, :generation, :routes, :pending, :status, :created, :updated, false)
           on conflict (name) do update
              set model = excluded.model, generation = excluded.generation, routes = excluded.routes,
                  pending_revision_id = excluded.pending_revision_id, status = excluded.status,
                  updated_at_ms = excluded.updated_at_ms, is_deleted = false""",
        name=wanted.name, model=wanted.model, generation=wanted.generation, routes=js(wanted.routes),
        pending=wanted.pending_revision_id, status=wanted.status, created=wanted.created_at_ms, updated=wanted.updated_at_ms,
    )  # fmt: skip


def delete_endpoint(tx: Write, name: str, *, at_ms: int) -> None:
    tx.run(
        """update endpoint set is_deleted = true, routes = '[]', pending_revision_id = '', updated_at_ms = :at_ms
            where name = :name""",
        name=name, at_ms=at_ms,
    )  # fmt: skip


# --- revisions ----------------------------------------------------------------------------------------------------------


def add_revision(tx: Write, made: Revision, files: Sequence[ModelFileInfo]) -> None:
    tx.run(
        """insert into revision (id, endpoint, number, model, model_version, model_version_id, digest, config, environment,
                                 files, state, error, created_at_ms, actor)
           values (:id, :endpoint, :number, :model, :model_version, :model_version_id, :digest, :config, :environment,
                   :files, :state, '', :created_at_ms, :actor)""",
        id=made.id, endpoint=made.endpoint, number=made.number, model=made.model, model_version=made.model_version,
        model_version_id=made.model_version_id, digest=made.digest, config=js(made.config), environment=made.environment,
        files=js(files), state=made.state, created_at_ms=made.created_at_ms, actor=made.actor,
    )  # fmt: skip


def next_revision_number(tx: Read, endpoint: str) -> int:
    return int(tx.scalar("select coalesce(max(number), 0) + 1 from revision where endpoint = :endpoint", endpoint=endpoint))


def revision(tx: Read, revision_id: str) -> Revision:
    """Raises NotFound."""
    found = tx.one(Revision, f"select {_REVISION} from revision where id = :id", id=revision_id)
    if found is None:
        raise NotFound(f"There is no revision {revision_id}.", ref=Ref("revision", revision_id))
    return found


def revisions(tx: Read, endpoint: str, *, limit: int = 100) -> list[Revision]:
    """Newest first."""
    return tx.all(
        Revision,
        f"select {_REVISION} from revision where endpoint = :endpoint order by number desc limit :limit",
        endpoint=endpoint, limit=limit,
    )  # fmt: skip


def revisions_by_id(tx: Read, ids: list[str]) -> list[Revision]:
    if not ids:
        return []
    return tx.all(Revision, f"select {_REVISION} from revision where id in :ids order by id limit 10000", ids=ids)


def files(tx: Read, ids: list[str]) -> dict[str, list[ModelFileInfo]]:
    """The model files of revisions."""
    if not ids:
        return {}
    rows = tx.rows("select id, files from revision where id in :ids order by id limit 10000", ids=ids)
    return {r["id"]: msgspec.json.decode(r["files"], type=list[ModelFileInfo]) for r in rows}


def conversions(tx: Read, digests: list[str]) -> dict[str, Conversion]:
    """What the models with these digests were made into."""
    if not digests:
        return {}
    found = tx.all(
        Conversion,
        f"select {_CONVERSION} from conversion where digest in :digests order by digest limit 10000",
        digests=sorted(set(digests)),
    )
    return {c.digest: c for c in found}


def add_conversion(tx: Write, made: Conversion) -> bool:
    """Register; False when there is one."""
    added = tx.run(
        """insert into conversion (digest, revision_id, made_digest, files, words, envelope, at_ms)
           values (:digest, :revision_id, :made_digest, :files, :words, '', :at_ms)
           on conflict (digest) do nothing""",
        digest=made.digest, revision_id=made.revision_id, made_digest=made.made_digest, files=js(made.files),
        words=made.words, at_ms=made.at_ms,
    )  # fmt: skip
    return bool(added)


def set_state(tx: Write, revision_id: str, state: str, error: str = "") -> None:
    tx.run("update revision set state = :state, error = :error where id = :id", id=revision_id, state=state, error=error)


# --- replicas -----------------------------------------------------------------------------------------------------------


def replicas(tx: Read, ids: list[str]) -> list[Replica]:
    if not ids:
        return []
    return tx.all(
        Replica,
        """select node, revision_id, seat, state, pid, restarts, digest, engine, environment, isolation, doing, error,
                  memory_bytes, memory_limit_bytes, fault, fault_at_ms, at_ms
             from replica where revision_id in :ids order by revision_id, node, seat limit 1000""",
        ids=ids,
    )  # fmt: skip


def put_replicas(tx: Write, node: str, found: list[Replica]) -> None:
    """What `node` runs, in place of what it ran."""
    tx.run("delete from replica where node = :node", node=node)
    tx.many(
        """insert into replica (node, revision_id, seat, state, pid, restarts, digest, engine, environment, isolation, doing, error,
                                memory_bytes, memory_limit_bytes, fault, fault_at_ms, at_ms)
           values (:node, :revision_id, :seat, :state, :pid, :restarts, :digest, :engine, :environment, :isolation, :doing,
                   :error, :memory_bytes, :memory_limit_bytes, :fault, :fault_at_ms, :at_ms)""",
        [{**msgspec.to_builtins(r), "node": node} for r in found],
    )


def put_node(tx: Write, name: str, generation: int, at_ms: int) -> None:
    tx.run(
        """insert into serving_node (name, generation, at_ms) values (:name, :generation, :at_ms)
           on conflict (name) do update set generation = excluded.generation, at_ms = excluded.at_ms""",
        name=name, generation=generation, at_ms=at_ms,
    )  # fmt: skip


def followed_generation(tx: Read) -> int:
    """The newest generation that a node follows."""
    return int(tx.scalar("select coalesce(max(generation), 0) from serving_node"))


# --- canaries -----------------------------------------------------------------------------------------------------------


def open_canary(tx: Read, endpoint: str) -> Canary | None:
    """The canary that is starting or running."""
    return tx.one(
        Canary,
        f"""select {_CANARY} from canary
             where endpoint = :endpoint and state in ('starting', 'running') order by id desc limit 1""",
        endpoint=endpoint,
    )  # fmt: skip


def running_canaries(tx: Read) -> list[Canary]:
    return tx.all(Canary, f"select {_CANARY} from canary where state = 'running' order by endpoint limit 10000")


def canaries(tx: Read, endpoint: str, *, limit: int = 20) -> list[Canary]:
    """Newest first."""
    return tx.all(
        Canary,
        f"select {_CANARY} from canary where endpoint = :endpoint order by id desc limit :limit",
        endpoint=endpoint, limit=limit,
    )  # fmt: skip


def canary(tx: Read, canary_id: str) -> Canary | None:
    return tx.one(Canary, f"select {_CANARY} from canary where id = :id", id=canary_id)


def put_canary(tx: Write, wanted: Canary) -> None:
    tx.run(
        """insert into canary (id, endpoint, revision_id, champion_revision_id, model_version, steps, step, guard, state,
                               started_at_ms, stepped_at_ms, ended_at_ms, reason, evidence)
           values (:id, :endpoint, :revision_id, :champion, :model_version, :steps, :step, :guard, :state, :started, :stepped,
                   :ended, :reason, :evidence)
           on conflict (id) do update
              set step = excluded.step, state = excluded.state, stepped_at_ms = excluded.stepped_at_ms,
                  started_at_ms = excluded.started_at_ms, ended_at_ms = excluded.ended_at_ms, reason = excluded.reason,
                  evidence = excluded.evidence""",
        id=wanted.id, endpoint=wanted.endpoint, revision_id=wanted.revision_id, champion=wanted.champion_revision_id,
        model_version=wanted.model_version, steps=js(wanted.steps), step=wanted.step, guard=js(wanted.guard),
        state=wanted.state, started=wanted.started_at_ms, stepped=wanted.stepped_at_ms, ended=wanted.ended_at_ms,
        reason=wanted.reason, evidence=js(wanted.evidence),
    )  # fmt: skip


# --- traffic ------------------------------------------------------------------------------------------------------------


def add_traffic(tx: Write, sample: TrafficSample) -> None:
    """Add a sample to its step."""
    key = {"endpoint": sample.endpoint, "step": sample.at_ms, "revision_id": sample.revision_id}
    before = tx.rows(
        """select requests, errors, rejected, latency from traffic
            where endpoint = :endpoint and step_at_ms = :step and revision_id = :revision_id""",
        **key,
    )
    latency = {int(k): v for k, v in sample.latency.items()}
    requests, errors, rejected = sample.requests, sample.errors, sample.rejected
    for row in before:
        requests, errors, rejected = requests + row["requests"], errors + row["errors"], rejected + row["rejected"]
        add_counts(latency, row["latency"])
    tx.run(
        """insert into traffic (endpoint, step_at_ms, revision_id, requests, errors, rejected, latency)
           values (:endpoint, :step, :revision_id, :requests, :errors, :rejected, :latency)
           on conflict (endpoint, step_at_ms, revision_id) do update
              set requests = excluded.requests, errors = excluded.errors, rejected = excluded.rejected,
                  latency = excluded.latency""",
        **key, requests=requests, errors=errors, rejected=rejected, latency=js(latency),
    )  # fmt: skip


def add_counts(into: dict[int, int], latency: str) -> None:
    """Add the latency counts of a row."""
    for bucket, n in msgspec.json.decode(latency, type=dict[int, int]).items():
        into[bucket] = into.get(bucket, 0) + n


def traffic(tx: Read, endpoint: str, from_ms: int, to_ms: int, *, limit: int) -> list[dict[str, Any]]:
    """Rows of steps in [from, to), oldest first."""
    return tx.rows(
        """select step_at_ms, revision_id, requests, errors, rejected, latency
             from traffic
            where endpoint = :endpoint and step_at_ms >= :from_ms and step_at_ms < :to_ms
            order by step_at_ms, revision_id
            limit :limit""",
        endpoint=endpoint, from_ms=from_ms, to_ms=to_ms, limit=limit,
    )  # fmt: skip


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """What a revision answered; `latency` by bucket."""

    requests: int
    errors: int
    latency: dict[int, int]

    @property
    def error_share(self) -> float:
        return self.errors / self.requests if self.requests else 0.0


def answered_since(tx: Read, revision_id: str, from_ms: int) -> Answered:
    """What a revision answered since then; a canary's life has a row for every ten seconds."""
    rows = tx.rows(
        "select requests, errors, latency from traffic where revision_id = :id and step_at_ms >= :from_ms",
        id=revision_id, from_ms=from_ms,
    )  # fmt: skip
    latency: dict[int, int] = {}
    for row in rows:
        add_counts(latency, row["latency"])
    return Answered(
        requests=sum(int(r["requests"]) for r in rows), errors=sum(int(r["errors"]) for r in rows), latency=latency
    )


def forget_traffic(tx: Write, before_ms: int) -> int:
    return tx.run("delete from traffic where step_at_ms < :before_ms", before_ms=before_ms)


# --- recording ----------------------------------------------------------------------------------------------------------


def recordings(tx: Read, *, endpoint: str = "") -> list[RecordingPolicy]:
    """The policies of recording, by endpoint."""
    where, args = ("where endpoint = :endpoint", {"endpoint": endpoint}) if endpoint else ("", {})
    return tx.all(
        RecordingPolicy, f"select endpoint, policy as recording, salt from recording {where} order by endpoint", **args
    )


def put_recording(tx: Write, policy: RecordingPolicy, *, at_ms: int, actor: str) -> None:
    """Write a policy; the salt of one that is there stays."""
    tx.run(
        """insert into recording (endpoint, policy, salt, updated_at_ms, actor) values (:endpoint, :policy, :salt, :at, :actor)
           on conflict (endpoint) do update
              set policy = excluded.policy, updated_at_ms = excluded.updated_at_ms, actor = excluded.actor""",
        endpoint=policy.endpoint, policy=js(policy.recording), salt=policy.salt, at=at_ms, actor=actor,
    )  # fmt: skip


# --- segments -----------------------------------------------------------------------------------------------------------


def add_segment(tx: Write, info: SegmentInfo) -> SegmentInfo | None:
    """Register; None when it was registered before."""
    if tx.dialect == "postgresql":
        tx.run("select pg_advisory_xact_lock(:key)", key=SEGMENTS_LOCK)
    if tx.scalar("select seq from segment where digest = :digest", digest=info.digest) is not None:
        return None
    seq = int(tx.scalar("select coalesce(max(seq), 0) + 1 from segment"))
    made = msgspec.structs.replace(info, seq=seq)
    tx.run(
        """insert into segment (seq, endpoint, kind, revision_id, digest, rows, size_bytes, event_from_ms, event_to_ms, at_ms)
           values (:seq, :endpoint, :kind, :revision_id, :digest, :rows, :size_bytes, :event_from_ms, :event_to_ms, :at_ms)""",
        **msgspec.to_builtins(made),
    )
    return made


def segments(tx: Read, endpoint: str, *, after_seq: int, kind: str = "", limit: int) -> list[SegmentInfo]:
    """Oldest first."""
    where, args = ("and kind = :kind", {"kind": kind}) if kind else ("", {})
    return tx.all(
        SegmentInfo,
        f"""select {_SEGMENT} from segment
             where endpoint = :endpoint and seq > :after and not is_compacted {where} order by seq limit :limit""",
        endpoint=endpoint, after=after_seq, limit=limit, **args,
    )  # fmt: skip


def give_up_segments(tx: Write, digests: list[str]) -> list[tuple[str, int]]:
    """Mark segments whose rows lie in a larger file now; returns those (digest, size) that were not marked before."""
    rows = tx.rows(
        "select digest, size_bytes from segment where digest in :digests and not is_compacted", digests=digests
    )  # fmt: skip
    tx.run("update segment set is_compacted = :yes where digest in :digests", digests=digests, yes=True)
    return [(r["digest"], int(r["size_bytes"])) for r in rows]


def routes_of(endpoint: Endpoint, role: str) -> list[Route]:
    return [r for r in endpoint.routes if r.role == role]


def digests_in_use(tx: Read, digests: list[str]) -> set[str]:
    """Those of `digests` that a revision, a conversion or a segment names."""
    found = mentioned(tx, "select files, config, environment from revision", digests)
    found |= mentioned(tx, "select files from conversion", digests)
    return found | mentioned(
        tx, "select digest from segment where digest in :digests and not is_compacted", digests, digests=digests
    )
