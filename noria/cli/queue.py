"""`noria queue`: what waits and runs in each queue, and how much may."""

from __future__ import annotations

import click

from noria.cli.base import Group, api, emit, json_option

_COLUMNS = ["name", "priority", "quota", "ready", "running", "workers"]


@click.group(cls=Group)
def group() -> None:
    """Queues of pipeline steps: list, priority, quota."""


@group.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List queues: what waits, what runs, and how many workers serve them.

    \b
    Example:
      noria queue list
    """
    emit(api().get("/queues"), as_json=as_json, columns=_COLUMNS)


@group.command("set")
@click.argument("name")
@click.option("--priority", type=int, default=0, show_default=True, help="Of two queues, a worker takes the higher first.")
@click.option(
    "--quota", type=int, default=None, help="How many steps run at once, on all workers together. Default: no limit."
)
@json_option
def set_(name: str, priority: int, quota: int | None, as_json: bool) -> None:
    """Set the priority and the quota of a queue.

    \b
    Example:
      noria queue set gpu --priority 10 --quota 4
    """
    emit(api().put(f"/queues/{name}", {"priority": priority, "quota": quota}), as_json=as_json, columns=_COLUMNS)


@group.command()
@click.argument("name")
def delete(name: str) -> None:
    """Take back what was said about a queue.

    \b
    Example:
      noria queue delete gpu
    """
    api().delete(f"/queues/{name}")
    click.echo(f"The queue {name} has no priority and no quota any more.")
