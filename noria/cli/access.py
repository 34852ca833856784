"""`noria access`: who may do what, and why."""

from __future__ import annotations

from urllib.parse import quote

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


@group.group()
def review() -> None:
    """Reviews of who may do what: each grant is kept or taken away."""


@review.command()
@click.argument("title")
@json_option
def start(title: str, as_json: bool) -> None:
    """Write down every role and clearance in force, to be decided one by one.

    \b
    Example:
      noria access review start "first quarter"
    """
    found = api().post("/access-reviews", {"title": title})
    if as_json:
        emit(found, as_json=True)
    else:
        click.echo(f"{found['review']['id']}: {found['review']['items_count']} to decide.")


@review.command("list")
@json_option
def list_reviews(as_json: bool) -> None:
    """List reviews, newest first.

    \b
    Example:
      noria access review list
    """
    found = api().get("/access-reviews")["items"]
    columns = ["id", "title", "created_at_ms", "items_count", "open_count", "revoked_count", "closed_at_ms", "actor"]
    emit(found, as_json=as_json, columns=columns)


@review.command()
@click.argument("review_id")
@json_option
def show(review_id: str, as_json: bool) -> None:
    """Show what is in a review, and what was decided.

    \b
    Example:
      noria access review show 0197c0de0f0a7f3e9c1d2b4a5e6f7a8b
    """
    found = api().get(f"/access-reviews/{quote(review_id)}")
    columns = ["position", "principal", "what", "scope", "last_seen_ms", "granted_by", "decision", "actor"]
    emit(found if as_json else found["items"], as_json=as_json, columns=() if as_json else columns)


@review.command()
@click.argument("review_id")
@click.argument("position", type=int)
@click.argument("decision", type=click.Choice(["keep", "revoke"]))
@click.option("--reason", default="", help="Why; kept with the decision.")
def decide(review_id: str, position: int, decision: str, reason: str) -> None:
    """Keep one thing, or take it away at once.

    \b
    Example:
      noria access review decide 0197c0de0f0a7f3e9c1d2b4a5e6f7a8b 3 revoke --reason "left the team"
    """
    found = api().post(
        f"/access-reviews/{quote(review_id)}/items/{position}", {"decision": decision, "reason": reason}
    )["review"]  # fmt: skip
    left = (
        f"{found['open_count']} left to decide." if found["open_count"] else "Everything is decided; the review is closed."
    )
    click.echo(left)
