"""`noria endpoint query`, `recording`, `log`: what an endpoint answered, and what of it is written."""

from __future__ import annotations

import csv
import json
import sys
import time
from typing import Any

import click

from noria.cli.base import api, emit, json_option
from noria.kernel.errors import Invalid

LOG = ["kind", "revision_id", "rows", "size_bytes", "from_at_ms", "to_at_ms", "digest"]
CELL_LENGTH_MAX = 60


@click.command()
@click.argument("name")
@click.argument("sql", required=False)
@click.option("--days", type=float, help="Only answers of the last days of event time, by this machine's clock.")
@click.option("--from-ms", type=int, help="Only answers with an event time from here on …")
@click.option("--to-ms", type=int, help="… and before this.")
@click.option("--limit", type=int, default=1000, show_default=True, help="Rows.")
@click.option("--columns", "show_columns", is_flag=True, help="List the columns there are.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@json_option
def query(
    name: str, sql: str | None, days: float | None, from_ms: int | None, to_ms: int | None, limit: int, show_columns: bool,
    as_csv: bool, as_json: bool,
) -> None:  # fmt: skip
    """Ask the predictions of an endpoint in SQL: one select over the table `predictions`. - reads it from standard input.

    \b
    Example:
      noria endpoint query flights "select model_version, count(*), avg(score) from predictions group by 1"
      noria endpoint query flights "select * from predictions where truth = '1' and score < 0.1" --csv > missed.csv
    """
    if not sql and not show_columns:
        raise click.UsageError("Give SQL, or --columns.")
    text = sys.stdin.read() if sql == "-" else str(sql)
    if show_columns:
        text = "select * from predictions limit 0"
    if days is not None:
        from_ms = int((time.time() - days * 86_400) * 1000)
    body = {"sql": text, "limit": limit, "from_ms": from_ms, "to_ms": to_ms}
    found = api().post(f"/endpoints/{name}/query", body, timeout_s=90.0)
    if show_columns:
        emit(found["columns"], as_json=as_json, columns=["name", "type"])
        return
    if as_json:
        emit(found, as_json=True)
    elif as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow([c["name"] for c in found["columns"]])
        writer.writerows([[_cell(v) for v in row] for row in found["rows"]])
    else:
        names = [c["name"] for c in found["columns"]]
        emit([dict(zip(names, [_short(v) for v in row], strict=True)) for row in found["rows"]], columns=names)
    if found["is_truncated"]:
        click.echo(f"Only the first {len(found['rows'])} rows; ask for more with --limit.", err=True)


def _cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | dict) else value


def _short(value: Any) -> Any:
    text = _cell(value)
    return text[: CELL_LENGTH_MAX - 1] + "…" if isinstance(text, str) and len(text) > CELL_LENGTH_MAX else text


@click.command()
@click.argument("name")
@click.option("--sample", type=float, help="The share of answers that is written, above 0 and at most 1.")
@click.option("--drop", multiple=True, help="An input that is not written.")
@click.option("--mask", multiple=True, help="An input of which is written only that it was there.")
@click.option("--hash", "hashes", multiple=True, help="An input of which a keyed hash is written.")
@click.option("--plain", multiple=True, help="An input that is written as it comes again.")
@click.option("--inputs", type=click.Choice(["all", "none"]), help="none: write outputs and times only.")
@click.option("--key", type=click.Choice(["keep", "hash"]), help="hash: entity keys of answers and of truth.")
@click.option("--keep-days", type=str, help="Delete what arrived longer ago; 'ever' keeps it.")
@click.option("--keep-rows", type=str, help="Delete all but the latest; 'all' keeps them.")
@click.option("--hold", help="Delete nothing now, and why; '' ends it.")
@json_option
def recording(
    name: str, sample: float | None, drop: tuple[str, ...], mask: tuple[str, ...], hashes: tuple[str, ...],
    plain: tuple[str, ...], inputs: str | None, key: str | None, keep_days: str | None, keep_rows: str | None, hold: str | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Show or change what of an endpoint's answers is written, and for how long. It holds for what is answered from now on.

    \b
    Example:
      noria endpoint recording flights
      noria endpoint recording flights --hash email --drop notes --key hash --keep-days 90
      noria endpoint recording flights --hold "case 4711"
    """
    found = api().get(f"/endpoints/{name}/recording")
    columns = {
        **found["columns"],
        **dict.fromkeys(drop, "drop"),
        **dict.fromkeys(mask, "mask"),
        **dict.fromkeys(hashes, "hash"),
    }
    changed = {
        **found, "columns": {k: v for k, v in columns.items() if k not in plain},
        **{k: v for k, v in (("sample", sample), ("inputs", inputs), ("key", key), ("hold", hold)) if v is not None},
    }  # fmt: skip
    if keep_days is not None:
        changed["keep_days"] = None if keep_days == "ever" else _number(keep_days, "--keep-days")
    if keep_rows is not None:
        changed["keep_rows"] = None if keep_rows == "all" else int(_number(keep_rows, "--keep-rows"))
    if changed != found:
        found = api().put(f"/endpoints/{name}/recording", changed)
    emit(found, as_json=as_json)


def _number(text: str, where: str) -> float:
    try:
        return float(text)
    except ValueError as cause:
        raise Invalid(f"{text!r} is no number.", where=where) from cause


@click.command()
@click.argument("name")
@json_option
def log(name: str, as_json: bool) -> None:
    """List the Parquet files of an endpoint's answers and truth.

    \b
    Example:
      noria endpoint log flights
    """
    found = list(api().items(f"/endpoints/{name}/log"))
    rows = [{**f, "from_at_ms": f["from_ms"], "to_at_ms": f["to_ms"], "digest": f["digest"][:12]} for f in found]
    emit(found if as_json else rows, as_json=as_json, columns=LOG)
