"""`noria approval`: ask, look, answer."""

from __future__ import annotations

import json
from pathlib import Path

import click

from noria.cli.base import Group, api, emit, json_option
from noria.cli.model_group import path_of, version_handle

COLUMNS = ["id", "state", "action", "subject", "digest", "requested_by", "required", "expires_at_ms"]


@click.group(cls=Group)
def group() -> None:
    """Approvals: ask, look, approve, reject."""


@group.command("list")
@click.option("--state", default="", help="pending, granted, rejected, expired or withdrawn.")
@click.option("--subject", default="", help="Only of this, such as model_version:0197…")
@click.option("--limit", type=int, default=50, show_default=True)
@json_option
def list_(state: str, subject: str, limit: int, as_json: bool) -> None:
    """List approvals, newest first.

    \b
    Example:
      noria approval list --state pending
    """
    found = api().get("/approvals", state=state, subject=subject, limit=limit)["items"]
    emit(found, as_json=as_json, columns=COLUMNS)


@group.command()
@click.argument("approval_id")
@json_option
def show(approval_id: str, as_json: bool) -> None:
    """Show one approval with its evidence and votes.

    \b
    Example:
      noria approval show 0197c0de0f0a7f3e9c1d2b4a5e6f7a8b
    """
    emit(api().get(f"/approvals/{approval_id}"), as_json=as_json)


@group.command()
@click.argument("subject")
@click.argument("digest", default="")
@click.option("--action", default="model.promote", show_default=True, help="What is to be done.")
@click.option("--required", type=int, default=1, show_default=True, help="How many have to approve.")
@click.option("--role", "roles", multiple=True, help="Only people with this role may answer.")
@click.option("--team", "teams", multiple=True, help="Only members of this group may answer.")
@click.option("--evidence", type=click.Path(path_type=Path, exists=True), help="A JSON file that the approvers see.")
@click.option("--comment", default="")
@click.option("--days", type=int, default=7, show_default=True, help="How long it is open, and then valid.")
@json_option
def request(
    subject: str, digest: str, action: str, required: int, roles: tuple[str, ...], teams: tuple[str, ...],
    evidence: Path | None, comment: str, days: int, as_json: bool,
) -> None:  # fmt: skip
    """Ask whether an action may be done on SUBJECT with exactly the bytes DIGEST: those of a model's
    version when it is left out.

    \b
    Example:
      noria approval request flights@7 --action endpoint.deploy --comment "holds on every airport"
      noria approval request model_version:0197c0de 6b86b273ff34fce1 --action model.promote --comment "ready for EU"
    """
    if not digest:
        version = api().get(path_of(version_handle(subject)))["version"]
        subject, digest = f"model_version:{version['id']}", version["digest"]
    asked = {
        "subject": subject, "digest": digest, "action": action, "required": required, "roles": list(roles),
        "teams": list(teams),
        "evidence": json.loads(evidence.read_text()) if evidence else {}, "comment": comment, "expires_in_days": days,
    }  # fmt: skip
    made = api().post("/approvals", asked)
    if as_json:
        emit(made, as_json=True)
    else:
        click.echo(f"Asked. Somebody else answers with: noria approval approve {made['id']}")


@group.command()
@click.argument("approval_id")
@click.option("--comment", default="")
@click.option("--digest", default="", help="Refuse unless the question is about this digest.")
@json_option
def approve(approval_id: str, comment: str, digest: str, as_json: bool) -> None:
    """Say yes. Refused to whoever asked, or made what it is about.

    \b
    Example:
      noria approval approve 0197c0de0f0a7f3e9c1d2b4a5e6f7a8b --comment "holds on the EU slice"
    """
    _answer(approval_id, "approve", {"comment": comment, "digest": digest}, as_json)


@group.command()
@click.argument("approval_id")
@click.option("--comment", default="")
@json_option
def reject(approval_id: str, comment: str, as_json: bool) -> None:
    """Say no; that ends it.

    \b
    Example:
      noria approval reject 0197c0de0f0a7f3e9c1d2b4a5e6f7a8b --comment "worse for new customers"
    """
    _answer(approval_id, "reject", {"comment": comment}, as_json)


@group.command()
@click.argument("approval_id")
@json_option
def withdraw(approval_id: str, as_json: bool) -> None:
    """Take one's own question back.

    \b
    Example:
      noria approval withdraw 0197c0de0f0a7f3e9c1d2b4a5e6f7a8b
    """
    _answer(approval_id, "withdraw", {}, as_json)


@group.command()
@click.argument("approval_id")
@click.option("--reason", required=True, help="What the emergency is, and where it is tracked.")
@json_option
def override(approval_id: str, reason: str, as_json: bool) -> None:
    """EMERGENCY: an administrator grants it alone. On record as such for ever.

    \b
    Example:
      noria approval override 0197c0de0f0a7f3e9c1d2b4a5e6f7a8b --reason "INC-42: scoring is down, rolling forward"
    """
    _answer(approval_id, "override", {"comment": reason}, as_json)


def _answer(approval_id: str, verb: str, body: dict[str, str], as_json: bool) -> None:
    found = api().post(f"/approvals/{approval_id}/{verb}", body)
    if as_json:
        emit(found, as_json=True)
        return
    given = sum(v["decision"] == "approve" for v in found["votes"])
    click.echo(
        f"{found['state'].capitalize()}: {found['action']} of {found['subject']} ({given} of {found['required']} approved)."
    )


@group.command()
@click.argument("approval_id")
@click.argument("finding")
@json_option
def review(approval_id: str, finding: str, as_json: bool) -> None:
    """Look at an emergency override afterwards, and say what was found. Somebody else than who did it.

    \b
    Example:
      noria approval review 0197c0de0f0a7f3e9c1d2b4a5e6f7a8b "right: scoring was down, INC-42; approved since"
    """
    found = api().post(f"/approvals/{approval_id}/review", {"finding": finding})
    if as_json:
        emit(found, as_json=True)
    else:
        click.echo(
            f"Reviewed. It was overridden by {next(v['actor'] for v in found['votes'] if v['decision'] == 'override')}."
        )
