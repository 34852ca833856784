"""Manifests: things as YAML documents, compared with what is there. Pure; noria/client/declare.py does the asking and telling.

    kind: Policy
    name: four-eyes
    action: endpoint.deploy
    conditions:
      - {type: min_approvals, count: 1}

One document per thing, several in a file, `---` between them; the fields may also stand under `spec:`.
Invariant: applying the same file twice changes nothing the second time: a spec is read into the same struct the server uses,
so defaults that are left out and defaults that are written out are the same.
"""

from __future__ import annotations

import importlib
from typing import Any, Literal

import msgspec
from msgspec import Struct

from noria.kernel.errors import Invalid
from noria.kernel.ids import check_name

MANIFEST_BYTES_MAX = 1 << 20
DOCUMENTS_MAX = 500
DIFFERENCES_SHOWN = 50

Verb = Literal["create", "update", "replace", "same"]


class EndpointSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What serves behind an endpoint: all the traffic to `model`, a handle such as `flights@3` or `flights@champion`."""

    model: str
    config: dict[str, Any] = {}
    wait: bool = False


class Kind(Struct, frozen=True, kw_only=True):
    """A kind of thing that can be declared. `change`: how a spec that differs is brought about."""

    name: str
    path: str
    spec: str  # module:struct; loaded when needed, so that `noria --help` stays quick
    change: Literal["put", "replace", "deploy"]


# In the order in which they are applied: rules first, then what they guard, then what watches it.
KINDS: tuple[Kind, ...] = (
    Kind(name="Policy", path="/policies", spec="noria.governance.policy_model:PolicyBody", change="put"),
    Kind(name="Webhook", path="/webhooks", spec="noria.governance.webhook_model:NewWebhook", change="put"),
    Kind(name="Endpoint", path="/endpoints", spec="noria.declare.model:EndpointSpec", change="deploy"),
    Kind(name="Schedule", path="/schedules", spec="noria.pipelines.model.schedules:NewSchedule", change="replace"),
    Kind(name="Trigger", path="/triggers", spec="noria.pipelines.model.triggers:NewTrigger", change="replace"),
    Kind(name="Monitor", path="/monitors", spec="noria.monitoring.model:MonitorSpec", change="replace"),
    Kind(name="Loop", path="/loops", spec="noria.loops.model:LoopSpec", change="put"),
    Kind(name="System", path="/systems", spec="noria.compliance.model:SystemSpec", change="put"),
)
_BY_NAME = {kind.name: kind for kind in KINDS}


class Document(Struct, frozen=True, kw_only=True):
    """What every YAML document has."""

    kind: str
    name: str


class Manifest(Struct, frozen=True, kw_only=True):
    """One thing as it should be; `spec` is complete, with every default written out."""

    kind: Kind
    name: str
    spec: dict[str, Any]

    @property
    def label(self) -> str:
        return f"{self.kind.name} {self.name}"


class Difference(Struct, frozen=True, kw_only=True):
    """One field that is not as declared."""

    path: str
    was: Any
    now: Any


class Change(Struct, frozen=True, kw_only=True):
    """What applying a manifest does."""

    kind: str
    name: str
    verb: Verb
    differences: list[Difference] = []


def parse(text: str) -> list[Manifest]:
    """The manifests of a file, in the order in which they are applied. Raises Invalid, naming the document at fault."""
    import yaml

    if len(text.encode()) > MANIFEST_BYTES_MAX:
        raise Invalid(f"The file is larger than {MANIFEST_BYTES_MAX >> 20} MiB.")
    try:
        documents = [d for d in yaml.safe_load_all(text) if d is not None]
    except (yaml.YAMLError, RecursionError) as cause:
        raise Invalid(f"The file is not YAML: {str(cause)[:300]}") from cause
    if not 1 <= len(documents) <= DOCUMENTS_MAX:
        raise Invalid(f"A file holds between 1 and {DOCUMENTS_MAX} documents; this one has {len(documents)}.")
    found = [_manifest(raw, number) for number, raw in enumerate(documents, 1)]
    seen: set[tuple[str, str]] = set()
    for manifest in found:
        if (manifest.kind.name, manifest.name) in seen:
            raise Invalid(f"{manifest.label} is declared twice.")
        seen.add((manifest.kind.name, manifest.name))
    return sorted(found, key=lambda m: KINDS.index(m.kind))


def _manifest(raw: Any, number: int) -> Manifest:
    where = f"document {number}"
    try:
        document = msgspec.convert(raw, Document)
        rest = msgspec.convert({k: v for k, v in raw.items() if k not in ("kind", "name")}, dict[str, Any])
        spec = msgspec.convert(rest["spec"], dict[str, Any]) if set(rest) == {"spec"} else rest
    except msgspec.ValidationError as cause:
        hint = "Each document has a kind, a name, and the fields of that kind."
        raise Invalid(f"Document {number} cannot be read: {cause}.", where=where, hint=hint) from cause
    kind = _BY_NAME.get(document.kind)
    if kind is None:
        hint = "Kinds: " + ", ".join(_BY_NAME) + "."
        raise Invalid(f"Document {number} is of an unknown kind {document.kind!r}.", where=where, hint=hint)
    check_name(document.name, what=kind.name.lower())
    if spec.get("name", document.name) != document.name:
        raise Invalid(f"{kind.name} {document.name} has another name in its spec.", where=where)
    return Manifest(kind=kind, name=document.name, spec=complete(kind, document.name, spec, where=where))


def complete(kind: Kind, name: str, spec: dict[str, Any], *, where: str = "") -> dict[str, Any]:
    """`spec` with every default written out. Raises Invalid naming the field at fault."""
    struct = _struct(kind)
    takes_name = "name" in struct.__struct_fields__
    try:
        value = msgspec.convert(spec | {"name": name} if takes_name else spec, struct)
    except (msgspec.ValidationError, RecursionError) as cause:
        raise Invalid(f"{kind.name} {name}: {cause}.", where=where) from cause
    built: dict[str, Any] = msgspec.to_builtins(value)
    return built


def _struct(kind: Kind) -> type[Struct]:
    module, _, name = kind.spec.partition(":")
    struct: type[Struct] = getattr(importlib.import_module(module), name)
    return struct


def current_spec(kind: Kind, name: str, found: dict[str, Any]) -> dict[str, Any]:
    """What the server says of a thing, as a spec: its own `spec` when it has one, else the fields that a spec has."""
    found = found.get(kind.name.lower(), found)
    found = found.get("spec", found)
    fields = _struct(kind).__struct_fields__
    return complete(kind, name, {k: v for k, v in found.items() if k in fields})


def compare(was: Any, now: Any, *, path: str = "") -> list[Difference]:
    """Where two specs differ, field by field; lists are compared whole."""
    if isinstance(was, dict) and isinstance(now, dict):
        found = []
        for key in sorted(was.keys() | now.keys()):
            found += compare(was.get(key), now.get(key), path=f"{path}.{key}".lstrip("."))
        return found[:DIFFERENCES_SHOWN]
    return [] if was == now else [Difference(path=path, was=was, now=now)]
