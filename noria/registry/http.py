"""The routes of registry: what the UI, the SDK and the command line use. MLflow's protocol is in mlflow.py."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Response
from litestar.response import Stream
from msgspec import Struct

from noria.http.route import Routes, delete, get, patch, post, put
from noria.kernel.errors import Invalid
from noria.kernel.op import Op
from noria.kernel.pages import POLICY
from noria.kernel.paging import Page
from noria.kernel.preview import Preview
from noria.registry import imports_http, mlflow
from noria.registry.card import Card, CardEdit, CardSection, to_html, to_markdown, to_page
from noria.registry.model import (
    Alias,
    AliasMove,
    AliasWish,
    Changes,
    Evaluation,
    Model,
    ModelFile,
    ModelPage,
    ModelVersion,
    NewModel,
    NewVersion,
    VersionPage,
)
from noria.registry.service import Registry

CARD_FORMS = {"json": "application/json", "md": "text/markdown; charset=utf-8", "html": "text/html; charset=utf-8",
              "page": "text/html; charset=utf-8"}  # fmt: skip


class Passport(Struct, frozen=True):
    """Where a version comes from."""

    passport: dict[str, Any]


def routes(registry: Registry) -> Routes:
    @get("/api/v1/models", action="model.read")
    def list_models(op: Op, filter: str = "", limit: int | None = None, page: str = "") -> Page[Model]:
        """Models the caller may see, by name."""
        return registry.models(op, filter=filter, limit=limit, page=page)

    @post("/api/v1/models", action="model.create", status_code=201)
    def create_model(op: Op, data: NewModel) -> Model:
        """Make an empty model."""
        return registry.create_model(op, data)

    @get("/api/v1/models/{name:str}", action="model.read")
    def read_model(op: Op, name: str) -> ModelPage:
        """A model with its newest versions and aliases."""
        return registry.page(op, name)

    @patch("/api/v1/models/{name:str}", action="model.tag")
    def change_model(op: Op, name: str, data: Changes) -> Model:
        """Change a model's description and tags."""
        return registry.change_model(op, name, data)

    @delete("/api/v1/models/{name:str}", action="model.delete")
    def delete_model(op: Op, name: str) -> None:
        """Remove a model whose versions nothing relies on."""
        registry.delete_model(op, name)

    @get("/api/v1/models/{name:str}/versions", action="model.read")
    def list_model_versions(op: Op, name: str, limit: int | None = None, page: str = "") -> Page[ModelVersion]:
        """Versions of a model, newest first."""
        return registry.versions(op, name, limit=limit, page=page)

    @post("/api/v1/models/{name:str}/versions", action="model.create", status_code=201)
    def create_model_version(op: Op, name: str, data: NewVersion) -> ModelVersion:
        """Register the files at a source as the next version."""
        return registry.create_version(
            op, name, source=data.source, run_id=data.run_id, tags=data.tags, description=data.description
        )

    @get("/api/v1/models/{name:str}/versions/{selector:str}", action="model.read")
    def read_model_version(op: Op, name: str, selector: str) -> VersionPage:
        """A version by number, alias or `latest`: evaluations, aliases, files, relations."""
        return registry.version_page(op, name, selector)

    @patch("/api/v1/models/{name:str}/versions/{number:int}", action="model.tag")
    def change_model_version(op: Op, name: str, number: int, data: Changes) -> ModelVersion:
        """Change a version's description and tags."""
        return registry.change_version(op, name, number, data)

    @delete("/api/v1/models/{name:str}/versions/{number:int}", action="model.delete")
    def delete_model_version(op: Op, name: str, number: int) -> None:
        """Remove a version that nothing relies on."""
        registry.delete_version(op, name, number)

    @get("/api/v1/models/{name:str}/versions/{selector:str}/files", action="model.read")
    def list_model_files(op: Op, name: str, selector: str) -> Page[ModelFile]:
        """The files of a version."""
        return Page(registry.files(op, f"{name}@{selector}"))

    @get("/api/v1/models/{name:str}/versions/{selector:str}/content", action="artifact.read")
    def read_model_file(op: Op, name: str, selector: str, path: str) -> Stream:
        """One file of a version, as an attachment."""
        return file_stream(*registry.open_file(op, f"{name}@{selector}", path))

    @get("/api/v1/models/{name:str}/versions/{selector:str}/preview", action="artifact.read")
    def preview_model_file(op: Op, name: str, selector: str, path: str) -> Preview:
        """A file of a version as it can be shown safely: text, the first rows of a table, a note as sanitised HTML, or what it is."""
        return registry.preview(op, f"{name}@{selector}", path)

    @post("/api/v1/models/{name:str}/versions/{selector:str}/evaluations", action="model.evaluate", status_code=201)
    def add_evaluation(op: Op, name: str, selector: str, data: Evaluation) -> ModelVersion:
        """Record the numbers of a version on a split of a dataset version."""
        return registry.set_evaluation(op, f"{name}@{selector}", data)

    @get("/api/v1/models/{name:str}/versions/{selector:str}/passport", action="model.read")
    def read_version_passport(op: Op, name: str, selector: str) -> Passport:
        """Where a version comes from: run, code, data, environment, evaluations."""
        return Passport(registry.passport_of_version(op, f"{name}@{selector}"))

    @get("/api/v1/models/{name:str}/versions/{selector:str}/card", action="model.read")
    def read_card(op: Op, name: str, selector: str, form: str = "json") -> Response[Any]:
        """The card of a version: what was recorded and what people wrote. `form`: json, md, html, or page to print."""
        if form not in CARD_FORMS:
            raise Invalid(f"A card has no form {form[:40]!r}.", where="form", hint=f"It is one of {', '.join(CARD_FORMS)}.")
        card = registry.cards.read(op, f"{name}@{selector}")
        if form == "json":
            return Response(msgspec.json.encode(card), media_type="application/json")
        text = {"md": to_markdown, "html": to_html, "page": to_page}[form](card)
        nothing_runs = {"content-security-policy": POLICY}
        return Response(text.encode(), media_type=CARD_FORMS[form], headers=nothing_runs)

    @put("/api/v1/models/{name:str}/versions/{selector:str}/card/{section:str}", action="model.tag")
    def write_card(op: Op, name: str, selector: str, section: str, data: CardEdit) -> Card:
        """Write a section of a card, as Markdown; the texts before it are kept."""
        return registry.cards.write(op, f"{name}@{selector}", section, data)

    @get("/api/v1/models/{name:str}/versions/{selector:str}/card/{section:str}", action="model.read")
    def read_card_history(op: Op, name: str, selector: str, section: str) -> Page[CardSection]:
        """Every text a section of a card ever had, newest first."""
        return Page(registry.cards.history(op, f"{name}@{selector}", section))

    @get("/api/v1/models/{name:str}/timeline", action="model.read")
    def read_timeline(op: Op, name: str, at_ms: int | None = None) -> Page[AliasMove]:
        """Every move of every alias, newest first; with `at_ms`, what each alias named at that time."""
        return Page(registry.timeline(op, name, at_ms))

    @put("/api/v1/models/{name:str}/aliases/{alias:str}", action="model.promote")
    def move_alias(op: Op, name: str, alias: str, data: AliasWish) -> Alias:
        """Point an alias at a version; policy may object."""
        return registry.promote(op, f"{name}@{data.version}", alias, expect=data.expect, reason=data.reason)

    @delete("/api/v1/models/{name:str}/aliases/{alias:str}", action="model.promote")
    def remove_alias(op: Op, name: str, alias: str, expect: int | None = None, reason: str = "") -> None:
        """Let an alias name nothing."""
        registry.remove_alias(op, name, alias, expect, reason=reason)

    return [
        list_models, create_model, read_model, change_model, delete_model, list_model_versions, create_model_version,
        read_model_version, change_model_version, delete_model_version, list_model_files, read_model_file, preview_model_file,
        add_evaluation, read_version_passport, read_card, write_card, read_card_history, read_timeline, move_alias,
        remove_alias, *imports_http.routes(registry.imports), *mlflow.routes(registry),
    ]  # fmt: skip


def file_stream(file: ModelFile, chunks: Any) -> Stream:
    """Bytes as an attachment: never rendered by a browser, whatever they are."""
    return Stream(
        chunks,
        media_type="application/octet-stream",
        headers={
            "content-disposition": "attachment",
            "content-length": str(file.size_bytes),
            "x-noria-digest": file.digest,
            "content-security-policy": "sandbox",
        },
    )
