"""`noria access`: who may do what, and why."""

from __future__ import annotations

import click

from noria.cli.base import Group, api, emit, json_option


@click.group(cls=Group)
def group() -> None:
    """Who may do what, and why."""


@group.command()
@click.argument("principal")
@click.argument("action")
@click.argument("thing", default="")
@json_option
def explain(principal: str, action: str, thing: str, as_json: bool) -> None:
    """Say whether somebody may do something, and why or why not. Ends with 1 when they may not.

    \b
    Example:
      noria access explain bob model.promote model:fraud
    """
    found = api().get("/access/explain", principal=principal, action=action, on=thing)
    if as_json:
        emit(found, as_json=True)
    else:
        word = "may" if found["is_allowed"] else "may not"
        click.echo(f"{principal} {word} do {action}" + (f" on {thing}." if thing else " on the whole workspace."))
        for line in found["why"]:
            click.echo(f"  {line}")
    if not found["is_allowed"]:
        raise SystemExit(1)


@group.command()
@click.option("--of", "principal", default="", help="Only those of one principal.")
@click.option("--on", "scope", default=None, help="Only those on one scope, such as project:risk.")
@json_option
def grants(principal: str, scope: str | None, as_json: bool) -> None:
    """List who has which role on what.

    \b
    Example:
      noria access grants --on project:risk
    """
    found = api().get("/grants", principal=principal, scope=scope)["items"]
    emit(found, as_json=as_json, columns=["principal", "role", "scope", "expires_at_ms", "granted_by", "reason"])


@group.command()
@json_option
def sessions(as_json: bool) -> None:
    """List the browsers that are signed in: your own, or everybody's for an administrator.

    \b
    Example:
      noria access sessions
    """
    columns = ["id", "principal", "method", "created_at_ms", "seen_at_ms", "agent"]
    emit(api().get("/sessions")["items"], as_json=as_json, columns=columns)


@group.command()
@click.argument("session_id")
def revoke(session_id: str) -> None:
    """Sign a browser out.

    \b
    Example:
      noria access revoke 3f9c01d2ab44e5f6
    """
    api().delete(f"/sessions/{session_id}")
    click.echo("That browser is signed out.")
