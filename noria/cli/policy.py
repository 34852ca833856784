"""`noria policy`: the rules, and what they would have said. They are written with `noria apply`."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import click
import yaml

from noria.cli.base import Group, api, emit, json_option
from noria.kernel.errors import Invalid


@click.group(cls=Group)
def group() -> None:
    """Policies: list, show, try on past decisions."""


@group.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List policies.

    \b
    Example:
      noria policy list
    """
    found = list(api().items("/policies"))
    emit(found, as_json=as_json, columns=["name", "version", "action", "mode", "enabled", "actor", "updated_at_ms"])


@group.command()
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Show a policy.

    \b
    Example:
      noria policy show four-eyes
    """
    emit(api().get(f"/policies/{quote(name)}"), as_json=as_json)


@group.command()
@click.argument("name")
@click.option(
    "--file",
    "-f",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Try this rule, which need not be kept.",
)
@click.option("--limit", default=100, show_default=True, help="How many decisions, newest first.")
@json_option
def replay(name: str, file: Path | None, limit: int, as_json: bool) -> None:
    """Say what a policy would have said of past decisions, as things were then. Nothing is kept.

    \b
    Example:
      noria policy replay four-eyes
      noria policy replay better-than-champion -f policy.yaml --limit 500
    """
    found = api().post(f"/policies/{quote(name)}/replay", {"limit": limit, "rule": _rule(file, name) if file else None})
    if as_json:
        emit(found, as_json=True)
        return
    rows = [{**i, "then": _word(i["was_allowed"]), "now": _word(i["allowed"])} for i in found["items"]]
    if rows:
        emit(rows, columns=["at_ms", "actor", "subject", "then", "now", "reason"])
    click.echo(
        f"Of {found['decisions']} decisions it is for {len(rows)}: {found['allowed']} allowed, {found['refused']} refused, "
        f"{found['changed']} otherwise than then."
    )


def _word(is_allowed: bool) -> str:
    return "allowed" if is_allowed else "refused"


def _rule(file: Path, name: str) -> object:
    """The policy called `name` in a manifest, as the API takes it."""
    try:
        documents = [d for d in yaml.safe_load_all(file.read_text()) if isinstance(d, dict)]
    except yaml.YAMLError as cause:
        raise Invalid(f"{file} is no YAML.", where="file") from cause
    for document in documents:
        if document.get("kind") == "Policy" and document.get("name") == name:
            return {key: value for key, value in document.items() if key != "kind"}
    raise Invalid(f"{file} holds no Policy named {name!r}.", where="file")
