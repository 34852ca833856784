"""`noria compliance`: what checks found of systems, and waivers."""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.parse import quote

import click
import yaml

from noria.cli.base import Group, api, emit, json_option
from noria.kernel.errors import Invalid

GLYPHS = {
    "pass": "✓ pass",
    "fail": "✕ fail",
    "unmeasurable": "? cannot be told",
    "not_applicable": "– not for it",
    "waived": "~ waived",
}


@click.group(cls=Group)
def group() -> None:
    """Compliance: what is on record of each system, and what is missing."""


@group.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List systems with how many checks are in which state.

    \b
    Example:
      noria compliance list
    """
    found = api().get("/compliance")
    if as_json:
        emit(found, as_json=True)
        return
    states = ("pass", "fail", "unmeasurable", "waived", "not_applicable")
    rows = [
        {"system": r["name"], "risk": r["system"]["spec"]["risk"] if r["system"] else "–", **{s: r["counts"].get(s, 0) for s in states},
         "looked_at_ms": r["at_ms"]}
        for r in found["rows"]
    ]  # fmt: skip
    emit(rows)


@group.command()
@click.option("--framework", help="Only those that are mapped to it, such as eu-ai-act.")
@json_option
def checks(framework: str | None, as_json: bool) -> None:
    """List every check: what it asks, when it passes, what it is mapped to.

    \b
    Example:
      noria compliance checks --framework gdpr
    """
    found = api().get("/compliance/checks")
    known = [f["id"] for f in found["frameworks"]]
    if framework is not None and framework not in known:
        raise Invalid(f"There is no framework {framework!r}.", where="framework", hint=f"One of {', '.join(known)}.")
    rows = [c for c in found["checks"] if framework is None or framework in c["maps"]]
    if as_json:
        emit({**found, "checks": rows}, as_json=True)
        return
    emit(
        [
            {
                "check": c["id"],
                "title": c["title"],
                "passes": c["passes"],
                "maps": "; ".join(f"{k}: {v}" for k, v in c["maps"].items()),
            }
            for c in rows
        ]
    )
    click.echo(f"Catalogue {found['version']} of {found['date']}. A check says that evidence is there, not that you comply.")


@group.command()
@click.argument("system")
@click.option("--check", "only", help="Only this check, with its evidence.")
@click.option("--now", is_flag=True, help="Measure first.")
@json_option
def show(system: str, only: str | None, now: bool, as_json: bool) -> None:
    """Show what was found of a system; `installation` for what concerns all of it.

    Exits with 1 when a check fails, so that a pipeline can ask.

    \b
    Example:
      noria compliance show flight-delays
      noria compliance show flight-delays --check PRV-2 --now
      noria compliance show installation
    """
    address = f"/compliance/{quote(system)}"
    found = api().post(f"{address}/evaluate", {}) if now else api().get(address)
    findings = [f for f in found["findings"] if only is None or f["check"] == only.upper()]
    if only is not None and not findings:
        raise Invalid(f"{only} was not measured of {system}.", where="check", hint="noria compliance checks")
    if as_json:
        emit({**found, "findings": findings}, as_json=True)
    elif not findings:
        click.echo(f"Nothing was measured of {system} yet: noria compliance show {system} --now")
    else:
        emit(
            [
                {"check": f["check"], "state": GLYPHS[f["state"]], "why": f["reason"], "since_ms": f["since_ms"]}
                for f in findings
            ]
        )
        for item in findings[0]["items"] if only is not None else []:
            click.echo(f"  {'✓' if item['ok'] else '?' if item['ok'] is None else '✕'} {item['says']}  [{item['subject']}]")
        if only is not None:
            click.echo(f"  inputs {findings[0]['inputs_digest']}")
    sys.exit(1 if any(f["state"] == "fail" for f in findings) else 0)


@group.command()
@click.argument("system")
@click.argument("check")
@click.option("--reason", required=True, help="Why, and where that was decided.")
@click.option("--days", default=30, show_default=True, help="For how long.")
@json_option
def waive(system: str, check: str, reason: str, days: int, as_json: bool) -> None:
    """Let a system miss a check, until a time. Your name and the reason stay on record.

    \b
    Example:
      noria compliance waive flight-delays VAL-4 --reason "report is due in May, RISK-17" --days 60
    """
    made = api().post(f"/compliance/{quote(system)}/waivers", {"check": check.upper(), "reason": reason, "days": days})
    emit(made, as_json=as_json)


@group.command()
@click.argument("system")
@json_option
def waivers(system: str, as_json: bool) -> None:
    """List the waivers a system has and had.

    \b
    Example:
      noria compliance waivers flight-delays
    """
    found = api().get(f"/compliance/{quote(system)}/waivers")["items"]
    emit(found, as_json=as_json, columns=["id", "check", "reason", "actor", "expires_at_ms", "revoked_at_ms"])


@group.command()
@click.argument("waiver")
def revoke(waiver: str) -> None:
    """End a waiver.

    \b
    Example:
      noria compliance revoke 0197c0de0f0a7f3e9c1d2b4a5e6f7a8b
    """
    found = api().delete(f"/waivers/{quote(waiver)}")
    click.echo(f"The waiver of {found['check']} of {found['system']} no longer counts.")


@group.command()
@click.argument("dataset")
@click.option(
    "--file", "-f", "file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Write it anew from YAML."
)
@json_option
def sheet(dataset: str, file: Path | None, as_json: bool) -> None:
    """Show or write the data sheet of a dataset: licence, source, time of collection, personal columns, retention.

    \b
    Example:
      noria compliance sheet flights
      noria compliance sheet flights -f sheet.yaml
    """
    address = f"/data-sheets/{quote(dataset)}"
    if file is not None:
        read = yaml.safe_load(file.read_text())
        if not isinstance(read, dict):
            raise Invalid(f"{file} holds no data sheet.", where="file")
        found = api().put(address, {k: str(v) if k.startswith("collected") else v for k, v in read.items()})
    else:
        found = api().get(address)
    if as_json:
        emit(found, as_json=True)
    else:
        emit({**found["spec"], "edit": found["edit"], "missing": ", ".join(found["missing"]) or "nothing"})


@group.command()
@click.argument("subject", required=False)
@click.option("--reason", help="Why it must not be removed.")
@json_option
def hold(subject: str | None, reason: str | None, as_json: bool) -> None:
    """Forbid the removal of a model, version, dataset version, run or what an endpoint recorded; without a subject, list what is held.

    \b
    Example:
      noria compliance hold
      noria compliance hold model_version:0197c0de0f0a7f3e9c1d2b4a5e6f7a8b --reason "case 2026-17, legal department"
    """
    if subject is None:
        found = api().get("/legal-holds")["items"]
        emit(found, as_json=as_json, columns=["id", "subject", "reason", "actor", "created_at_ms", "released_at_ms"])
    else:
        emit(api().post("/legal-holds", {"subject": subject, "reason": reason or ""}), as_json=as_json)


@group.command()
@click.argument("hold_id")
@click.option("--reason", required=True, help="Why it may be removed again.")
def release(hold_id: str, reason: str) -> None:
    """Release a legal hold.

    \b
    Example:
      noria compliance release 0197c0de0f0a7f3e9c1d2b4a5e6f7a8b --reason "case 2026-17 was closed"
    """
    found = api().post(f"/legal-holds/{quote(hold_id)}/release", {"reason": reason})
    click.echo(f"{found['subject']} is no longer held.")


@group.command()
@click.option("--evidence-days", type=int, help="Keep evidence for so many days after it was last in production.")
@click.option("--reason", default="", help="Why.")
@json_option
def retention(evidence_days: int | None, reason: str, as_json: bool) -> None:
    """Show or set for how long evidence of systems of high risk is kept.

    \b
    Example:
      noria compliance retention
      noria compliance retention --evidence-days 3650 --reason "Article 18, decided in RISK-3"
    """
    if evidence_days is None:
        emit(api().get("/retention"), as_json=as_json)
    else:
        emit(api().put("/retention", {"evidence_days": evidence_days, "reason": reason}), as_json=as_json)


@group.group()
def erasure() -> None:
    """Requests for erasure: note, carry out, close."""


@erasure.command("list")
@json_option
def list_erasures(as_json: bool) -> None:
    """List requests, those that are due first, first.

    \b
    Example:
      noria compliance erasure list
    """
    found = api().get("/erasures")["items"]
    emit(found, as_json=as_json, columns=["id", "reference", "state", "due_at_ms", "datasets", "note"])


@erasure.command()
@click.argument("reference")
@click.option("--column", required=True, help="The column that names the person.")
@click.option("--dataset", "datasets", multiple=True, required=True, help="Where to look; may be given several times.")
@click.option("--value", prompt=True, hide_input=True, help="The person's value; asked for, so that no shell keeps it.")
@json_option
def request(reference: str, column: str, datasets: tuple[str, ...], value: str, as_json: bool) -> None:
    """Note a request. The value is not kept; the reference is, so let it be a number.

    \b
    Example:
      noria compliance erasure request DSR-2026-17 --column customer --dataset orders
    """
    found = api().post("/erasures", {"reference": reference, "column": column, "value": value, "datasets": list(datasets)})
    emit(found, as_json=as_json, columns=() if as_json else ["id", "reference", "due_at_ms", "datasets"])


@erasure.command("run")
@click.argument("erasure_id")
@click.argument("dataset")
@click.option("--value", prompt=True, hide_input=True, help="The person's value, once more.")
@json_option
def run_erasure(erasure_id: str, dataset: str, value: str, as_json: bool) -> None:
    """Carry a request out in one dataset, and say what came of it.

    \b
    Example:
      noria compliance erasure run 0197c0de0f0a7f3e9c1d2b4a5e6f7a8b orders
    """
    found = api().post(f"/erasures/{quote(erasure_id)}/datasets/{quote(dataset)}", {"value": value})
    if as_json:
        emit(found, as_json=True)
        return
    done = next(o for o in found["outcome"] if o["dataset"] == dataset)
    click.echo(
        f"{done['rows']} rows in {dataset}; versions deleted: {done['deleted'] or 'none'}, made anew: {done['made'] or 'none'}."
    )
    for version in done["kept"]:
        click.echo(f"  {dataset}@{version['number']} still holds rows: {version['why']}")
    for ref in done["affected"]:
        click.echo(f"  rests on versions that held rows: {ref}")


@erasure.command("close")
@click.argument("erasure_id")
@click.option("--note", required=True, help="What was done, or why it is refused.")
def close_erasure(erasure_id: str, note: str) -> None:
    """Say that a request is done with.

    \b
    Example:
      noria compliance erasure close 0197c0de0f0a7f3e9c1d2b4a5e6f7a8b --note "erased everywhere, told the customer"
    """
    found = api().post(f"/erasures/{quote(erasure_id)}/close", {"note": note})
    click.echo(f"{found['reference']} is closed.")
