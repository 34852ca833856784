"""`noria data subject`: where a person's rows are, and taking them out."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import click

from noria.cli.base import api, emit, json_option, progress
from noria.cli.data_group import group

ERASE_S = 6 * 3600.0


@group.command()
@click.argument("column")
@click.argument("value")
@click.option(
    "--dataset", "names", multiple=True, help="Only this dataset; several are possible. All that you may read otherwise."
)
@click.option("--erase", is_flag=True, help="Take the rows out: new heads without them, and older versions deleted.")
@click.option("--yes", is_flag=True, help="Do not ask before erasing.")
@json_option
def subject(column: str, value: str, names: tuple[str, ...], erase: bool, yes: bool, as_json: bool) -> None:
    """Which versions hold rows whose COLUMN is VALUE, and which runs, models and endpoints rest on those.

    With --erase the heads of all branches are made anew without the rows, and versions that have them are deleted, except those
    that a name or a model needs: they are listed. Bytes are freed by noria data gc. Exit code 1 when rows are left.

    \b
    Example:
      noria data subject customer_id 4711
      noria data subject customer_id 4711 --dataset orders --erase
    """
    names = names or tuple(d["name"] for d in api().items("/datasets", limit=1000))
    found = [_find(name, column, value) for name in names]
    hits = [f for f in found if f["versions"]]
    if not erase:
        _tell(found, hits, as_json)
        return
    if hits and not yes:
        click.confirm(f"Erase these rows from {', '.join(f['dataset'] for f in hits)}? This cannot be undone", abort=True)
    done = []
    for hit in hits:
        with progress(f"Erasing from {hit['dataset']}"):
            at = f"/datasets/{quote(hit['dataset'], safe='')}/subject/erase"
            answer = api().post(at, {"column": column, "value": value}, timeout_s=ERASE_S)
        done.append({"dataset": hit["dataset"], **answer, "dependents": hit["dependents"], "unread": hit["unread"]})
    if as_json:
        emit(done, as_json=True)
    else:
        for each in done:
            _told_erased(each)
        if not done:
            click.echo("There are no such rows.")
    if any(each["kept"] for each in done):
        raise SystemExit(1)


def _find(name: str, column: str, value: str) -> dict[str, Any]:
    whole: dict[str, Any] = {"dataset": name, "versions": [], "dependents": [], "unread": []}
    after = 0
    with progress(f"Reading {name}") as say:
        while True:
            part = api().post(
                f"/datasets/{quote(name, safe='')}/subject",
                {"column": column, "value": value, "after": after},
                timeout_s=ERASE_S,
            )
            for key in ("versions", "unread"):
                whole[key] += part[key]
            whole["dependents"] = sorted({*whole["dependents"], *part["dependents"]})
            after = part["next"]
            if not after:
                return whole
            say(f"up to version {after}")


def _tell(found: list[dict[str, Any]], hits: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        emit(found, as_json=True)
        return
    rows = [{"dataset": f["dataset"], **v} for f in hits for v in f["versions"]]
    if rows:
        emit(rows, columns=["dataset", "number", "path", "rows"])
        for ref in sorted({ref for f in hits for ref in f["dependents"]}):
            click.echo(f"rests on them: {ref}")
    else:
        click.echo("There are no such rows.")
    for text in (t for f in found for t in f["unread"]):
        click.secho(f"not looked into: {text}", fg="yellow", err=True)


def _told_erased(each: dict[str, Any]) -> None:
    name = each["dataset"]
    made, deleted = (", ".join(f"{name}@{n}" for n in each[key]) or "none" for key in ("made", "deleted"))
    click.echo(f"{name}: {each['rows']:,} rows; made {made}; deleted {deleted}.")
    for kept in each["kept"]:
        click.secho(f"still has them: {name}@{kept['number']} ({kept['why']})", fg="yellow")
    for ref in each["dependents"]:
        click.echo(f"rested on them: {ref}")
