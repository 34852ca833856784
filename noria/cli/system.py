"""`noria system`: the inventory of AI systems, their technical files and the documents that are evidence."""

from __future__ import annotations

import hashlib
import sys
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import click
import yaml

from noria.cli.base import Group, api, emit, json_option
from noria.compliance.model import ReportKind
from noria.kernel.errors import Invalid

KINDS = ReportKind.__args__  # type: ignore[attr-defined]


@click.group(cls=Group)
def group() -> None:
    """AI systems: register, describe, technical file, evidence."""


@group.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List registered systems.

    \b
    Example:
      noria system list
    """
    found = api().get("/systems")["items"]
    rows = [
        {"name": s["name"], **{k: s["spec"][k] for k in ("owner", "risk", "personal_data", "sector")},
         "members": ", ".join(s["spec"]["members"]), "state": "retired" if s["is_retired"] else "in use",
         "updated_at_ms": s["updated_at_ms"]}
        for s in found
    ]  # fmt: skip
    emit(found if as_json else rows, as_json=as_json)


@group.command()
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Show what is said of a system.

    \b
    Example:
      noria system show flight-delays
    """
    found = api().get(f"/systems/{quote(name)}")
    emit(found if as_json else {**found["spec"], "edit": found["edit"], "actor": found["actor"]}, as_json=as_json)


@group.command("set")
@click.argument("name")
@click.option("--title", help="What it is called.")
@click.option("--owner", help="The account that answers for it.")
@click.option("--purpose", help="What it is for.")
@click.option("--users", help="Who uses it, and on whom.")
@click.option(
    "--risk", type=click.Choice(["unclassified", "minimal", "limited", "high", "prohibited"]), help="Its class of risk."
)
@click.option("--risk-reason", help="Why this class.")
@click.option("--personal-data", type=click.Choice(["unknown", "no", "yes"]), help="Does it process personal data?")
@click.option("--health-data", type=click.Choice(["unknown", "no", "yes"]), help="Does it process health data?")
@click.option("--sector", help="Such as finance, health, employment.")
@click.option("--member", "members", multiple=True, help="model:name or endpoint:name; replaces the members there are.")
@click.option(
    "--file", "-f", "file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="All of it, as YAML."
)
@json_option
def set_(name: str, members: tuple[str, ...], file: Path | None, as_json: bool, **said: str | None) -> None:
    """Register a system, or change what is said of it. What is not given stays as it is.

    \b
    Example:
      noria system set flight-delays --owner ada --purpose "tells passengers of delays" --risk limited --member model:flights
      noria system set flight-delays -f system.yaml
    """
    from noria.kernel.errors import NotFound

    spec: dict[str, object] = {}
    if file is not None:
        read = yaml.safe_load(file.read_text())
        if not isinstance(read, dict):
            raise Invalid(f"{file} holds no description of a system.", where="file")
        spec = {k: v for k, v in read.items() if k not in ("kind", "name")}
    else:
        try:
            spec = dict(api().get(f"/systems/{quote(name)}")["spec"])
        except NotFound:
            spec = {}
    spec |= {k: v for k, v in said.items() if v is not None}
    if members:
        spec["members"] = list(members)
    found = api().put(f"/systems/{quote(name)}", spec)
    if as_json:
        emit(found, as_json=True)
    else:
        click.echo(f"{name} is registered (edit {found['edit']}). What is missing: noria compliance show {name}")


@group.command()
@click.argument("name")
@click.option("--reason", required=True, help="Why it is no longer used.")
def retire(name: str, reason: str) -> None:
    """Say that a system is no longer used. What is on record of it stays.

    \b
    Example:
      noria system retire flight-delays --reason "replaced by flight-times on 1 March"
    """
    api().post(f"/systems/{quote(name)}/retire", {"reason": reason})
    click.echo(f"{name} is retired.")


@group.command("file")
@click.argument("name")
@click.option(
    "--form", type=click.Choice(["md", "html", "page", "json"]), default="md", show_default=True, help="How it is written."
)
@click.option("--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="Write it here.")
@click.option("--write", type=int, help="Write this section (1 to 9) anew, from standard input.")
def file_(name: str, form: str, output: Path | None, write: int | None) -> None:
    """Print the technical file after Annex IV, or write one of its sections.

    \b
    Example:
      noria system file flight-delays
      noria system file flight-delays --form page -o technical-file.html
      noria system file flight-delays --write 5 < risks.md
    """
    if write is not None:
        made = api().put(f"/systems/{quote(name)}/technical-file/{write}", {"content": sys.stdin.read()})
        click.echo(f"Section {write}, {made['title']}, is written (edit {made['edit']}).")
        return
    content = b"".join(api().get_bytes(f"/systems/{quote(name)}/technical-file", form=form))
    if output is not None:
        output.write_bytes(content)
        click.echo(f"Written to {output}.")
    else:
        click.echo(content.decode())


@group.command()
@click.argument("name")
@click.option("--kind", type=click.Choice(KINDS), help="What it reports on; without it, the reports there are are listed.")
@click.option("--title", help="What it is called.")
@click.option("--uri", help="Where it is.")
@click.option("--date", "day", help="When it was made, YYYY-MM-DD; today when not said.")
@click.option(
    "--file",
    "document",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The document, to keep its SHA-256.",
)
@click.option("--number", "numbers", multiple=True, help="What is counted of it, such as critical=0.")
@json_option
def report(
    name: str, kind: str | None, title: str | None, uri: str | None, day: str | None, document: Path | None,
    numbers: tuple[str, ...], as_json: bool,
) -> None:  # fmt: skip
    """Attach a document from elsewhere as evidence, or list what is attached.

    \b
    Example:
      noria system report flight-delays
      noria system report flight-delays --kind robustness --title "Attack report" --uri https://docs.example.com/7 --date 2026-03-01
      noria system report flight-delays --kind vulnerabilities --title pip-audit --uri ci:42 --number critical=0
    """
    if kind is None:
        found = api().get(f"/systems/{quote(name)}/reports")["items"]
        emit(found, as_json=as_json, columns=["kind", "title", "dated_at_ms", "uri", "digest", "actor"])
        return
    try:
        when = int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() * 1000) if day else None
        counted = {k: float(v) for k, _, v in (n.partition("=") for n in numbers)}
    except ValueError as cause:
        raise Invalid("A date is YYYY-MM-DD, and a number is name=1.", where="date") from cause
    made = api().post(f"/systems/{quote(name)}/reports", {
        "kind": kind, "title": title or "", "uri": uri or "", "dated_at_ms": when, "numbers": counted,
        "digest": hashlib.sha256(document.read_bytes()).hexdigest() if document else "",
    })  # fmt: skip
    if as_json:
        emit(made, as_json=True)
    else:
        click.echo(f"{made['title']} is attached to {name}.")


@group.group()
def incident() -> None:
    """Serious incidents, with the time until which they have to be reported."""


@incident.command("list")
@click.argument("name")
@json_option
def list_incidents(name: str, as_json: bool) -> None:
    """List the incidents of a system.

    \b
    Example:
      noria system incident list flight-delays
    """
    found = api().get(f"/systems/{quote(name)}/incidents")["items"]
    columns = ["id", "severity", "title", "aware_at_ms", "due_at_ms", "reported_at_ms", "closed_at_ms"]
    emit(found, as_json=as_json, columns=columns)


@incident.command("open")
@click.argument("name")
@click.argument("title")
@click.option("--severity", type=click.Choice(["serious", "widespread", "death", "other"]), default="serious", show_default=True,
              help="Decides the deadline: 15, 2 or 10 days.")  # fmt: skip
@click.option("--description", default="", help="What happened.")
@json_option
def open_incident(name: str, title: str, severity: str, description: str, as_json: bool) -> None:
    """Note an incident.

    \b
    Example:
      noria system incident open flight-delays "told passengers of the wrong day" --severity serious
    """
    body = {"title": title, "severity": severity, "description": description}
    emit(api().post(f"/systems/{quote(name)}/incidents", body), as_json=as_json)


@incident.command("report")
@click.argument("incident_id")
@click.option("--to", required=True, help="The authority that was told.")
def report_incident(incident_id: str, to: str) -> None:
    """Say that an authority was told.

    \b
    Example:
      noria system incident report 0197c0de0f0a7f3e9c1d2b4a5e6f7a8b --to "market surveillance authority, file 12"
    """
    api().post(f"/incidents/{quote(incident_id)}/report", {"to": to})
    click.echo("It is on record as reported.")


@incident.command("close")
@click.argument("incident_id")
@click.option("--resolution", required=True, help="What was done about it.")
def close_incident(incident_id: str, resolution: str) -> None:
    """Say what was done about an incident.

    \b
    Example:
      noria system incident close 0197c0de0f0a7f3e9c1d2b4a5e6f7a8b --resolution "the feed of dates is checked, see INC-42"
    """
    api().post(f"/incidents/{quote(incident_id)}/close", {"resolution": resolution})
    click.echo("It is closed.")
