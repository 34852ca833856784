"""`noria user`: users and service accounts."""

from __future__ import annotations

import sys

import click

from noria.cli.base import Group, api, emit, json_option, until_ms


@click.group(cls=Group)
def group() -> None:
    """Users and service accounts."""


@group.command()
@click.argument("name")
@click.option("--admin", is_flag=True, help="Give the role admin.")
@click.option("--service", is_flag=True, help="A service account: signs in with tokens only.")
@click.option(
    "--role", "roles", multiple=True, help="A role on the whole workspace; may be given several times. Without: none."
)
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@json_option
def create(name: str, admin: bool, service: bool, roles: tuple[str, ...], password_stdin: bool, as_json: bool) -> None:
    """Make a user or a service account.

    \b
    Example:
      noria user create ada --admin --password-stdin < password.txt
      noria user create robot --service --role contributor
    """
    password = ""
    if not service:
        password = sys.stdin.readline().rstrip("\n") if password_stdin else click.prompt(
            "Password", hide_input=True, confirmation_prompt=True
        )  # fmt: skip
    made = api().post(
        "/principals",
        {
            "name": name, "kind": "service" if service else "user", "password": password,
            "roles": ["admin"] if admin else list(roles),
        },
    )  # fmt: skip
    emit(made, as_json=as_json, columns=["name", "kind", "roles", "id"])
    if not made["roles"] and not as_json:
        click.echo(f"{name} may do nothing yet. Give a role: noria user grant {name} viewer --on model:NAME", err=True)


@group.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List users and service accounts.

    \b
    Example:
      noria user list
    """
    emit(api().get("/principals")["items"], as_json=as_json, columns=["name", "kind", "roles", "is_active", "created_at_ms"])


@group.command()
@click.argument("name")
def disable(name: str) -> None:
    """End an account with its sessions and tokens.

    \b
    Example:
      noria user disable bob
    """
    api().delete(f"/principals/{name}")
    click.echo(f"{name} can no longer sign in.")


@group.command()
@click.argument("name")
@click.argument("role")
@click.option("--on", "scope", default="", help="One thing, such as model:fraud; the whole workspace by default.")
@click.option("--hours", type=float, default=None, help="For how long; for good by default.")
@click.option("--reason", default="", help="Why; kept in the audit log.")
def grant(name: str, role: str, scope: str, hours: float | None, reason: str) -> None:
    """Give a role to a person, a service account or a group.

    \b
    Example:
      noria user grant bob deployer --on model:fraud --hours 8 --reason "on call"
    """
    body = {"principal": name, "role": role, "scope": scope, "expires_at_ms": until_ms(hours), "reason": reason}
    api().post("/grants", body)
    click.echo(f"{name} has the role {role}" + (f" on {scope}" if scope else "") + (f" for {hours:g} h." if hours else "."))


@group.command()
@click.argument("name")
@click.argument("subject")
def link(name: str, subject: str) -> None:
    """Let somebody known to the identity provider sign in as an account that is there.

    \b
    Example:
      noria user link ada 248289761001
    """
    api().post("/identities", {"principal": name, "subject": subject})
    click.echo(f"{subject} signs in as {name}.")


@group.command()
@click.argument("name")
@click.argument("role")
@click.option("--on", "scope", default="", help="The scope of the grant.")
def revoke(name: str, role: str, scope: str) -> None:
    """Take a role away.

    \b
    Example:
      noria user revoke bob deployer --on model:fraud
    """
    api().delete("/grants", principal=name, role=role, scope=scope)
    click.echo(f"{name} no longer has the role {role}" + (f" on {scope}." if scope else "."))
