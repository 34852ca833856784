"""`noria group`: groups of people and services."""

from __future__ import annotations

from urllib.parse import quote

import click

from noria.cli.base import Group, api, emit, json_option


@click.group(cls=Group)
def group() -> None:
    """Groups of people and services, which may lie in each other."""


@group.command()
@click.argument("name")
@click.option("--role", "roles", multiple=True, help="A role on the whole workspace; may be given several times.")
def create(name: str, roles: tuple[str, ...]) -> None:
    """Make a group. `noria user grant` gives it roles on single things.

    \b
    Example:
      noria group create risk-team --role viewer
    """
    api().post("/groups", {"name": name, "roles": list(roles)})
    click.echo(f"The group {name} is there.")


@group.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List groups and who is in them.

    \b
    Example:
      noria group list
    """
    found = api().get("/groups")["items"]
    rows = found if as_json else [{**g, "members": ", ".join(m["name"] for m in g["members"])} for g in found]
    emit(rows, as_json=as_json, columns=["name", "roles", "members"])


@group.command()
@click.argument("name")
@click.argument("members", nargs=-1, required=True)
def add(name: str, members: tuple[str, ...]) -> None:
    """Put people, service accounts or groups into a group.

    \b
    Example:
      noria group add risk-team ada bob
    """
    for member in members:
        api().put(f"/groups/{quote(name)}/members/{quote(member)}", {})
        click.echo(f"{member} is in {name}.")


@group.command()
@click.argument("name")
@click.argument("members", nargs=-1, required=True)
def remove(name: str, members: tuple[str, ...]) -> None:
    """Take members out of a group.

    \b
    Example:
      noria group remove risk-team bob
    """
    for member in members:
        api().delete(f"/groups/{quote(name)}/members/{quote(member)}")
        click.echo(f"{member} is no longer in {name}.")


@group.command()
@click.argument("name")
def delete(name: str) -> None:
    """Remove a group with its grants and clearances.

    \b
    Example:
      noria group delete risk-team
    """
    api().delete(f"/groups/{quote(name)}")
    click.echo(f"The group {name} is gone.")
