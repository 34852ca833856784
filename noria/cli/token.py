"""`noria token`: API tokens."""

from __future__ import annotations

import click

from noria.cli.base import Group, api, emit, json_option


@click.group(cls=Group)
def group() -> None:
    """API tokens."""


@group.command()
@click.argument("name")
@click.option("--for", "principal", default="", help="Whose token; your own by default.")
@click.option("--days", type=int, default=90, show_default=True, help="How long it is valid.")
@click.option("--action", "actions", multiple=True, help="Limit it to these actions; may be given several times.")
@click.option("--on", "scopes", multiple=True, help="Limit it to these things or projects, such as project:risk.")
@json_option
def create(name: str, principal: str, days: int, actions: tuple[str, ...], scopes: tuple[str, ...], as_json: bool) -> None:
    """Make a token. Its secret is printed once and kept nowhere.

    \b
    Example:
      export NORIA_TOKEN=$(noria token create laptop)
      noria token create scorer --for robot --action endpoint.predict --on endpoint:fraud
    """
    body = {"name": name, "principal": principal, "expires_in_days": days, "actions": list(actions), "scopes": list(scopes)}
    made = api().post("/tokens", body)
    if as_json:
        emit(made, as_json=True)
    else:
        click.echo(made["secret"])
        click.echo(f"Token {made['token']['id']} is valid for {days} days. This is the only time it is shown.", err=True)


@group.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List tokens.

    \b
    Example:
      noria token list
    """
    columns = ["id", "name", "principal_id", "created_at_ms", "expires_at_ms", "last_used_at_ms", "actions", "scopes"]
    emit(api().get("/tokens")["items"], as_json=as_json, columns=columns)


@group.command()
@click.argument("token_id")
def revoke(token_id: str) -> None:
    """End a token.

    \b
    Example:
      noria token revoke 3f9c01d2ab44
    """
    api().delete(f"/tokens/{token_id}")
    click.echo(f"Token {token_id} no longer signs in.")


@group.command()
@click.argument("token_id")
@click.option(
    "--overlap-hours", type=float, default=24.0, show_default=True, help="How long the old one works beside the new one."
)
@json_option
def rotate(token_id: str, overlap_hours: float, as_json: bool) -> None:
    """Replace a token by one that may do the same. The new secret is printed once.

    \b
    Example:
      noria token rotate 3f9c01d2ab44 --overlap-hours 2
    """
    made = api().post(f"/tokens/{token_id}/rotate", {"overlap_hours": overlap_hours})
    if as_json:
        emit(made, as_json=True)
    else:
        click.echo(made["secret"])
        click.echo(f"Token {made['token']['id']} replaces {token_id}, which works for {overlap_hours:g} h more.", err=True)
