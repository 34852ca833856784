"""Models and versions that come from elsewhere, with the numbers and times they had there."""

from __future__ import annotations

from msgspec import Struct

from noria.kernel.facts import Fact, fact


class ImportedModelName(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A registered model as it was elsewhere; one of the same name here takes its versions."""

    name: str
    created_at_ms: int
    updated_at_ms: int
    description: str = ""
    tags: dict[str, str] = {}


class ImportedVersion(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A version as it was elsewhere. `source` names files on this server: runs:/…, models:/m-…, models:/<name>/<number>."""

    number: int
    source: str
    imported_from: str
    created_at_ms: int
    updated_at_ms: int
    run_id: str = ""
    run_link: str = ""
    description: str = ""
    tags: dict[str, str] = {}


@fact("model_version.imported")
class ModelVersionImported(Fact):
    """A version came from elsewhere, with its number and its times; its files never change from here on."""

    model: str
    number: int
    run_id: str
    digest: str
    source: str
