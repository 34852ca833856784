"""`noria role`: named sets of actions."""

from __future__ import annotations

from urllib.parse import quote

import click

from noria.cli.base import Group, api, emit, json_option


@click.group(cls=Group)
def group() -> None:
    """Roles: the built-in ones and your own."""


@group.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List roles and their actions.

    \b
    Example:
      noria role list
    """
    found = api().get("/roles")["items"]
    rows = found if as_json else [{**r, "actions": ", ".join(r["actions"])} for r in found]
    emit(rows, as_json=as_json, columns=["name", "is_built_in", "description", "actions"])


@group.command("set")
@click.argument("name")
@click.argument("actions", nargs=-1, required=True)
@click.option("--description", default="", help="What it is for.")
def set_(name: str, actions: tuple[str, ...], description: str) -> None:
    """Make or change a role of your own; whoever has it has the new actions at once.

    \b
    Example:
      noria role set labeler dataset.read dataset.commit --description "adds labels, sees no models"
    """
    made = api().put(f"/roles/{quote(name)}", {"actions": list(actions), "description": description})
    click.echo(f"The role {name} allows {', '.join(made['actions'])}.")


@group.command()
@click.argument("name")
def delete(name: str) -> None:
    """Remove a role of your own, with every grant of it.

    \b
    Example:
      noria role delete labeler
    """
    api().delete(f"/roles/{quote(name)}")
    click.echo(f"The role {name} is gone.")
