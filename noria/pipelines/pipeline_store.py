"""The rows of pipelines and their versions."""

from __future__ import annotations

from typing import Any

from noria.kernel.db import Read, Write, js
from noria.kernel.lineage import Station, station
from noria.kernel.naming import Noun, findable
from noria.kernel.things import things
from noria.pipelines.model.spec import Pipeline, PipelineVersion

things("pipeline", "select name from pipeline")
station(
    Station(
        kind="pipeline", action="pipeline.read",
        query="""select 'pipeline:' || name as ref, 'pipeline:' || name as scope, name as label, '' as state, created_at_ms as at_ms
                   from pipeline where name in :ids""",
    )
)  # fmt: skip
station(
    Station(
        kind="pipeline_run", action="pipeline.read",
        query="""select 'pipeline_run:' || id as ref, 'pipeline:' || pipeline as scope, pipeline || ' ' || substr(id, 25) as label,
                        state, created_at_ms as at_ms
                   from pipeline_run where id in :ids""",
    )
)  # fmt: skip
findable(
    Noun(
        kind="pipeline", action="pipeline.read",
        query="""select 'pipeline:' || name as scope, 'pipeline:' || name as ref, name as label, description as detail,
                        updated_at_ms as at_ms
                   from pipeline""",
    )
)  # fmt: skip
findable(
    Noun(
        kind="schedule", action="pipeline.read",
        query="""select 'pipeline:' || pipeline as scope, 'pipeline:' || pipeline as ref, name as label,
                        'starts ' || pipeline as detail, created_at_ms as at_ms
                   from schedule""",
    )
)  # fmt: skip
findable(
    Noun(
        kind="trigger", action="pipeline.read",
        query="""select 'pipeline:' || pipeline as scope, 'pipeline:' || pipeline as ref, name as label,
                        'starts ' || pipeline as detail, created_at_ms as at_ms
                   from trigger""",
    )
)  # fmt: skip
_PIPELINE = "id, name, version, description, created_at_ms, updated_at_ms, owner, is_paused"
_VERSION = "pipeline, number, digest, created_at_ms, actor, owner, spec"


def pipeline(tx: Read, name: str) -> Pipeline | None:
    return tx.one(Pipeline, f"select {_PIPELINE} from pipeline where name = :name", name=name)


def pipelines(tx: Read, *, names: list[str] | None, after: str, limit: int) -> list[Pipeline]:
    where, args = "", dict[str, Any]()
    if names is not None:
        where, args = "and name in :names", {"names": names}
    return tx.all(
        Pipeline,
        f"select {_PIPELINE} from pipeline where name > :after {where} order by name limit :limit",
        after=after, limit=limit, **args,
    )  # fmt: skip


def version(tx: Read, name: str, number: int) -> PipelineVersion | None:
    return tx.one(
        PipelineVersion,
        f"select {_VERSION} from pipeline_version where pipeline = :name and number = :number",
        name=name, number=number,
    )  # fmt: skip


def versions(tx: Read, name: str, *, before: int, limit: int) -> list[PipelineVersion]:
    return tx.all(
        PipelineVersion,
        f"""select {_VERSION} from pipeline_version
             where pipeline = :name and number < :before order by number desc limit :limit""",
        name=name, before=before, limit=limit,
    )  # fmt: skip


def lock_pipeline(tx: Write, name: str) -> None:
    """Let one registration at a time number its version."""
    tx.run("update pipeline set version = version where name = :name", name=name)


def save_pipeline(tx: Write, found: Pipeline) -> None:
    tx.run(
        """insert into pipeline (id, name, version, description, created_at_ms, updated_at_ms, owner)
           values (:id, :name, :version, :description, :created, :updated, :owner)
           on conflict (name) do update
              set version = excluded.version, description = excluded.description, updated_at_ms = excluded.updated_at_ms,
                  owner = excluded.owner""",
        id=found.id, name=found.name, version=found.version, description=found.description,
        created=found.created_at_ms, updated=found.updated_at_ms, owner=found.owner,
    )  # fmt: skip


def pause_pipeline(tx: Write, name: str, is_paused: bool) -> bool:
    """False when it was so already."""
    return bool(
        tx.run(
            "update pipeline set is_paused = :is_paused where name = :name and is_paused <> :is_paused",
            name=name, is_paused=is_paused,
        )
    )  # fmt: skip


def add_version(tx: Write, made: PipelineVersion) -> None:
    tx.run(
        """insert into pipeline_version (pipeline, number, digest, created_at_ms, actor, owner, spec)
           values (:pipeline, :number, :digest, :created, :actor, :owner, :spec)""",
        pipeline=made.pipeline, number=made.number, digest=made.digest, created=made.created_at_ms, actor=made.actor,
        owner=made.owner, spec=js(made.spec),
    )  # fmt: skip
