"""Routes of imports: what `noria import` calls to bring models in as they were elsewhere."""

from __future__ import annotations

from noria.http.route import Routes, post
from noria.kernel.op import Op
from noria.registry.import_model import ImportedModelName, ImportedVersion
from noria.registry.imports import Imports
from noria.registry.model import Model, ModelVersion


def routes(imports: Imports) -> Routes:
    @post("/api/v1/imports/models", action="model.import")
    def import_model(op: Op, data: ImportedModelName) -> Model:
        """The model of this name, made as it was elsewhere when there is none."""
        return imports.model(op, data)

    @post("/api/v1/imports/models/{name:str}/versions", action="model.import")
    def import_model_version(op: Op, name: str, data: ImportedVersion) -> ModelVersion:
        """Register the files at a source as the version with the number it had elsewhere; may be repeated."""
        return imports.version(op, name, data)

    return [import_model, import_model_version]
