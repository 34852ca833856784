"""`noria loop`: the closed loop."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from noria.cli.base import Group, api, emit, json_option
from noria.kernel.errors import Invalid


@click.group(cls=Group)
def group() -> None:
    """The closed loop: watch, retrain, compare, approve, try, promote or roll back."""


@group.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List loops and where they stand.

    \b
    Example:
      noria loop list
    """
    found = list(api().items("/loops"))
    if as_json:
        emit(found, as_json=True)
        return
    rows = [
        {
            "name": loop["name"],
            "state": _state(loop),
            "turns": loop["turns_count"],
            "model": loop["spec"]["model"],
            "endpoint": loop["spec"]["endpoint"],
            "monitor": loop["spec"].get("monitor") or "by hand",
        }
        for loop in found
    ]
    emit(rows, columns=["name", "state", "turns", "model", "endpoint", "monitor"])


@group.command()
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Show a loop, its last turns and every move of the newest.

    \b
    Example:
      noria loop show flights
    """
    page = api().get(f"/loops/{quote(name)}")
    if as_json:
        emit(page, as_json=True)
        return
    loop = page["loop"]
    click.secho(f"{loop['name']}: {_state(loop)}", bold=True)
    for wait in page["passes"]:
        click.echo(f"An alert waits: {wait['reason']}")
    columns = ["number", "state", "trigger", "started_at_ms", "challenger", "reason"]
    emit(page["turns"], columns=columns)
    if page["turns"]:
        click.echo()
        emit(page["turns"][0]["steps"], columns=["at_ms", "state", "why"])


@group.command()
@click.argument("name")
@click.option("--param", "params", multiple=True, help="A parameter for this turn, as name=value; JSON values are read.")
@click.option("--reason", default="", help="Why, for the record.")
@json_option
def run(name: str, params: tuple[str, ...], reason: str, as_json: bool) -> None:
    """Start a turn by hand. The cool-down does not hold; the budget does.

    \b
    Example:
      noria loop run flights --reason "new data" --param dataset=flights@3
    """
    turn = api().post(f"/loops/{quote(name)}/run", {"params": dict(map(_param, params)), "reason": reason})
    if as_json:
        emit(turn, as_json=True)
    else:
        click.echo(f"Turn {turn['number']} of {name} is {turn['state']}. {turn['reason']}")


@group.command()
@click.argument("name")
@click.option("--reason", default="", help="Why, for the record.")
@json_option
def stop(name: str, reason: str, as_json: bool) -> None:
    """The stop button: end the turn under way now, and begin no other.

    \b
    Example:
      noria loop stop flights --reason "bad data upstream"
    """
    _say(api().post(f"/loops/{quote(name)}/stop", {"reason": reason}), as_json)


@group.command()
@click.argument("name")
@json_option
def start(name: str, as_json: bool) -> None:
    """Let a stopped loop take turns again.

    \b
    Example:
      noria loop start flights
    """
    _say(api().post(f"/loops/{quote(name)}/start"), as_json)


@group.command()
@click.option("-f", "--file", "path", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@json_option
def create(path: Path, as_json: bool) -> None:
    """Make or change a loop from a file: YAML or JSON, the fields of a loop.

    \b
    Example:
      noria loop create -f loop.yaml
    """
    spec = _read(path)
    _say(api().put(f"/loops/{quote(str(spec.get('name', '')))}", spec), as_json)


@group.command()
@click.argument("name")
def delete(name: str) -> None:
    """Remove a loop. Its turns stay in the record.

    \b
    Example:
      noria loop delete flights
    """
    api().delete(f"/loops/{quote(name)}")
    click.echo(f"{name} is gone.")


def _read(path: Path) -> dict[str, Any]:
    import yaml  # takes 20 ms, and only this command needs it

    try:
        spec = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as cause:
        raise Invalid(f"{path} is not YAML.", where="file") from cause
    if not isinstance(spec, dict) or not spec.get("name"):
        raise Invalid(f"{path} declares no loop with a name.", where="file", hint="docs/guides/loops.md has an example.")
    return spec


def _param(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise Invalid(f"{text!r} is not a parameter.", where="param", hint="Write name=value.")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def _state(loop: dict[str, Any]) -> str:
    turn = loop.get("turn")
    stopped = "" if loop["is_enabled"] else "stopped; "
    return f"{stopped}turn {turn['number']} {turn['state']}" if turn else f"{stopped}no turn yet"


def _say(loop: dict[str, Any], as_json: bool) -> None:
    if as_json:
        emit(loop, as_json=True)
    else:
        click.echo(f"{loop['name']}: {_state(loop)}.")
