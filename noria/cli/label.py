"""`noria label`: words on things; those that restrict hide them."""

from __future__ import annotations

from urllib.parse import quote

import click

from noria.cli.base import Group, api, emit, json_option, until_ms


@click.group(cls=Group)
def group() -> None:
    """Labels that hide things from whoever lacks a clearance."""


@group.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List labels, what carries them and who is cleared.

    \b
    Example:
      noria label list
    """
    found = api().get("/labels")["items"]
    rows = found if as_json else [{**x, "on": ", ".join(x["on"]), "cleared": ", ".join(x["cleared"])} for x in found]
    emit(rows, as_json=as_json, columns=["name", "is_restricting", "on", "cleared", "description"])


@group.command("set")
@click.argument("name")
@click.option("--restricting/--informing", default=True, help="Hide what carries it, or only mark it.")
@click.option("--description", default="", help="What it means.")
def set_(name: str, restricting: bool, description: str) -> None:
    """Make or change a label.

    \b
    Example:
      noria label set pii --description "names of people"
    """
    api().put(f"/labels/{quote(name)}", {"is_restricting": restricting, "description": description})
    click.echo(f"The label {name} is there.")


@group.command()
@click.argument("name")
@click.argument("things", nargs=-1, required=True)
def put(name: str, things: tuple[str, ...]) -> None:
    """Put a label on things or projects.

    \b
    Example:
      noria label put pii dataset:clicks project:risk
    """
    for thing in things:
        api().put(f"/labels/{quote(name)}/things/{quote(thing)}", {})
        click.echo(f"{thing} carries {name}.")


@group.command()
@click.argument("name")
@click.argument("things", nargs=-1, required=True)
def take(name: str, things: tuple[str, ...]) -> None:
    """Take a label off.

    \b
    Example:
      noria label take pii dataset:clicks
    """
    for thing in things:
        api().delete(f"/labels/{quote(name)}/things/{quote(thing)}")
        click.echo(f"{thing} no longer carries {name}.")


@group.command()
@click.argument("name")
@click.argument("principal")
@click.option("--hours", type=float, default=None, help="For how long; for good by default.")
@click.option("--reason", default="", help="Why; kept in the audit log.")
def clear(name: str, principal: str, hours: float | None, reason: str) -> None:
    """Let somebody, or a group, see what carries a label.

    \b
    Example:
      noria label clear pii risk-team --hours 8 --reason "case 7"
    """
    body = {"expires_at_ms": until_ms(hours), "reason": reason}
    api().put(f"/labels/{quote(name)}/clearances/{quote(principal)}", body)
    click.echo(f"{principal} may see what carries {name}.")


@group.command()
@click.argument("name")
@click.argument("principal")
def unclear(name: str, principal: str) -> None:
    """End a clearance.

    \b
    Example:
      noria label unclear pii risk-team
    """
    api().delete(f"/labels/{quote(name)}/clearances/{quote(principal)}")
    click.echo(f"{principal} may no longer see what carries {name}.")


@group.command()
@click.argument("name")
def delete(name: str) -> None:
    """Remove a label from everything, with its clearances.

    \b
    Example:
      noria label delete pii
    """
    api().delete(f"/labels/{quote(name)}")
    click.echo(f"The label {name} is gone.")
