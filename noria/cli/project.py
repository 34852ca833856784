"""`noria project`: parts of the workspace."""

from __future__ import annotations

from urllib.parse import quote

import click

from noria.cli.base import Group, api, emit, json_option


@click.group(cls=Group)
def group() -> None:
    """Projects: parts of the workspace to give roles on."""


@group.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List projects and what lies in them.

    \b
    Example:
      noria project list
    """
    found = api().get("/projects")["items"]
    rows = found if as_json else [{**p, "things": ", ".join(p["things"])} for p in found]
    emit(rows, as_json=as_json, columns=["name", "parent", "description", "things"])


@group.command("set")
@click.argument("name")
@click.option("--in", "parent", default="", help="The project that it lies in.")
@click.option("--description", default="", help="What it is.")
def set_(name: str, parent: str, description: str) -> None:
    """Make, describe or move a project.

    \b
    Example:
      noria project set risk --description "credit risk"
      noria project set risk-eu --in risk
    """
    api().put(f"/projects/{quote(name)}", {"parent": parent, "description": description})
    click.echo(f"The project {name} is there.")


@group.command()
@click.argument("name")
@click.argument("things", nargs=-1, required=True)
def put(name: str, things: tuple[str, ...]) -> None:
    """Put things into a project. A thing lies in one project at most.

    \b
    Example:
      noria project put risk model:fraud dataset:clicks endpoint:fraud
      noria user grant bob contributor --on project:risk
    """
    for thing in things:
        api().put(f"/projects/{quote(name)}/things/{quote(thing)}", {})
        click.echo(f"{thing} lies in {name}.")


@group.command()
@click.argument("name")
@click.argument("things", nargs=-1, required=True)
def take(name: str, things: tuple[str, ...]) -> None:
    """Take things out of a project.

    \b
    Example:
      noria project take risk model:fraud
    """
    for thing in things:
        api().delete(f"/projects/{quote(name)}/things/{quote(thing)}")
        click.echo(f"{thing} no longer lies in {name}.")


@group.command()
@click.argument("name")
def delete(name: str) -> None:
    """Remove an empty project, with the roles on it.

    \b
    Example:
      noria project delete risk
    """
    api().delete(f"/projects/{quote(name)}")
    click.echo(f"The project {name} is gone.")
