"""Apply manifests through the API: look, say what differs, change it. See noria/declare/model.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from noria.client.api import Api
from noria.declare.model import Change, Difference, Kind, Manifest, Verb, compare, current_spec, parse
from noria.kernel.errors import Invalid, NotFound
from noria.kernel.ids import parse_handle

WRITE_ONLY = {"Webhook": {"secret"}}  # what the server never shows cannot be compared
TIMEOUT_S = 300.0


def apply_file(api: Api, path: Path, *, dry_run: bool = False) -> list[Change]:
    """Make what a file declares true; returns what was changed. Safe to repeat. Raises the eight errors."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as cause:
        raise Invalid(f"{path} cannot be read.") from cause
    return apply(api, parse(text), dry_run=dry_run)


def apply(
    api: Api, manifests: list[Manifest], *, dry_run: bool = False, say: Callable[[Change], None] = lambda _: None
) -> list[Change]:
    """Plan and, unless `dry_run`, carry out, one thing after the other; `say` hears of each when it is done."""
    changes = []
    for manifest in manifests:
        change = plan(api, manifest)
        if not dry_run and change.verb != "same":
            _carry_out(api, manifest, change)
        changes.append(change)
        say(change)
    return changes


def plan(api: Api, manifest: Manifest) -> Change:
    """What it would take to make one manifest true."""
    if manifest.kind.change == "deploy":
        return _plan_endpoint(api, manifest)
    found = _find(api, manifest.kind, manifest.name)
    if found is None:
        return Change(kind=manifest.kind.name, name=manifest.name, verb="create", differences=compare({}, manifest.spec))
    hidden = WRITE_ONLY.get(manifest.kind.name, set())
    was = {k: v for k, v in current_spec(manifest.kind, manifest.name, found).items() if k not in hidden}
    differences = compare(was, {k: v for k, v in manifest.spec.items() if k not in hidden})
    verb: Verb = "update" if manifest.kind.change == "put" else "replace"
    return Change(
        kind=manifest.kind.name, name=manifest.name, verb=verb if differences else "same", differences=differences,
    )  # fmt: skip


def _find(api: Api, kind: Kind, name: str) -> dict[str, Any] | None:
    """The thing of this name; None when there is none. Some kinds have no address of their own and are looked for in the list."""
    if kind.name in ("Schedule", "Trigger"):
        return next((item for item in api.items(kind.path) if item["name"] == name), None)
    try:
        found: dict[str, Any] = api.get(_address(kind, name))
    except NotFound:
        return None
    return found if found.get("is_active", True) else None  # a monitor that was removed can still be read


def _carry_out(api: Api, manifest: Manifest, change: Change) -> None:
    address = _address(manifest.kind, manifest.name)
    if manifest.kind.change == "deploy":
        api.post(address + "/deploy", {k: v for k, v in manifest.spec.items() if v}, timeout_s=TIMEOUT_S)
        return
    if manifest.kind.change == "put":
        api.put(address, manifest.spec)
        return
    if change.verb == "replace":
        api.delete(address)
    api.post(manifest.kind.path, manifest.spec)


def _plan_endpoint(api: Api, manifest: Manifest) -> Change:
    """An endpoint is as declared when its champion is that version, with that configuration."""
    handle = parse_handle(manifest.spec["model"], kind="model")
    version = api.get(f"/models/{quote(handle.name, safe='')}/versions/{quote(handle.selector or 'latest', safe='')}")
    wanted = {"version": version.get("version", version)["number"], "config": manifest.spec["config"]}
    found = _find(api, manifest.kind, manifest.name)
    if found is None:
        return Change(kind="Endpoint", name=manifest.name, verb="create", differences=compare({}, wanted))
    endpoint = found.get("endpoint", found)
    champion = next((r for r in endpoint["routes"] if r["role"] == "champion"), None)
    differences = [Difference(path="version", was=None, now=wanted["version"])]
    if champion:
        revision = api.get(f"/revisions/{champion['revision_id']}")
        config = {k: v for k, v in revision.get("config", {}).items() if k in wanted["config"]}
        differences = compare({"version": champion["model_version"], "config": config}, wanted)
    return Change(
        kind="Endpoint", name=manifest.name, verb="update" if differences else "same", differences=differences
    )  # fmt: skip


def _address(kind: Kind, name: str) -> str:
    return f"{kind.path}/{quote(name, safe='')}"
