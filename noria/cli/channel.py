"""`noria channel`: where people are told of alerts."""

from __future__ import annotations

import sys

import click

from noria.cli.base import Group, api, emit, json_option
from noria.kernel.errors import Unavailable

LIST = ["name", "service", "shown", "kinds", "min_severity", "monitors", "enabled"]
DELIVERIES = ["created_at_ms", "seq", "state", "attempts", "error"]


@click.group(cls=Group)
def group() -> None:
    """Channels: chat, mail and pagers that are told of alerts."""


@group.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List channels; their addresses are shown without secrets.

    \b
    Example:
      noria channel list
    """
    emit(list(api().items("/channels")), as_json=as_json, columns=LIST)


@group.command("set")
@click.argument("name")
@click.argument("url", required=False, default="")
@click.option(
    "--kind", "kinds", multiple=True, help="Events to tell of, or patterns. Default: alert.opened, alert.resolved."
)
@click.option("--severity", type=click.Choice(["warn", "alert"]), default="warn", show_default=True, help="The least.")
@click.option("--monitor", "monitors", multiple=True, help="Only of monitors with these names or patterns.")
@click.option("--endpoint", "endpoints", multiple=True, help="Only of endpoints with these names or patterns.")
@click.option("--enabled/--disabled", default=True, show_default=True)
@click.option("--allow-private", is_flag=True, help="Addresses in private networks too; for administrators.")
@click.option("--description", default="")
@json_option
def set_(
    name: str, url: str, kinds: tuple[str, ...], severity: str, monitors: tuple[str, ...], endpoints: tuple[str, ...],
    enabled: bool, allow_private: bool, description: str, as_json: bool,
) -> None:  # fmt: skip
    """Make a channel or change it. URL is Apprise's (- reads it from standard input); left out, it stays as it was.

    \b
    Example:
      noria channel set ops slack://TokenA/TokenB/TokenC/#alerts --severity alert
      noria channel set mail - --monitor 'flights*' < address.txt
    """
    body = {
        "url": sys.stdin.read().strip() if url == "-" else url, "min_severity": severity, "monitors": list(monitors),
        "endpoints": list(endpoints), "enabled": enabled, "allow_private": allow_private, "description": description,
        **({"kinds": list(kinds)} if kinds else {}),
    }  # fmt: skip
    made = api().put(f"/channels/{name}", body)
    if as_json:
        emit(made, as_json=True)
    else:
        click.echo(f"{name} tells {made['service']}. Try it: noria channel test {name}")


@group.command()
@click.argument("name")
@json_option
def test(name: str, as_json: bool) -> None:
    """Send a message there now.

    \b
    Example:
      noria channel test ops
    """
    told = api().post(f"/channels/{name}/test")
    if as_json:
        emit(told, as_json=True)
    if not told["delivered"]:
        raise Unavailable(f"{name} did not take it: {told['error']}")
    if not as_json:
        click.echo(f"Delivered in {told['took_ms']:.0f} ms.")


@group.command()
@click.argument("name")
@click.option("--limit", type=int, default=30, show_default=True)
@json_option
def deliveries(name: str, limit: int, as_json: bool) -> None:
    """List what was sent there, newest first.

    \b
    Example:
      noria channel deliveries ops
    """
    emit(api().get(f"/channels/{name}/deliveries", limit=limit)["items"], as_json=as_json, columns=DELIVERIES)


@group.command()
@click.argument("name")
@click.confirmation_option(prompt="Tell nobody there any more?")
def delete(name: str) -> None:
    """Remove a channel.

    \b
    Example:
      noria channel delete ops --yes
    """
    api().delete(f"/channels/{name}")
    click.echo("Removed.")
