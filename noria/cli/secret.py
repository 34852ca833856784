"""`noria secret`: values that are given to steps and webhooks by name, and shown to nobody."""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.parse import quote

import click

from noria.cli.base import Group, api, emit, json_option


@click.group(cls=Group)
def group() -> None:
    """Secrets of projects: set, list, delete. Nobody can read one back."""


@group.command("set")
@click.argument("name")
@click.option("--project", default="", help="The project it belongs to; the whole workspace when not said.")
@click.option(
    "--file", "file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="The value is in this file."
)
@click.option("--value-stdin", is_flag=True, help="The value comes on standard input.")
@click.option("--description", default="", help="What it is for.")
def set_(name: str, project: str, file: Path | None, value_stdin: bool, description: str) -> None:
    """Keep a value under a name. It is asked for, so that no shell remembers it.

    \b
    Example:
      noria secret set DB_PASSWORD --project churn
      noria secret set BUCKET_KEY --file key.json --description "reads the lake"
    """
    if file is not None:
        value = file.read_text()
    elif value_stdin:
        value = sys.stdin.read().removesuffix("\n")
    else:
        value = click.prompt("Value", hide_input=True, confirmation_prompt=True)
    body = {"value": value, "description": description}
    made = api().request("PUT", f"/api/v1/secrets/{quote(name)}", params={"project": project}, json=body).json()
    where = f"the project {project}" if project else "the workspace"
    click.echo(f"{name} of {where} is set (version {made['version']}).")


@group.command("list")
@click.option("--project", help="Only those of this project; '' for the workspace's own.")
@json_option
def list_(project: str | None, as_json: bool) -> None:
    """List secrets by name, never their values.

    \b
    Example:
      noria secret list
    """
    found = api().get("/secrets", **({"project": project} if project is not None else {}))["items"]
    columns = ["name", "project", "version", "description", "actor", "updated_at_ms", "used_at_ms"]
    emit(found, as_json=as_json, columns=columns)


@group.command()
@click.argument("name")
@click.option("--project", default="", help="The project it belongs to.")
def delete(name: str, project: str) -> None:
    """Delete a secret. What asks for it fails from now on, and says so.

    \b
    Example:
      noria secret delete DB_PASSWORD --project churn
    """
    api().delete(f"/secrets/{quote(name)}", project=project)
    click.echo(f"{name} is deleted.")


@group.command("rotate-key")
def rotate_key() -> None:
    """Put everything sealed under a new master key, and remove the old one.

    \b
    Example:
      noria secret rotate-key
    """
    found = api().post("/secrets/rotate-key", {})
    click.echo(f"{found['rewrapped']} envelopes are under the new key. Back up keys/secrets.key.")
