"""`noria report`: documents with live panels."""

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
    """Reports: words with live panels between them."""


@group.command("list")
@click.option("--find", default="", help="Words of the title.")
@json_option
def list_(find: str, as_json: bool) -> None:
    """List reports, the last saved first.

    \b
    Example:
      noria report list --find january
    """
    found = list(api().items("/reports", find=find))
    emit(found, as_json=as_json, columns=["id", "title", "latest", "updated_by", "updated_at_ms"])


@group.command()
@click.argument("report")
@click.option("--version", type=int, default=None, help="Which one; the latest if not said.")
@click.option("-o", "--out", type=click.Path(dir_okay=False, path_type=Path), default=None, help="The file to write.")
def export(report: str, version: int | None, out: Path | None) -> None:
    """Write a report as JSON that noria report save takes: its title and its blocks, not what they show.

    For a PDF, print it from its page: More, Print.

    \b
    Example:
      noria report export 0197f3c2a1 -o january.json
    """
    found = api().get(f"/reports/{quote(report)}", **({"version": version} if version else {}))
    text = json.dumps({"title": found["title"], "blocks": found["blocks"]}, indent=2) + "\n"
    if out is None:
        click.echo(text, nl=False)
    else:
        out.write_text(text)
        click.echo(f"Version {found['version']} of {found['title']} is in {out}.")


@group.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--report", default="", help="The report to save a version of; a new one if not said.")
@click.option("--message", default="", help="What changed.")
@click.option("--project", default="", help="Where a new one is to lie.")
def save(file: Path, report: str, message: str, project: str) -> None:
    """Begin a report from a file, or save it as the next version of one.

    \b
    Example:
      noria report save january.json --project delays
      noria report save january.json --report 0197f3c2a1 --message "February's numbers"
    """
    document = _document(file)
    if not report:
        made = api().post("/reports", {**document, "project": project})
    else:
        at = f"/reports/{quote(report)}"
        made = api().put(at, {**document, "message": message, "expect": api().get(at)["latest"]})
    click.echo(f"{made['title']} is at version {made['version']}: {made['id']}")


@group.command()
@click.argument("report")
@click.option("--public", is_flag=True, help="For whoever has the link, signed in or not; if the server allows it.")
@click.option("--days", type=float, default=30.0, show_default=True, help="How long it lasts.")
@click.option("--version", type=int, default=None, help="Which one it shows; the latest if not said.")
@click.option("--name", default="", help="What it is for.")
def share(report: str, public: bool, days: float, version: int | None, name: str) -> None:
    """Make a link that shows a version of a report, and print it; it is not shown again.

    \b
    Example:
      noria report share 0197f3c2a1 --days 7 --name "for the review"
    """
    wish = {"audience": "public" if public else "members", "days": days, "name": name, "version": version}
    click.echo(api().post(f"/reports/{quote(report)}/links", wish)["url"])


@group.command()
@click.argument("report")
@json_option
def links(report: str, as_json: bool) -> None:
    """List the links that lead to a report.

    \b
    Example:
      noria report links 0197f3c2a1
    """
    found = api().get(f"/reports/{quote(report)}/links")["items"]
    emit(found, as_json=as_json, columns=["id", "name", "audience", "version", "sharer", "expires_at_ms", "used_at_ms"])


@group.command()
@click.argument("report")
@click.argument("link")
def revoke(report: str, link: str) -> None:
    """End a link.

    \b
    Example:
      noria report revoke 0197f3c2a1 0197f3c2b7
    """
    api().delete(f"/reports/{quote(report)}/links/{quote(link)}")
    click.echo("The link leads nowhere any more.")


def _document(file: Path) -> dict[str, Any]:
    """A report as a file. Raises Invalid."""
    try:
        found = json.loads(file.read_text())
    except ValueError as cause:
        raise Invalid(f"{file} is not JSON: {cause}.", hint="noria report export writes such a file.") from cause
    if not isinstance(found, dict) or set(found) != {"title", "blocks"}:
        raise Invalid(f"{file} has no title and blocks.", hint="noria report export writes such a file.")
    return found
