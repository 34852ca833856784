"""`noria experiment`: list, put away, bring back."""

from __future__ import annotations

from typing import Any

import click

from noria.cli.base import Group, api, emit, json_option
from noria.kernel.errors import NotFound


@click.group(cls=Group)
def group() -> None:
    """Experiments: list, put away, bring back."""


@group.command("list")
@click.option("--deleted", is_flag=True, help="Those that were put away.")
@json_option
def list_(deleted: bool, as_json: bool) -> None:
    """List experiments, latest first.

    \b
    Example:
      noria experiment list
    """
    found = list(api().items("/experiments", stage="deleted" if deleted else "active"))
    emit(found, as_json=as_json, columns=["id", "name", "stage", "runs_count", "created_at_ms"])


@group.command()
@click.argument("name")
@json_option
def delete(name: str, as_json: bool) -> None:
    """Put an experiment and its runs away; NAME may be an id. It can be restored; `noria run gc` removes it for good.

    \b
    Example:
      noria experiment delete flights
    """
    found = _find(name, "active")
    api().delete(f"/experiments/{found['id']}")
    _said(found, "deleted", f"is put away. Bring it back with: noria experiment restore {name}", as_json)


@group.command()
@click.argument("name")
@json_option
def restore(name: str, as_json: bool) -> None:
    """Bring an experiment back, with the runs that went with it; NAME may be an id.

    \b
    Example:
      noria experiment restore flights
    """
    found = _find(name, "deleted")
    api().post(f"/experiments/{found['id']}/restore")
    _said(found, "active", "is back.", as_json)


def _find(name: str, stage: str) -> dict[str, Any]:
    for found in api().items("/experiments", stage=stage):
        if name in (found["id"], found["name"]):
            return dict(found)
    raise NotFound(f"There is no {stage} experiment {name!r}.", hint="noria experiment list [--deleted] shows them.")


def _said(found: dict[str, Any], stage: str, text: str, as_json: bool) -> None:
    if as_json:
        emit({"id": found["id"], "name": found["name"], "stage": stage}, as_json=True)
    else:
        click.echo(f"Experiment {found['name']} {text}")
