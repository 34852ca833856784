"""`noria model`: versions, aliases, the production timeline, passports."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import click

from noria.cli import model_supply
from noria.cli.base import api, emit, json_option
from noria.cli.model_group import group, path_of, version_handle
from noria.cli.model_register import register
from noria.kernel.errors import Invalid
from noria.kernel.ids import parse_handle

group.add_command(register)


@group.command("list")
@click.option("--filter", "filter_", default="", help="Conditions, as in: name like 'fl%' and tags.team = 'ops'.")
@json_option
def list_(filter_: str, as_json: bool) -> None:
    """List models.

    \b
    Example:
      noria model list
    """
    found = list(api().items("/models", filter=filter_))
    if as_json:
        emit(found, as_json=True)
        return
    rows = [
        {
            "name": m["name"],
            "versions": m["versions_count"],
            "aliases": ", ".join(f"{a['name']} → {a['version']}" for a in m["aliases"]),
            "updated_at_ms": m["updated_at_ms"],
        }
        for m in found
    ]
    emit(rows, columns=["name", "versions", "aliases", "updated_at_ms"])


@group.command()
@click.argument("name")
@json_option
def versions(name: str, as_json: bool) -> None:
    """List the versions of a model, newest first.

    \b
    Example:
      noria model versions flights
    """
    found = list(api().items(f"/models/{quote(name)}/versions"))
    if as_json:
        emit(found, as_json=True)
        return
    rows = [
        {
            "version": v["number"],
            "aliases": ", ".join(v.get("aliases", [])),
            "evaluations": "; ".join(_evaluation(e) for e in v.get("evaluations", [])[:2]),
            "run": v["run_id"],
            "created_at_ms": v["created_at_ms"],
            "by": v["actor"],
        }
        for v in found
    ]
    emit(rows, columns=["version", "aliases", "evaluations", "run", "created_at_ms", "by"])


@group.command()
@click.argument("handle")
@json_option
def show(handle: str, as_json: bool) -> None:
    """Show a model, or one version of it.

    \b
    Example:
      noria model show flights
      noria model show flights@champion
    """
    parsed = parse_handle(handle, kind="model")
    if not parsed.selector:
        page = api().get(f"/models/{quote(parsed.name)}")
        if as_json:
            emit(page, as_json=True)
            return
        model = page["model"]
        aliases = ", ".join(f"{a['name']} → {a['version']}" for a in model["aliases"]) or "none"
        click.echo(f"{model['name']} has {model['versions_count']} versions. Aliases: {aliases}.")
        if model["description"]:
            click.echo(model["description"])
        return
    page = api().get(f"{path_of(parsed)}")
    if as_json:
        emit(page, as_json=True)
        return
    version = page["version"]
    click.secho(f"{version['model']}@{version['number']}", bold=True)
    for line in _version_sentences(version):
        click.echo(line)
    for edge in page["edges"]:
        click.echo(f"  {edge['kind'] if edge['is_outgoing'] else edge['kind'] + ' by'} {edge['ref']}")


@group.command()
@click.argument("handle")
@click.argument("alias")
@click.option(
    "--expect", type=int, help="The generation you last saw; refused if the alias moved since. 0: it names nothing."
)
@json_option
def promote(handle: str, alias: str, expect: int | None, as_json: bool) -> None:
    """Point an alias at a version. Policy may object, and says why.

    \b
    Example:
      noria model promote flights@8 champion
    """
    parsed = version_handle(handle)
    number = api().get(path_of(parsed))["version"]["number"]
    body = {"version": number, "expect": expect}
    moved = api().put(f"/models/{quote(parsed.name)}/aliases/{quote(alias)}", body)
    if as_json:
        emit(moved, as_json=True)
    else:
        click.echo(f"{alias} of {parsed.name} is now version {moved['version']} (generation {moved['generation']}).")


@group.command()
@click.argument("name")
@click.option("--at", "at", default="", help="What each alias named then: 2026-06-01, or 2026-06-01T12:00 (UTC).")
@json_option
def timeline(name: str, at: str, as_json: bool) -> None:
    """Which version was behind each alias, and since when.

    \b
    Example:
      noria model timeline flights
      noria model timeline flights --at 2026-06-01
    """
    params = {"at_ms": _time(at)} if at else {}
    found = api().get(f"/models/{quote(name)}/timeline", **params)["items"]
    columns = ["alias", "version", "was", "at_ms", "until_ms", "actor"]
    emit(found, as_json=as_json, columns=columns)


@group.command()
@click.argument("prediction_id")
@json_option
def passport(prediction_id: str, as_json: bool) -> None:
    """Everything behind one answer: input, model, data, code, environment, who approved. Also takes a version.

    \b
    Example:
      noria model passport 0197c0de4a6f7b3e9d1f2a3b4c5d6e7f
      noria model passport flights@champion
    """
    if "@" in prediction_id:
        found = api().get(f"{path_of(version_handle(prediction_id))}/passport")["passport"]
    else:
        found = api().get(f"/passports/{quote(prediction_id)}")
    if as_json:
        emit(found, as_json=True)
        return
    for line in sentences(found):
        click.echo(line)


@group.command()
@click.argument("handle")
@click.option("--section", default="", help="Write this section: intended_use, out_of_scope, limitations, …")
@click.option("--file", "file", type=click.File("r"), help="The new text of --section, as Markdown; - reads standard input.")
@click.option("--html", "as_html", is_flag=True, help="Print HTML.")
@json_option
def card(handle: str, section: str, file: Any, as_html: bool, as_json: bool) -> None:
    """Show the card of a version, filled from what was recorded; or write one of its sections.

    \b
    Example:
      noria model card flights@champion
      noria model card flights@champion --section limitations --file limitations.md
    """
    path = f"{path_of(version_handle(handle))}/card"
    if bool(section) != bool(file):
        raise Invalid("--section and --file belong together.", where="section" if file else "file")
    if section:
        made = api().put(f"{path}/{quote(section, safe='')}", {"content": file.read()})
        if as_json:
            emit(made, as_json=True)
            return
        missing = ", ".join(name.replace("_", " ") for name in made["completeness"]["missing"]) or "nothing"
        click.echo(f"Written. The card is {made['completeness']['score']:.0%} complete; missing: {missing}.")
        return
    if as_json:
        emit(api().get(path), as_json=True)
        return
    click.echo(b"".join(api().get_bytes(path, form="page" if as_html else "md")).decode(), nl=False)


@group.command()
@click.argument("handle")
@json_option
def lineage(handle: str, as_json: bool) -> None:
    """Where a version comes from and what relies on it: run, code, data, environment; aliases and other versions.

    \b
    Example:
      noria model lineage flights@champion
    """
    path = path_of(version_handle(handle))
    passport, edges = api().get(f"{path}/passport")["passport"], api().get(path)["edges"]
    found = {
        **{name: passport[name] for name in ("ref", "run", "code", "datasets", "environment")},
        "relations": [{"kind": e["kind"], "ref": e["ref"], "is_outgoing": e["is_outgoing"]} for e in edges],
    }
    if as_json:
        emit(found, as_json=True)
        return
    relations = found.pop("relations")
    for line in sentences(found):
        click.echo(line)
    for edge in relations:
        click.echo(f"  {edge['kind'] if edge['is_outgoing'] else edge['kind'] + ' by'} {edge['ref']}")


def sentences(value: Any, name: str = "", indent: int = 0) -> list[str]:
    """Any document as readable lines: every field is said, and what is not known is said to be so."""
    pad = "  " * indent
    label = name.replace("_", " ").removesuffix(" at ms").strip()
    if isinstance(value, dict):
        head = [f"{pad}{label.capitalize()}:"] if label else []
        if not value:
            return [f"{pad}{label.capitalize()}: none."] if label else []
        inner = [line for key, item in value.items() for line in sentences(item, str(key), indent + bool(label))]
        return head + inner
    if isinstance(value, list):
        if not value:
            return [f"{pad}{label.capitalize()}: none."]
        if not any(isinstance(item, dict | list) for item in value):
            return [f"{pad}{label.capitalize()}: {', '.join(_plain(name, item) for item in value)}."]
        lines = [f"{pad}{label.capitalize()}:"]
        for number, item in enumerate(value, 1):
            lines += [f"{pad}  {number}."] if isinstance(item, dict | list) else []
            lines += sentences(item, "" if isinstance(item, dict | list) else str(number), indent + 2)
        return lines
    return [f"{pad}{label.capitalize()}: {_plain(name, value)}."]


def _plain(name: str, value: Any) -> str:
    if value is None:
        return "not known"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name.endswith("at_ms") and isinstance(value, int):
        return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(value / 1000)) + " UTC"
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value) if value != "" else "nothing"


def _version_sentences(version: dict[str, Any]) -> list[str]:
    created = _plain("created_at_ms", version["created_at_ms"])
    lines = [f"Created {created} by {version['actor']}" + (f" from run {version['run_id']}." if version["run_id"] else ".")]
    lines.append(f"Content {version['digest'][:16]}…, {version['files_count']} files, {version['size_bytes']} bytes.")
    flavors = ", ".join(version["flavors"]) or "no MLflow flavour"
    signature = "with a signature" if version.get("signature") else "without a signature"
    lines.append(f"Loads as {flavors}, {signature}.")
    if version.get("aliases"):
        lines.append(f"It is {', '.join(version['aliases'])}.")
    if version["description"]:
        lines.append(version["description"])
    lines += [f"Evaluated: {_evaluation(e)}." for e in version.get("evaluations", [])]
    return lines


def _evaluation(evaluation: dict[str, Any]) -> str:
    metrics = ", ".join(f"{k} {v:.4g}" for k, v in sorted(evaluation["metrics"].items()))
    return f"{metrics} on {evaluation['split']} of {evaluation['dataset_version'][:12]}"


def _time(text: str) -> int:
    try:
        at = datetime.fromisoformat(text)
    except ValueError as cause:
        raise Invalid(f"{text!r} is not a time.", where="at", hint="Write 2026-06-01 or 2026-06-01T12:00.") from cause
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)


__all__ = ["group", "model_supply"]  # the commands of the other file come with it
