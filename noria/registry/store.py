"""The rows of registry."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, structs

from noria.kernel.collector import condemn
from noria.kernel.db import Read, Write, js
from noria.kernel.errors import Conflict, NotFound
from noria.kernel.filters import Comparison, OrderBy
from noria.kernel.ids import ModelVersionId, Ref
from noria.kernel.lineage import Station, station
from noria.kernel.naming import Noun, findable
from noria.kernel.things import things
from noria.registry.filters import compile_models, compile_versions
from noria.registry.model import Alias, AliasMove, EdgeSummary, Evaluation, Model, ModelFile, ModelId, ModelVersion

EVALUATIONS_PER_VERSION = 200  # The latest per dataset version and split; a page shows no more.
MOVES_PER_TIMELINE = 1_000

things("model", "select name from model")
station(
    Station(
        kind="model", action="model.read",
        query="""select 'model:' || name as ref, 'model:' || name as scope, name as label, '' as state, created_at_ms as at_ms
                   from model where name in :ids""",
    )
)  # fmt: skip
station(
    Station(
        kind="model_version", action="model.read",
        query="""select 'model_version:' || v.id as ref, 'model:' || m.name as scope, m.name || '@' || v.number as label, '' as state,
                        v.created_at_ms as at_ms
                   from model_version v join model m on m.id = v.model_id
                  where v.id in :ids""",
        inside="""select v.id from model_version v join model m on m.id = v.model_id where m.name = :name
                   order by v.number desc limit 500""",
    )
)  # fmt: skip
station(
    Station(
        kind="alias", action="model.read",
        query="""select 'alias:' || m.name || '@' || a.name as ref, 'model:' || m.name as scope, m.name || '@' || a.name as label,
                        '' as state, a.moved_at_ms as at_ms
                   from alias a join model m on m.id = a.model_id
                  where m.name || '@' || a.name in :ids""",
    )
)  # fmt: skip
findable(
    Noun(
        kind="model", action="model.read",
        query="""select 'model:' || name as scope, 'model:' || name as ref, name as label, description as detail,
                        updated_at_ms as at_ms
                   from model""",
    )
)  # fmt: skip
findable(
    Noun(
        kind="model_version", action="model.read",
        query="""select 'model:' || m.name as scope, 'model_version:' || m.name || '@' || v.number as ref,
                        m.name || '@' || v.number as label,
                        coalesce((select 'the ' || min(a.name) from alias a where a.model_id = m.id and a.number = v.number), '')
                        || ' ' || v.description as detail, v.created_at_ms as at_ms
                   from model_version v join model m on m.id = v.model_id""",
    )
)  # fmt: skip

_MODEL = """
    select m.id, m.name, m.description, m.created_at_ms, m.updated_at_ms, m.actor,
           (select count(*) from model_version v where v.model_id = m.id) as versions_count,
           (select max(number) from model_version v where v.model_id = m.id) as latest
      from model m"""

_VERSION = """
    select v.id, m.name as model, v.number, v.run_id, v.source, v.digest, v.size_bytes, v.files_count, v.flavors,
           v.signature, v.input_example, v.environment_digest, v.packages, v.logged_model, v.run_link, v.status,
           v.description, v.actor, v.created_at_ms, v.updated_at_ms
      from model_version v join model m on m.id = v.model_id"""

_BRIEF = (
    _VERSION.replace("v.flavors", "'{}' as flavors")
    .replace("v.signature", "null as signature")
    .replace("v.input_example", "null as input_example")
    .replace("v.packages", "'[]' as packages")
)


class Scope(Struct, frozen=True):
    """The names of the models a caller may see; None: all."""

    names: list[str] | None

    @property
    def clause(self) -> str:
        return "1 = 1" if self.names is None else "m.name in :visible"

    @property
    def params(self) -> dict[str, Any]:
        return {} if self.names is None else {"visible": self.names}


# --- models -----------------------------------------------------------------------------------------------------------


def model(tx: Read, name: str) -> Model:
    """Raises NotFound."""
    found = tx.one(Model, f"{_MODEL} where m.name = :name", name=name)
    if found is None:
        raise NotFound(f"There is no model named {name!r}.", ref=Ref("model", name), hint="noria model list shows them.")
    return _with_labels(tx, [found])[0]


def find_model(tx: Read, name: str) -> ModelId | None:
    found = tx.scalar("select id from model where name = :name", name=name)
    return None if found is None else ModelId(found)


def models(
    tx: Read,
    scope: Scope,
    *,
    where: list[Comparison],
    order: list[OrderBy],
    after: list[Any] | None,
    limit: int,
) -> tuple[list[Model], list[Any] | None]:
    """One page of models, and the key of its last row when there is more."""
    query = compile_models(tx.dialect, where, order, after)
    found = tx.all(
        Model,
        f"{_MODEL} where {scope.clause} and {query.where} order by {query.order} limit :limit",
        limit=limit + 1, **scope.params, **query.params,
    )  # fmt: skip
    page = found[:limit]
    return _with_labels(tx, page), query.key_of(page[-1]) if len(found) > limit else None


def _with_labels(tx: Read, found: list[Model]) -> list[Model]:
    """The models with their tags and aliases: two queries, however many there are."""
    ids = [m.id for m in found]
    if not ids:
        return []
    tags: dict[str, dict[str, str]] = {}
    for row in tx.rows("select model_id, key, value from model_tag where model_id in :ids order by key", ids=ids):
        tags.setdefault(row["model_id"], {})[row["key"]] = row["value"]
    aliases: dict[str, list[Alias]] = {}
    for alias in _aliases(tx, ids):
        aliases.setdefault(alias.model, []).append(alias)
    return [
        Model(
            id=m.id, name=m.name, description=m.description, created_at_ms=m.created_at_ms, updated_at_ms=m.updated_at_ms,
            actor=m.actor, versions_count=m.versions_count, latest=m.latest, tags=tags.get(m.id, {}),
            aliases=aliases.get(m.name, []),
        )
        for m in found
    ]  # fmt: skip


def add_model(tx: Write, model_id: ModelId, name: str, description: str, *, actor: str, at_ms: int) -> bool:
    """False when there is one of that name."""
    return bool(
        tx.run(
            """insert into model (id, name, description, actor, created_at_ms, updated_at_ms)
               values (:id, :name, :description, :actor, :at_ms, :at_ms) on conflict (name) do nothing""",
            id=model_id, name=name, description=description, actor=actor, at_ms=at_ms,
        )
    )  # fmt: skip


def lock_model(tx: Write, model_id: ModelId, *, at_ms: int) -> None:
    """Take the model's row, so that two writers of its aliases, numbers or name follow one another; notes the time."""
    tx.run("update model set updated_at_ms = :at_ms where id = :id", id=model_id, at_ms=at_ms)


def describe_model(tx: Write, model_id: ModelId, description: str) -> None:
    tx.run("update model set description = :text where id = :id", id=model_id, text=description)


def rename_model(tx: Write, model_id: ModelId, name: str) -> None:
    tx.run("update model set name = :name where id = :id", id=model_id, name=name)


def set_model_tags(tx: Write, model_id: ModelId, tags: dict[str, str | None]) -> None:
    _set_tags(tx, "model_tag", "model_id", model_id, tags)


def remove_model(tx: Write, model_id: ModelId) -> None:
    """The model with its tags, aliases and moves; its versions were removed before."""
    for table in ("model_tag", "alias", "alias_move"):
        tx.run(f"delete from {table} where model_id = :id", id=model_id)
    tx.run("delete from model where id = :id", id=model_id)


# --- versions ---------------------------------------------------------------------------------------------------------


def next_number(tx: Write, model_id: ModelId, *, at_ms: int) -> int:
    """The next version number; a number is never used twice, even after a deletion."""
    tx.run(
        "update model set numbers_used = numbers_used + 1, updated_at_ms = :at_ms where id = :id", id=model_id, at_ms=at_ms
    )
    return int(tx.scalar("select numbers_used from model where id = :id", id=model_id))


def use_number(tx: Write, model_id: ModelId, number: int) -> None:
    """Note that a number is used, by a version that comes with it."""
    tx.run("update model set numbers_used = :number where id = :id and numbers_used < :number", id=model_id, number=number)


def version_numbered(tx: Read, model_id: ModelId, number: int) -> ModelVersion | None:
    found = tx.one(ModelVersion, f"{_VERSION} where v.model_id = :id and v.number = :number", id=model_id, number=number)
    return _complete(tx, [found])[0] if found else None


def add_version(tx: Write, model_id: ModelId, made: ModelVersion, files: list[ModelFile]) -> None:
    tx.run(
        """insert into model_version (id, model_id, number, run_id, source, digest, size_bytes, files_count, flavors,
                                      signature, input_example, environment_digest, packages, logged_model, run_link,
                                      status, description, actor, created_at_ms, updated_at_ms)
           values (:id, :model_id, :number, :run_id, :source, :digest, :size_bytes, :files_count, :flavors, :signature,
                   :input_example, :environment_digest, :packages, :logged_model, :run_link, :status, :description, :actor,
                   :at_ms, :at_ms)""",
        id=made.id, model_id=model_id, number=made.number, run_id=made.run_id, source=made.source, digest=made.digest,
        size_bytes=made.size_bytes, files_count=made.files_count, flavors=js(made.flavors),
        signature=None if made.signature is None else js(made.signature),
        input_example=None if made.input_example is None else js(made.input_example),
        environment_digest=made.environment_digest, packages=js(made.packages), logged_model=made.logged_model,
        run_link=made.run_link, status=made.status, description=made.description, actor=made.actor, at_ms=made.created_at_ms,
    )  # fmt: skip
    tx.many(
        "insert into model_file (version_id, path, size_bytes, digest) values (:version_id, :path, :size_bytes, :digest)",
        [{"version_id": made.id, "path": f.path, "size_bytes": f.size_bytes, "digest": f.digest} for f in files],
    )
    set_version_tags(tx, made.id, dict(made.tags))


def version(tx: Read, model_name: str, number: int) -> ModelVersion:
    """Raises NotFound."""
    found = tx.one(ModelVersion, f"{_VERSION} where m.name = :name and v.number = :number", name=model_name, number=number)
    if found is None:
        raise NotFound(f"There is no version {number} of the model {model_name!r}.", ref=Ref("model", model_name))
    return _complete(tx, [found])[0]


def version_by_id(tx: Read, version_id: str) -> ModelVersion | None:
    found = tx.one(ModelVersion, f"{_VERSION} where v.id = :id", id=version_id)
    return _complete(tx, [found])[0] if found else None


def versions(
    tx: Read,
    scope: Scope,
    *,
    where: list[Comparison],
    order: list[OrderBy],
    after: list[Any] | None,
    limit: int,
    is_brief: bool = False,
) -> tuple[list[ModelVersion], list[Any] | None]:
    """One page of versions of any model, and the key of its last row when there is more.

    In brief: without what the model says of itself and without evaluations, which are most of a version.
    """
    query = compile_versions(tx.dialect, where, order, after)
    found = tx.all(
        ModelVersion,
        f"{_BRIEF if is_brief else _VERSION} where {scope.clause} and {query.where} order by {query.order} limit :limit",
        limit=limit + 1, **scope.params, **query.params,
    )  # fmt: skip
    page = found[:limit]
    return _complete(tx, page, is_brief=is_brief), query.key_of(page[-1]) if len(found) > limit else None


def versions_of(tx: Read, model_id: ModelId, *, before: int | None, limit: int) -> list[ModelVersion]:
    """Versions with a number below `before`, newest first."""
    clause, params = ("and v.number < :before", {"before": before}) if before is not None else ("", {})
    found = tx.all(
        ModelVersion,
        f"{_VERSION} where v.model_id = :id {clause} order by v.number desc limit :limit",
        id=model_id, limit=limit, **params,
    )  # fmt: skip
    return _complete(tx, found)


def newest_by_tag(tx: Read, models: list[str], tag: str) -> list[ModelVersion]:
    """Of each model, the version with the largest number per value of `tag`."""
    if not models:
        return []
    found = tx.all(
        ModelVersion,
        f"""{_VERSION} where m.name in :models and v.id in (
                select w.id from model_version w left join model_version_tag t on t.version_id = w.id and t.key = :tag
                 where not exists (
                    select 1 from model_version n left join model_version_tag s on s.version_id = n.id and s.key = :tag
                     where n.model_id = w.model_id and n.number > w.number
                       and coalesce(s.value, '') = coalesce(t.value, '')))
            order by m.name, v.number desc limit 10000""",
        models=models, tag=tag,
    )  # fmt: skip
    return _complete(tx, found)


def _complete(tx: Read, found: list[ModelVersion], *, is_brief: bool = False) -> list[ModelVersion]:
    """The versions with their tags, aliases and latest evaluations: three queries, however many there are."""
    ids = [v.id for v in found]
    if not ids:
        return []
    tags: dict[str, dict[str, str]] = {}
    # The ids as one bound text: a page may have ten thousand, and as many parameters cost more than the query.
    each = "json_each(:ids)" if tx.dialect == "sqlite" else "json_array_elements_text(cast(:ids as json))"
    for version_id, key, value in tx.tuples(
        f"select version_id, key, value from model_version_tag where version_id in (select value from {each}) order by key",
        ids=js(ids),
    ):
        tags.setdefault(version_id, {})[key] = value
    aliases: dict[tuple[str, int], list[str]] = {}
    for model, number, alias in tx.tuples(
        """select m.name, a.number, a.name from alias a join model m on m.id = a.model_id
            where m.name in :models and a.number is not null order by a.name""",
        models=sorted({v.model for v in found}),
    ):
        aliases.setdefault((model, number), []).append(alias)
    evaluations = {} if is_brief else _evaluations(tx, ids)
    return [
        structs.replace(
            v, tags=tags.get(v.id, {}), aliases=aliases.get((v.model, v.number), []), evaluations=evaluations.get(v.id, [])
        )
        for v in found
    ]


def describe_version(tx: Write, version_id: ModelVersionId, description: str) -> None:
    tx.run("update model_version set description = :text where id = :id", id=version_id, text=description)


def touch_version(tx: Write, version_id: ModelVersionId, *, at_ms: int) -> None:
    tx.run("update model_version set updated_at_ms = :at_ms where id = :id", id=version_id, at_ms=at_ms)


def set_version_tags(tx: Write, version_id: ModelVersionId, tags: dict[str, str | None]) -> None:
    _set_tags(tx, "model_version_tag", "version_id", version_id, tags)


def _set_tags(tx: Write, table: str, owner: str, owner_id: str, tags: dict[str, str | None]) -> None:
    for key, value in sorted(tags.items()):
        if value is None:
            tx.run(f"delete from {table} where {owner} = :id and key = :key", id=owner_id, key=key)
        else:
            tx.run(
                f"""insert into {table} ({owner}, key, value) values (:id, :key, :value)
                    on conflict ({owner}, key) do update set value = excluded.value""",
                id=owner_id, key=key, value=value,
            )  # fmt: skip


def remove_version(tx: Write, version_id: ModelVersionId) -> None:
    """The version's rows and its own edges. Its alias moves stay: what was production remains known."""
    files = tx.tuples("select digest, size_bytes from model_file where version_id = :id", id=version_id)
    condemn(tx, [(digest, size) for digest, size in files], tx.op.at_ms if tx.op else 0)
    tx.run("delete from model_version where id = :id", id=version_id)
    for table in ("model_file", "model_version_tag", "evaluation"):
        tx.run(f"delete from {table} where version_id = :id", id=version_id)
    tx.run("delete from edge where src = :ref", ref=str(Ref("model_version", version_id)))


def files(tx: Read, version_id: ModelVersionId) -> list[ModelFile]:
    return tx.all(
        ModelFile,
        "select path, size_bytes, digest from model_file where version_id = :id order by path limit 10000",
        id=version_id,
    )


def digests_in_use(tx: Read, digests: list[str]) -> set[str]:
    """Those of `digests` that a version's files need; for the collector of unused blobs."""
    if not digests:
        return set()
    return set(tx.column("select distinct digest from model_file where digest in :digests", digests=digests))


def edges_of(tx: Read, version_id: ModelVersionId) -> list[EdgeSummary]:
    me = str(Ref("model_version", version_id))
    rows = tx.rows(
        "select src, kind, dst, protects from edge where src = :me or dst = :me order by kind, src, dst limit 500", me=me
    )
    return [
        EdgeSummary(
            kind=r["kind"], ref=r["dst"] if r["src"] == me else r["src"], is_outgoing=r["src"] == me,
            protects=bool(r["protects"]),
        )
        for r in rows
    ]  # fmt: skip


def read_by_run(tx: Read, run_id: str) -> list[str]:
    """The refs of the dataset versions that a run has read."""
    return tx.column("select dst from edge where src = :run and kind = 'read' order by dst", run=str(Ref("run", run_id)))


def trained_on(tx: Read, version_id: ModelVersionId) -> list[str]:
    """The ids of the dataset versions a version was trained on."""
    refs = tx.column(
        "select dst from edge where src = :me and kind = 'trained_on' order by dst", me=str(Ref("model_version", version_id))
    )
    return [Ref.parse(ref).id for ref in refs]


# --- aliases ----------------------------------------------------------------------------------------------------------


def _aliases(tx: Read, model_ids: list[ModelId]) -> list[Alias]:
    return tx.all(
        Alias,
        """select m.name as model, a.name, a.number as version, a.generation, a.moved_at_ms, a.actor
             from alias a join model m on m.id = a.model_id
            where a.model_id in :ids and a.number is not null
            order by m.name, a.name limit 10000""",
        ids=model_ids,
    )


def alias_number(tx: Read, model_name: str, alias: str) -> int | None:
    """The number an alias names, or None."""
    found = tx.scalar(
        "select a.number from alias a join model m on m.id = a.model_id where m.name = :model and a.name = :alias",
        model=model_name, alias=alias,
    )  # fmt: skip
    return None if found is None else int(found)


def latest_number(tx: Read, model_name: str) -> int | None:
    found = tx.scalar(
        "select max(v.number) from model_version v join model m on m.id = v.model_id where m.name = :model", model=model_name
    )
    return None if found is None else int(found)


def move_alias(
    tx: Write,
    model_id: ModelId,
    model_name: str,
    alias: str,
    number: int | None,
    expect: int | None,
    *,
    actor: str,
    reason: str = "",
    verdicts: list[dict[str, Any]],
    at_ms: int,
) -> tuple[int | None, Alias | None, int]:
    """Point `alias` at `number` (None: at nothing); gives what it was, what it is, and its generation.

    Raises Conflict when it is not at generation `expect` (0: names nothing). The generation goes on after a removal, so a
    caller who saw the alias before cannot mistake a new one for it.
    """
    lock_model(tx, model_id, at_ms=at_ms)
    rows = tx.rows("select number, generation from alias where model_id = :id and name = :name", id=model_id, name=alias)
    was, generation = (rows[0]["number"], int(rows[0]["generation"])) if rows else (None, 0)
    seen = generation if was is not None else 0
    if expect is not None and expect != seen:
        raise Conflict(
            f"The alias {alias!r} of {model_name!r} moved since you read it.",
            ref=Ref("alias", f"{model_name}@{alias}"),
            hint=f"It is now at generation {seen}; read it again and decide.",
        )
    generation += 1
    tx.run(
        """insert into alias (model_id, name, number, generation, moved_at_ms, actor)
           values (:id, :name, :number, :generation, :at_ms, :actor)
           on conflict (model_id, name) do update
              set number = excluded.number, generation = excluded.generation, moved_at_ms = excluded.moved_at_ms,
                  actor = excluded.actor""",
        id=model_id, name=alias, number=number, generation=generation, at_ms=at_ms, actor=actor,
    )  # fmt: skip
    tx.run(
        """insert into alias_move (model_id, alias, generation, number, was, at_ms, actor, verdicts, reason)
           values (:id, :alias, :generation, :number, :was, :at_ms, :actor, :verdicts, :reason)""",
        id=model_id, alias=alias, generation=generation, number=number, was=was, at_ms=at_ms, actor=actor,
        verdicts=js(verdicts), reason=reason,
    )  # fmt: skip
    if number is None:
        return was, None, generation
    now = Alias(model=model_name, name=alias, version=number, generation=generation, moved_at_ms=at_ms, actor=actor)
    return was, now, generation


def moves(tx: Read, model_id: ModelId, *, upto_ms: int | None = None) -> list[AliasMove]:
    """Every move of every alias until `upto_ms`, newest first; each with the time it lasted until."""
    upto, params = ("and at_ms <= :upto", {"upto": upto_ms}) if upto_ms is not None else ("", {})
    return tx.all(
        AliasMove,
        f"""select alias, number as version, was, generation, at_ms, actor, verdicts, reason,
                   (select n.at_ms from alias_move n
                     where n.model_id = a.model_id and n.alias = a.alias and n.generation = a.generation + 1) as until_ms
              from alias_move a
             where model_id = :id {upto}
             order by at_ms desc, alias, generation desc
             limit :limit""",
        id=model_id, limit=MOVES_PER_TIMELINE, **params,
    )  # fmt: skip


# --- evaluations ------------------------------------------------------------------------------------------------------


def add_evaluation(tx: Write, version_id: ModelVersionId, evaluation: Evaluation) -> None:
    """Append; nothing is overwritten. The caller holds the version's row, so `seq` is free."""
    seq = int(tx.scalar("select coalesce(max(seq), 0) + 1 from evaluation where version_id = :id", id=version_id))
    tx.run(
        """insert into evaluation (version_id, seq, dataset_version, split, metrics, slices, at_ms, actor)
           values (:version_id, :seq, :dataset_version, :split, :metrics, :slices, :at_ms, :actor)""",
        version_id=version_id, seq=seq, dataset_version=evaluation.dataset_version, split=evaluation.split,
        metrics=js(evaluation.metrics), slices=js(evaluation.slices), at_ms=evaluation.at_ms, actor=evaluation.actor,
    )  # fmt: skip


class _EvaluationOf(Evaluation, frozen=True, kw_only=True):
    version_id: str


def _evaluations(tx: Read, version_ids: list[ModelVersionId]) -> dict[str, list[Evaluation]]:
    """The latest evaluation per version, dataset version and split."""
    rows = tx.all(
        _EvaluationOf,
        """select version_id, dataset_version, split, metrics, slices, at_ms, actor from evaluation e
            where version_id in :ids
              and not exists (select 1 from evaluation n
                               where n.version_id = e.version_id and n.dataset_version = e.dataset_version
                                 and n.split = e.split and n.seq > e.seq)
            order by seq desc limit :limit""",
        ids=version_ids, limit=EVALUATIONS_PER_VERSION * len(version_ids),
    )  # fmt: skip
    found: dict[str, list[Evaluation]] = {}
    for row in rows:
        found.setdefault(row.version_id, []).append(
            Evaluation(
                dataset_version=row.dataset_version, split=row.split, metrics=row.metrics, at_ms=row.at_ms,
                slices=row.slices, actor=row.actor,
            )
        )  # fmt: skip
    return found
