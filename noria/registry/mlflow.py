"""MLflow's model registry protocol, translated. It has no rules of its own: every handler calls the service once.

Stages, which MLflow has given up, are kept as the tag `mlflow.stage`; they say nothing about what is served.
Source of the shapes: mlflow/protos/model_registry.proto; int64 are numbers, absent fields are left out.
"""

from __future__ import annotations

from typing import Any

from litestar.response import Stream
from msgspec import UNSET, Struct, UnsetType

from noria.http.route import Routes, delete, get, patch, post
from noria.kernel.errors import Invalid, NotFound
from noria.kernel.op import Op
from noria.kernel.paging import PAGE_LIMIT_MAX, check_limit
from noria.registry import prompts
from noria.registry.model import STAGE_TAG, Changes, Model, ModelVersion, NewModel
from noria.registry.service import VERSIONS_PER_SEARCH, Registry
from noria.registry.sources import VERSION_FOLDER

STAGES = ("None", "Staging", "Production", "Archived")
MODELS_PER_PAGE, MODELS_MAX = 100, 1_000  # MLflow's default and limit
VERSIONS_MAX = 200_000  # MLflow's limit; above VERSIONS_PER_SEARCH, its default, an answer is a page of so many


class Tag(Struct, frozen=True):
    key: str
    value: str = ""


class AliasOf(Struct, frozen=True):
    alias: str
    version: str


class MlflowVersion(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """MLflow's ModelVersion."""

    name: str
    version: str
    creation_timestamp: int
    last_updated_timestamp: int
    user_id: str
    current_stage: str
    source: str
    status: str
    description: str
    run_link: str
    run_id: str
    tags: list[Tag] = []
    aliases: list[str] = []
    model_id: str = ""


class MlflowModel(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """MLflow's RegisteredModel."""

    name: str
    creation_timestamp: int
    last_updated_timestamp: int
    user_id: str = ""
    description: str = ""
    latest_versions: list[MlflowVersion] = []
    tags: list[Tag] = []
    aliases: list[AliasOf] = []


class ModelAnswer(Struct, frozen=True):
    registered_model: MlflowModel


class ModelsAnswer(Struct, frozen=True, omit_defaults=True):
    registered_models: list[MlflowModel]
    next_page_token: str = ""


class VersionAnswer(Struct, frozen=True):
    model_version: MlflowVersion


class VersionsAnswer(Struct, frozen=True, omit_defaults=True):
    model_versions: list[MlflowVersion]
    next_page_token: str = ""


class UriAnswer(Struct, frozen=True):
    artifact_uri: str


class Nothing(Struct, frozen=True):
    """`{}`."""


class CreateModel(Struct, frozen=True):
    name: str
    tags: list[Tag] = []
    description: str | None = None


class RenameModel(Struct, frozen=True):
    name: str
    new_name: str = ""


class UpdateModel(Struct, frozen=True):
    name: str
    description: str | None = None


class NameOnly(Struct, frozen=True):
    name: str


class SetModelTag(Struct, frozen=True):
    name: str
    key: str
    value: str = ""


class DeleteModelTag(Struct, frozen=True):
    name: str
    key: str


class SetAlias(Struct, frozen=True):
    name: str
    alias: str
    version: str


class DeleteAlias(Struct, frozen=True):
    name: str
    alias: str


class LatestOf(Struct, frozen=True):
    name: str
    stages: list[str] = []


class CreateVersion(Struct, frozen=True):
    name: str
    source: str
    run_id: str | None = None
    tags: list[Tag] = []
    run_link: str | None = None
    description: str | None = None
    model_id: str | None = None


class UpdateVersion(Struct, frozen=True):
    name: str
    version: str
    description: str | UnsetType | None = UNSET


class VersionOnly(Struct, frozen=True):
    name: str
    version: str


class SetVersionTag(Struct, frozen=True):
    name: str
    version: str
    key: str
    value: str = ""


class DeleteVersionTag(Struct, frozen=True):
    name: str
    version: str
    key: str


class Transition(Struct, frozen=True):
    name: str
    version: str
    stage: str
    archive_existing_versions: bool = False


def _at(path: str) -> list[str]:
    """The path of the REST API, and its mirror for browsers."""
    return [f"/api/2.0/mlflow/{path}", f"/ajax-api/2.0/mlflow/{path}"]


HIDDEN: dict[str, Any] = {"include_in_schema": False}  # described by MLflow


def routes(registry: Registry) -> Routes:
    return [*_model_routes(registry), *_alias_routes(registry), *_version_routes(registry)]


def _model_routes(registry: Registry) -> Routes:
    @post(_at("registered-models/create"), action="model.create", **HIDDEN)
    def mlflow_create_model(op: Op, data: CreateModel) -> ModelAnswer:
        new = NewModel(name=data.name, description=data.description or "", tags={t.key: t.value for t in data.tags})
        return ModelAnswer(_model(registry, op, registry.create_model(op, new)))

    @post(_at("registered-models/rename"), action="model.delete", **HIDDEN)
    def mlflow_rename_model(op: Op, data: RenameModel) -> ModelAnswer:
        return ModelAnswer(_model(registry, op, registry.rename_model(op, data.name, data.new_name)))

    @patch(_at("registered-models/update"), action="model.tag", **HIDDEN)
    def mlflow_update_model(op: Op, data: UpdateModel) -> ModelAnswer:
        changed = registry.change_model(op, data.name, Changes(description=data.description or ""))
        return ModelAnswer(_model(registry, op, changed))

    @delete(_at("registered-models/delete"), action="model.delete", status_code=200, **HIDDEN)
    def mlflow_delete_model(op: Op, data: NameOnly) -> Nothing:
        registry.delete_model(op, data.name)
        return Nothing()

    @get(_at("registered-models/get"), action="model.read", **HIDDEN)
    def mlflow_get_model(op: Op, name: str) -> ModelAnswer:
        return ModelAnswer(_model(registry, op, registry.model(op, name)))

    @get(_at("registered-models/search"), action="model.read", **HIDDEN)
    def mlflow_search_models(
        op: Op, filter: str = "", max_results: int = MODELS_PER_PAGE, order_by: list[str] | None = None, page_token: str = ""
    ) -> ModelsAnswer:
        limit = check_limit(max_results, most=MODELS_MAX)
        found = registry.models(op, filter=prompts.conditions(filter), order_by=order_by, limit=limit, page=page_token)
        return ModelsAnswer(_models(registry, op, found.items), found.next or "")

    @get(_at("registered-models/get-latest-versions"), action="model.read", **HIDDEN)
    def mlflow_read_latest(op: Op, name: str, stages: list[str] | None = None) -> VersionsAnswer:
        return _latest(registry, op, name, stages or [])

    @post(_at("registered-models/get-latest-versions"), action="model.read", **HIDDEN)
    def mlflow_latest(op: Op, data: LatestOf) -> VersionsAnswer:
        return _latest(registry, op, data.name, data.stages)

    @post(_at("registered-models/set-tag"), action="model.tag", **HIDDEN)
    def mlflow_set_model_tag(op: Op, data: SetModelTag) -> Nothing:
        registry.change_model(op, data.name, Changes(tags={data.key: data.value}))
        return Nothing()

    @delete(_at("registered-models/delete-tag"), action="model.tag", status_code=200, **HIDDEN)
    def mlflow_delete_model_tag(op: Op, data: DeleteModelTag) -> Nothing:
        registry.change_model(op, data.name, Changes(tags={data.key: None}))
        return Nothing()

    return [
        mlflow_create_model, mlflow_rename_model, mlflow_update_model, mlflow_delete_model, mlflow_get_model,
        mlflow_search_models, mlflow_read_latest, mlflow_latest, mlflow_set_model_tag, mlflow_delete_model_tag,
    ]  # fmt: skip


def _alias_routes(registry: Registry) -> Routes:
    @post(_at("registered-models/alias"), action="model.promote", **HIDDEN)
    def mlflow_set_alias(op: Op, data: SetAlias) -> Nothing:
        registry.promote(op, f"{data.name}@{_number(data.version)}", data.alias)
        return Nothing()

    @delete(_at("registered-models/alias"), action="model.promote", status_code=200, **HIDDEN)
    def mlflow_delete_alias(op: Op, data: DeleteAlias) -> Nothing:
        try:
            registry.remove_alias(op, data.name, data.alias)
        except NotFound:
            registry.model(op, data.name)  # NotFound when it is the model that is missing; an alias may be gone already
        return Nothing()

    @get(_at("registered-models/alias"), action="model.read", **HIDDEN)
    def mlflow_get_by_alias(op: Op, name: str, alias: str) -> VersionAnswer:
        try:
            return VersionAnswer(_version(registry.version(op, f"{name}@{alias}")))
        except NotFound as cause:
            registry.model(op, name)  # NotFound, when it is the model that is missing
            raise Invalid(f"Registered model alias {alias[:80]} not found.", where="alias") from cause

    return [mlflow_set_alias, mlflow_delete_alias, mlflow_get_by_alias]


def _version_routes(registry: Registry) -> Routes:
    @post(_at("model-versions/create"), action="model.create", **HIDDEN)
    def mlflow_create_version(op: Op, data: CreateVersion) -> VersionAnswer:
        made = registry.create_version(
            op, data.name, source=data.source, run_id=data.run_id or "", tags={t.key: t.value for t in data.tags},
            description=data.description or "", run_link=data.run_link or "", create_model=False,
        )  # fmt: skip
        return VersionAnswer(_version(made))

    @patch(_at("model-versions/update"), action="model.tag", **HIDDEN)
    def mlflow_update_version(op: Op, data: UpdateVersion) -> VersionAnswer:
        text = None if data.description is UNSET else data.description or ""
        changed = registry.change_version(op, data.name, _number(data.version), Changes(description=text))
        return VersionAnswer(_version(changed))

    @post(_at("model-versions/transition-stage"), action="model.tag", **HIDDEN)
    def mlflow_transition(op: Op, data: Transition) -> VersionAnswer:
        return VersionAnswer(_version(_transition(registry, op, data)))

    @delete(_at("model-versions/delete"), action="model.delete", status_code=200, **HIDDEN)
    def mlflow_delete_version(op: Op, data: VersionOnly) -> Nothing:
        registry.delete_version(op, data.name, _number(data.version))
        return Nothing()

    @get(_at("model-versions/get"), action="model.read", **HIDDEN)
    def mlflow_get_version(op: Op, name: str, version: str) -> VersionAnswer:
        return VersionAnswer(_version(registry.version(op, f"{name}@{_number(version)}")))

    @get(_at("model-versions/search"), action="model.read", **HIDDEN)
    def mlflow_search_versions(
        op: Op,
        filter: str = "",
        max_results: int = VERSIONS_PER_SEARCH,
        order_by: list[str] | None = None,
        page_token: str = "",
    ) -> VersionsAnswer:
        limit = min(check_limit(max_results, most=VERSIONS_MAX), VERSIONS_PER_SEARCH)
        where = prompts.conditions(filter)
        found = registry.search_versions(op, filter=where, order_by=order_by, limit=limit, page=page_token, is_brief=True)
        return VersionsAnswer([_version(v) for v in found.items], found.next or "")

    @get(_at("model-versions/get-download-uri"), action="model.read", **HIDDEN)
    def mlflow_download_uri(op: Op, name: str, version: str) -> UriAnswer:
        found = registry.version(op, f"{name}@{_number(version)}")
        return UriAnswer(f"mlflow-artifacts:/{VERSION_FOLDER}/{found.id}")

    @get("/model-versions/get-artifact", action="artifact.read", **HIDDEN)
    def mlflow_get_version_artifact(op: Op, name: str, version: str, path: str) -> Stream:
        file, chunks = registry.open_file(op, f"{name}@{_number(version)}", path)
        headers = {"content-length": str(file.size_bytes), "content-disposition": "attachment"}
        return Stream(chunks, media_type="application/octet-stream", headers=headers)

    @post(_at("model-versions/set-tag"), action="model.tag", **HIDDEN)
    def mlflow_set_version_tag(op: Op, data: SetVersionTag) -> Nothing:
        registry.change_version(op, data.name, _number(data.version), Changes(tags={data.key: data.value}))
        return Nothing()

    @delete(_at("model-versions/delete-tag"), action="model.tag", status_code=200, **HIDDEN)
    def mlflow_delete_version_tag(op: Op, data: DeleteVersionTag) -> Nothing:
        registry.change_version(op, data.name, _number(data.version), Changes(tags={data.key: None}))
        return Nothing()

    return [
        mlflow_create_version, mlflow_update_version, mlflow_transition, mlflow_delete_version, mlflow_get_version,
        mlflow_search_versions, mlflow_download_uri, mlflow_set_version_tag, mlflow_delete_version_tag,
        mlflow_get_version_artifact,
    ]  # fmt: skip


def _number(text: str) -> int:
    """A version number as MLflow writes it: a text of digits."""
    if text.isascii() and text.isdigit() and len(text) <= 9:
        return int(text)
    raise Invalid(f"{text[:40]!r} is not a version number.", where="version")


def _stage(version: ModelVersion) -> str:
    return version.tags.get(STAGE_TAG, "None")


def _version(version: ModelVersion) -> MlflowVersion:
    return MlflowVersion(
        name=version.model, version=str(version.number), creation_timestamp=version.created_at_ms,
        last_updated_timestamp=version.updated_at_ms, user_id=version.actor.partition(":")[2], current_stage=_stage(version),
        source=version.source, status=version.status, description=version.description, run_id=version.run_id,
        run_link=version.run_link, tags=[Tag(k, v) for k, v in version.tags.items() if k != STAGE_TAG],
        aliases=version.aliases, model_id=version.logged_model,
    )  # fmt: skip


def _model(registry: Registry, op: Op, model: Model) -> MlflowModel:
    return _models(registry, op, [model])[0]


def _models(registry: Registry, op: Op, models: list[Model]) -> list[MlflowModel]:
    newest = registry.newest_by_tag(op, [m.name for m in models], STAGE_TAG)
    return [
        MlflowModel(
            name=model.name, creation_timestamp=model.created_at_ms, last_updated_timestamp=model.updated_at_ms,
            user_id=model.actor.partition(":")[2], description=model.description,
            latest_versions=[_version(v) for v in newest.get(model.name, [])],
            tags=[Tag(k, v) for k, v in model.tags.items()],
            aliases=[AliasOf(a.name, str(a.version)) for a in model.aliases],
        )
        for model in models
    ]  # fmt: skip


def _latest(registry: Registry, op: Op, name: str, stages: list[str]) -> VersionsAnswer:
    """The newest version of each stage; of `stages` only, when given."""
    wanted = {_check_stage(stage) for stage in stages}
    found = registry.newest_by_tag(op, [registry.model(op, name).name], STAGE_TAG).get(name, [])
    return VersionsAnswer([_version(v) for v in found if not wanted or _stage(v) in wanted])


def _check_stage(text: str) -> str:
    for stage in STAGES:
        if text.lower() == stage.lower():
            return stage
    raise Invalid(f"{text[:40]!r} is not a stage.", where="stage", hint=f"It is one of {', '.join(STAGES)}.")


def _transition(registry: Registry, op: Op, data: Transition) -> ModelVersion:
    stage, number = _check_stage(data.stage), _number(data.version)
    if data.archive_existing_versions and stage not in ("Staging", "Production"):
        raise Invalid("Only Staging and Production push other versions out.", where="archive_existing_versions")
    moved = registry.change_version(op, data.name, number, Changes(tags={STAGE_TAG: stage}))  # first: policy may object
    if data.archive_existing_versions:
        for other in registry.versions(op, data.name, limit=PAGE_LIMIT_MAX).items:
            if other.number != number and _stage(other) == stage:
                registry.change_version(op, data.name, other.number, Changes(tags={STAGE_TAG: "Archived"}))
    return moved
