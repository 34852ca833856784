"""`noria trust`: tokens of other issuers that stand for service accounts."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

import click

from noria.cli.base import Group, api, emit, json_option
from noria.kernel.errors import Invalid


@click.group(cls=Group)
def group() -> None:
    """Issuers whose tokens stand for service accounts: CI, Kubernetes."""


@group.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List trusts.

    \b
    Example:
      noria trust list
    """
    columns = ["name", "issuer", "audience", "claims", "principal", "actions", "scopes", "minutes"]
    emit(api().get("/trusts")["items"], as_json=as_json, columns=columns)


@group.command("set")
@click.argument("name")
@click.option("--issuer", required=True, help="The issuer, as its tokens name it.")
@click.option("--audience", required=True, help="Whom its tokens must be for.")
@click.option("--for", "principal", required=True, help="The service account that they stand for.")
@click.option(
    "--claim", "claims", multiple=True, required=True, help="name=value that a token must carry; * stands for any letters."
)
@click.option("--action", "actions", multiple=True, help="Limit to these actions.")
@click.option("--on", "scopes", multiple=True, help="Limit to these things or projects, such as project:risk.")
@click.option("--minutes", type=int, default=15, show_default=True, help="How long an exchanged token lasts.")
@click.option(
    "--jwks", type=click.Path(exists=True, dir_okay=False), help="The issuer's keys, when the server cannot reach it."
)
def set_(
    name: str, issuer: str, audience: str, principal: str, claims: tuple[str, ...], actions: tuple[str, ...], scopes: tuple[str, ...],
    minutes: int, jwks: str | None,
) -> None:  # fmt: skip
    """Let tokens of an issuer stand for a service account.

    \b
    Example:
      noria trust set deploy --for robot --audience noria --issuer https://token.actions.githubusercontent.com \\
        --claim repository=acme/fraud --claim ref=refs/heads/main --on project:risk
    """
    pairs = dict(claim.partition("=")[::2] for claim in claims)
    try:
        keys = json.loads(Path(jwks).read_text()) if jwks else {}
    except ValueError as cause:
        raise Invalid(f"{jwks} is not JSON.", where="jwks") from cause
    body = {
        "issuer": issuer, "audience": audience, "principal": principal, "claims": pairs, "actions": list(actions),
        "scopes": list(scopes), "minutes": minutes, "jwks": keys,
    }  # fmt: skip
    api().put(f"/trusts/{quote(name)}", body)
    click.echo(f"Tokens of {issuer} with {', '.join(claims)} stand for {principal}.")


@group.command()
@click.argument("name")
def remove(name: str) -> None:
    """Exchange tokens of a trust no more.

    \b
    Example:
      noria trust remove deploy
    """
    api().delete(f"/trusts/{quote(name)}")
    click.echo(f"The trust {name} is gone.")
