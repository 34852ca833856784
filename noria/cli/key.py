"""`noria key`: the keys that sign, and new ones in their place."""

from __future__ import annotations

from urllib.parse import quote

import click

from noria.cli.base import Group, api, emit, json_option


@click.group(cls=Group)
def group() -> None:
    """The keys that sign: audit checkpoints, provenance, models."""


@group.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the keys of this installation.

    \b
    Example:
      noria key list
    """
    found = api().get("/keys")["items"]
    if as_json:
        emit(found, as_json=True)
        return
    rows = [
        {**k, "public": k["public"][0].splitlines()[0] if k["public"] else "", "before": max(len(k["public"]) - 1, 0)}
        for k in found
    ]
    emit(rows, columns=["name", "state", "algorithm", "purpose", "before"])


@group.command()
@click.argument("name", type=click.Choice(["audit", "models", "signatures"]))
@click.option("--reason", default="", help="Why, for the audit log.")
@click.option("--lost", is_flag=True, help="The old key is gone for good, and there is no backup of it.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def rotate(name: str, reason: str, lost: bool, yes: bool, as_json: bool) -> None:
    """Let a new key sign from now on. The old private key is destroyed; what it signed stays verifiable.

    The change is a fact that both keys sign. Give the new public key to whoever verifies; for the audit log, whoever has the old
    one comes to trust the new one by a checkpoint that both signed – unless the old one was lost.

    \b
    Example:
      noria key rotate audit --reason "yearly"
      noria key rotate models --lost --reason "the disk died, INC-9"
    """
    if not yes and not as_json:
        click.confirm(f"Destroy the private key {name} and use a new one?", abort=True)
    found = api().post(f"/keys/{quote(name)}/rotate", {"reason": reason, "lost": lost})
    if as_json:
        emit(found, as_json=True)
    else:
        click.echo(f"Another key signs now ({len(found['public'])} in all):\n{found['public'][0]}")
