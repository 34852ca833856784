"""The rows of datasets."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from noria.datasets.model import Alias, Column, Dataset, DatasetVersion, FragmentProfile, Name, TableProfile
from noria.kernel.db import Read, Write, js
from noria.kernel.ids import DatasetVersionId
from noria.kernel.lineage import Station, station
from noria.kernel.naming import Noun, findable
from noria.kernel.things import things

IN_ONE_QUERY = 500  # SQLite takes 32,766 parameters in one statement, but plans long lists slowly
AnyProfile = TypeVar("AnyProfile", TableProfile, FragmentProfile)

things("dataset", "select name from dataset where workspace = :workspace")
station(
    Station(
        kind="dataset", action="dataset.read",
        query="""select 'dataset:' || name as ref, 'dataset:' || name as scope, name as label, '' as state, created_at_ms as at_ms
                   from dataset where name in :ids""",
    )
)  # fmt: skip
station(
    Station(
        kind="dataset_version", action="dataset.read",
        query="""select 'dataset_version:' || v.id as ref, 'dataset:' || d.name as scope, d.name || '@' || v.number as label,
                        '' as state, v.created_at_ms as at_ms
                   from dataset_version v join dataset d on d.id = v.dataset_id
                  where v.id in :ids and v.deleted_at_ms is null""",
        inside="""select v.id from dataset_version v join dataset d on d.id = v.dataset_id
                   where d.name = :name and v.deleted_at_ms is null order by v.number desc limit 500""",
    )
)  # fmt: skip
findable(
    Noun(
        kind="dataset", action="dataset.read",
        query="""select 'dataset:' || name as scope, 'dataset:' || name as ref, name as label, '' as detail, updated_at_ms as at_ms
                   from dataset where workspace = :workspace""",
    )
)  # fmt: skip
findable(
    Noun(
        kind="dataset_version", action="dataset.read",
        query="""select 'dataset:' || d.name as scope, 'dataset_version:' || d.name || '@' || v.number as ref,
                        d.name || '@' || v.number as label, v.message as detail, v.created_at_ms as at_ms
                   from dataset_version v join dataset d on d.id = v.dataset_id
                  where d.workspace = :workspace and v.deleted_at_ms is null""",
    )
)  # fmt: skip

_VERSION = """
    select v.id, d.name as dataset, v.number, v.root_digest, v.created_at_ms, v.actor, v.message, v.parents,
           v.files_count, v.size_bytes, v.rows_count, v.schema, v.branch
      from dataset_version v
      join dataset d on d.id = v.dataset_id
     where v.deleted_at_ms is null"""

_SUMMARY = """
    (select count(*) from dataset_version x where x.dataset_id = d.id and x.deleted_at_ms is null) as versions_count,
    v.number as latest, v.id as latest_id, coalesce(v.files_count, 0) as files_count,
    coalesce(v.size_bytes, 0) as size_bytes, v.rows_count"""


class Head(Struct, frozen=True, kw_only=True):
    """A dataset as a writer sees it: its last number given, and its latest version."""

    id: str
    last_number: int
    head_id: DatasetVersionId | None


# --- datasets ---------------------------------------------------------------------------------------------------------


def datasets(tx: Read, workspace: str, *, names: list[str] | None, after: str, limit: int) -> list[Dataset]:
    """By name, after `after`; only `names`, if given. Two queries."""
    where = "and d.name in :names" if names is not None else ""
    args: dict[str, Any] = {"names": names} if names is not None else {}
    found = tx.all(
        Dataset,
        f"""select d.id, d.name, d.created_at_ms, d.updated_at_ms, d.actor, {_SUMMARY}
              from dataset d
              left join dataset_version v on v.id = d.head_id
             where d.workspace = :workspace and d.name > :after {where}
             order by d.name
             limit :limit""",
        workspace=workspace, after=after, limit=limit, **args,
    )  # fmt: skip
    moved = aliases(tx, [d.id for d in found])
    return [msgspec.structs.replace(d, aliases=moved.get(d.id, [])) for d in found]


def dataset(tx: Read, workspace: str, name: str) -> Dataset | None:
    found = tx.one(
        Dataset,
        f"""select d.id, d.name, d.created_at_ms, d.updated_at_ms, d.actor, {_SUMMARY}
             from dataset d
             left join dataset_version v on v.id = d.head_id
            where d.workspace = :workspace and d.name = :name""",
        workspace=workspace, name=name,
    )  # fmt: skip
    return found and msgspec.structs.replace(found, aliases=aliases(tx, [found.id]).get(found.id, []))


def add_dataset(tx: Write, dataset_id: str, workspace: str, name: str, *, at_ms: int, actor: str) -> bool:
    """True when it is new."""
    return bool(
        tx.run(
            """insert into dataset (id, workspace, name, created_at_ms, updated_at_ms, actor, last_number, head_id)
               values (:id, :workspace, :name, :at_ms, :at_ms, :actor, 0, null)
               on conflict (workspace, name) do nothing""",
            id=dataset_id, workspace=workspace, name=name, at_ms=at_ms, actor=actor,
        )
    )  # fmt: skip


def lock(tx: Write, workspace: str, name: str) -> Head | None:
    """The dataset, held until the end of the transaction: its writers take turns, and see what the last one did."""
    return tx.one(
        Head,
        """update dataset set last_number = last_number
            where workspace = :workspace and name = :name
        returning id, last_number, head_id""",
        workspace=workspace, name=name,
    )  # fmt: skip


def move_head(tx: Write, dataset_id: str, head_id: str | None, last_number: int, *, at_ms: int) -> None:
    tx.run(
        "update dataset set head_id = :head, last_number = :number, updated_at_ms = :at_ms where id = :id",
        id=dataset_id, head=head_id, number=last_number, at_ms=at_ms,
    )  # fmt: skip


# --- versions ---------------------------------------------------------------------------------------------------------


def version(tx: Read, workspace: str, version_id: str | None) -> DatasetVersion | None:
    return _one(tx, f"{_VERSION} and v.id = :id and d.workspace = :workspace", id=version_id, workspace=workspace)


def version_by_number(tx: Read, dataset_id: str, number: int) -> DatasetVersion | None:
    return _one(tx, f"{_VERSION} and v.dataset_id = :dataset and v.number = :number", dataset=dataset_id, number=number)


def version_by_alias(tx: Read, dataset_id: str, alias: str) -> DatasetVersion | None:
    return _one(
        tx,
        f"{_VERSION} and v.id = (select version_id from dataset_ref where dataset_id = :dataset and name = :alias)",
        dataset=dataset_id, alias=alias,
    )  # fmt: skip


def versions(tx: Read, dataset_id: str, *, before: int | None, limit: int) -> list[DatasetVersion]:
    """Newest first. Two queries."""
    where = "and v.number < :before" if before is not None else ""
    args: dict[str, Any] = {"before": before} if before is not None else {}
    found = tx.all(
        DatasetVersion,
        f"{_VERSION} and v.dataset_id = :dataset {where} order by v.number desc limit :limit",
        dataset=dataset_id, limit=limit, **args,
    )  # fmt: skip
    return _with_aliases(tx, found)


class Known(Struct, frozen=True, kw_only=True):
    """A version as the index has it."""

    id: str
    number: int
    is_deleted: bool


def known(tx: Read, dataset_id: str) -> list[Known]:
    """Every version of a dataset, deleted ones too."""
    return tx.all(
        Known,
        """select id, number, deleted_at_ms is not null as is_deleted from dataset_version
            where dataset_id = :dataset order by number limit 1000000""",
        dataset=dataset_id,
    )


def renumber(tx: Write, version_id: str, number: int) -> None:
    tx.run("update dataset_version set number = :number where id = :id", id=version_id, number=number)


def restore_version(tx: Write, version_id: str) -> None:
    tx.run("update dataset_version set deleted_at_ms = null where id = :id", id=version_id)


def add_version(tx: Write, dataset_id: str, version: DatasetVersion) -> None:
    tx.run(
        """insert into dataset_version (id, dataset_id, number, root_digest, created_at_ms, actor, message, parents,
                                        files_count, size_bytes, rows_count, schema, branch)
           values (:id, :dataset, :number, :root, :at_ms, :actor, :message, :parents, :files, :size, :rows, :schema, :branch)""",
        id=version.id, dataset=dataset_id, number=version.number, root=version.root_digest, at_ms=version.created_at_ms,
        actor=version.actor, message=version.message, parents=js(version.parents), files=version.files_count,
        size=version.size_bytes, rows=version.rows_count, schema=None if version.schema is None else js(version.schema),
        branch=version.branch,
    )  # fmt: skip


def set_tables(tx: Write, version_id: str, rows_count: int | None, schema: list[Column] | None) -> None:
    """Fill in what its tables say; only what was unknown so far."""
    tx.run(
        """update dataset_version set rows_count = coalesce(rows_count, :rows), schema = coalesce(schema, :schema)
            where id = :id""",
        id=version_id, rows=rows_count, schema=None if schema is None else js(schema),
    )  # fmt: skip


def remove_version(tx: Write, version_id: str, *, at_ms: int) -> None:
    tx.run("update dataset_version set deleted_at_ms = :at_ms where id = :id", id=version_id, at_ms=at_ms)


def _one(tx: Read, sql: str, **params: Any) -> DatasetVersion | None:
    found = tx.one(DatasetVersion, sql, **params)
    return found and _with_aliases(tx, [found])[0]


def _with_aliases(tx: Read, found: list[DatasetVersion]) -> list[DatasetVersion]:
    names: dict[str, list[str]] = {}
    for row in tx.rows(
        """select version_id, name from dataset_ref
            where version_id in :ids and kind in ('alias', 'tag') order by name limit 10000""",
        ids=[v.id for v in found],
    ):
        names.setdefault(row["version_id"], []).append(row["name"])
    return [msgspec.structs.replace(v, aliases=names.get(v.id, [])) for v in found]


# --- names ----------------------------------------------------------------------------------------------------------

_ALIAS = """
    select r.dataset_id, r.name, r.version_id, v.number, r.generation, r.moved_at_ms, r.actor
      from dataset_ref r
      join dataset_version v on v.id = r.version_id
     where r.kind = 'alias'"""


class NameRow(Struct, frozen=True, kw_only=True):
    """A name as the index has it; an alias that was removed has no version."""

    name: str
    kind: str
    version_id: str | None
    generation: int


def aliases(tx: Read, dataset_ids: list[str]) -> dict[str, list[Alias]]:
    """By dataset id, in the order of names."""
    found: dict[str, list[Alias]] = {}
    for row in tx.rows(f"{_ALIAS} and r.dataset_id in :ids order by r.name limit 10000", ids=dataset_ids):
        found.setdefault(row.pop("dataset_id"), []).append(msgspec.convert(row, Alias))
    return found


def alias(tx: Read, dataset_id: str, name: str) -> Alias | None:
    return tx.one(Alias, f"{_ALIAS} and r.dataset_id = :dataset and r.name = :name", dataset=dataset_id, name=name)


def names(tx: Read, dataset_id: str) -> list[Name]:
    """Branches but for main, tags and aliases."""
    return tx.all(
        Name,
        """select r.name, r.kind, r.version_id, v.number
             from dataset_ref r
             join dataset_version v on v.id = r.version_id
            where r.dataset_id = :dataset
            order by r.kind, r.name
            limit 10000""",
        dataset=dataset_id,
    )


def name_rows(tx: Read, dataset_id: str) -> dict[str, NameRow]:
    found = tx.all(
        NameRow,
        "select name, kind, version_id, generation from dataset_ref where dataset_id = :dataset order by name limit 100000",
        dataset=dataset_id,
    )
    return {row.name: row for row in found}


def set_name(tx: Write, dataset_id: str, row: NameRow, *, at_ms: int, actor: str) -> None:
    tx.run(
        """insert into dataset_ref (dataset_id, name, kind, version_id, generation, moved_at_ms, actor)
           values (:dataset, :name, :kind, :version, :generation, :at_ms, :actor)
           on conflict (dataset_id, name) do update
              set kind = excluded.kind, version_id = excluded.version_id, generation = excluded.generation,
                  moved_at_ms = excluded.moved_at_ms, actor = excluded.actor""",
        dataset=dataset_id, name=row.name, kind=row.kind, version=row.version_id, generation=row.generation, at_ms=at_ms,
        actor=actor,
    )  # fmt: skip


def remove_name(tx: Write, dataset_id: str, name: str) -> None:
    tx.run("delete from dataset_ref where dataset_id = :dataset and name = :name", dataset=dataset_id, name=name)


# --- profiles --------------------------------------------------------------------------------------------


def profiles(tx: Read, digests: list[str], *, layout: int, kind: type[AnyProfile]) -> dict[tuple[str, str], AnyProfile]:
    """By (digest, format); their `path` is empty, since a profile belongs to the bytes."""
    found: dict[tuple[str, str], AnyProfile] = {}
    for i in range(0, len(digests), IN_ONE_QUERY):
        for row in tx.rows(
            """select digest, format, state, reason, rows_count, columns from dataset_profile
                where layout = :layout and digest in :digests
                order by digest, format limit 1000""",
            layout=layout, digests=digests[i : i + IN_ONE_QUERY],
        ):  # fmt: skip
            digest = row.pop("digest")
            row["columns"] = msgspec.json.decode(row["columns"])
            found[digest, row["format"]] = msgspec.convert({"path": "", **row}, kind)
    return found


def add_profile(tx: Write, digest: str, profile: TableProfile, *, layout: int, at_ms: int) -> None:
    tx.run(
        """insert into dataset_profile (digest, format, layout, state, reason, rows_count, columns, created_at_ms)
           values (:digest, :format, :layout, :state, :reason, :rows, :columns, :at_ms)
           on conflict (digest, format, layout) do nothing""",
        digest=digest, format=profile.format, layout=layout, state=profile.state, reason=profile.reason,
        rows=profile.rows_count, columns=js(profile.columns), at_ms=at_ms,
    )  # fmt: skip
