"""`noria data`: versions of data."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
import msgspec

from noria.cli.base import Group, api, emit, json_option, progress
from noria.client.datasets import Version, dataset, resolve
from noria.datasets.model import DatasetVersion
from noria.kernel.ids import parse_handle

VERSION_COLUMNS = ["number", "created_at_ms", "actor", "files", "size", "rows", "aliases", "message"]


@click.group(cls=Group)
def group() -> None:
    """Versions of data: commit, log, diff, checkout."""


@group.command()
@click.argument("name")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("-m", "--message", default="", help="What changed, for the log.")
@click.option("--alias", default="", help="Also point this alias at the version.")
@click.option("--parent", default="", help="Refuse unless this (an id or number) is still the latest version.")
@json_option
def commit(name: str, path: Path, message: str, alias: str, parent: str, as_json: bool) -> None:
    """Make a version of NAME from the file or folder PATH. Only what the server lacks is sent.

    \b
    Example:
      noria data commit flights data/ -m "January"
      noria data commit flights data.parquet -m "All labels" --alias train
    """
    data = dataset(name, api=api())
    start = data.version(parent) if parent else None
    with progress(f"Committing {name}") as say:
        made = data.commit(path, message=message, alias=alias, parent=start, progress=say)
    if as_json:
        emit({"version": _plain(made.info), "is_new": made.is_new, "warnings": made.warnings}, as_json=True)
        return
    for warning in made.warnings:
        click.secho(f"Warning: {warning}", fg="yellow", err=True)
    if made.is_new:
        click.echo(f"{made.handle}  {made.info.files_count:,} files, {size(made.info.size_bytes)}")
    else:
        click.echo(f"{made.handle} already has exactly this content; no new version was made.")


@group.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List datasets.

    \b
    Example:
      noria data list
    """
    found = list(api().items("/datasets"))
    if not as_json:
        for item in found:
            item["aliases"] = ", ".join(f"{a['name']}→{a['number']}" for a in item["aliases"])
            item["size"] = size(item["size_bytes"])
    emit(
        found,
        as_json=as_json,
        columns=["name", "latest", "versions_count", "files_count", "size", "aliases", "updated_at_ms"],
    )


@group.command()
@click.argument("name")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@json_option
def log(name: str, limit: int, as_json: bool) -> None:
    """The versions of NAME, newest first.

    \b
    Example:
      noria data log flights
    """
    found = api().get(f"/datasets/{quote(name, safe='')}/versions", limit=limit)["items"]
    emit(found if as_json else [_row(v) for v in found], as_json=as_json, columns=VERSION_COLUMNS)


@group.command()
@click.argument("handle")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many files to list.")
@json_option
def show(handle: str, limit: int, as_json: bool) -> None:
    """One version (NAME@SELECTOR) with its files.

    \b
    Example:
      noria data show flights@latest
      noria data show flights@3 --json
    """
    version = resolve(handle, api=api())
    files = api().get(_at(version) + "/files", limit=limit)["items"]
    if as_json:
        emit({"version": _plain(version.info), "files": files}, as_json=True)
        return
    row = _row(_plain(version.info))
    schema = ", ".join(f"{c.name} {c.type}" for c in version.info.schema or [])
    emit({"version": version.handle, "id": version.id, "root": version.info.root_digest, **row, "columns": schema or None})
    click.echo()
    emit([{**f, "size": size(f["size_bytes"])} for f in files], columns=["path", "size", "digest"])
    if version.info.files_count > len(files):
        click.echo(f"… and {version.info.files_count - len(files):,} more.")


@group.command()
@click.argument("name")
@click.argument("a")
@click.argument("b", default="latest")
@click.option("--rows", is_flag=True, help="Also compare the rows of tables that changed.")
@click.option("--key", default="", help="The column that names a row; several separated by commas.")
@click.option("--path", default="", help="Only this table.")
@click.option("--limit", type=click.IntRange(1, 200), default=20, show_default=True, help="Example rows of each kind.")
@json_option
def diff(name: str, a: str, b: str, rows: bool, key: str, path: str, limit: int, as_json: bool) -> None:
    """What changed in NAME from version A to version B: files, columns and, with --rows, rows.

    \b
    Example:
      noria data diff flights 1 2
      noria data diff flights train latest --rows --key key
    """
    params = {"a": a, "b": b, "rows": int(rows) or None, "key": key or None, "path": path or None, "limit": limit}
    found = api().get(f"/datasets/{quote(name, safe='')}/diff", **params)
    if as_json:
        emit(found, as_json=True)
        return
    click.echo(
        f"{name}@{found['a']['number']} → {name}@{found['b']['number']}: "
        f"{found['added_count']:,} files added, {found['removed_count']:,} removed, {found['changed_count']:,} changed"
    )
    for mark, kind in (("+", "added"), ("-", "removed"), ("~", "changed")):
        for change in found[kind][:50]:
            click.echo(f"{mark} {change['path']}  {_sizes(change)}")
        if found[f"{kind}_count"] > 50:
            click.echo(f"{mark} … and {found[f'{kind}_count'] - 50:,} more")
    for table in found["tables"]:
        click.echo()
        _show_table(table)


def _sizes(change: dict[str, Any]) -> str:
    return " → ".join(size(side["size_bytes"]) for side in (change["before"], change["after"]) if side)


def _show_table(table: dict[str, Any]) -> None:
    renamed = f" (was {table['path_before']})" if table["path_before"] != table["path"] else ""
    click.secho(f"{table['path']}{renamed}", bold=True)
    if table["state"] != "ready":
        click.echo(f"  {table['state']}: {table['reason'] or 'its profile is still being computed; ask again in a moment'}")
    else:
        click.echo(f"  {table['rows_before']:,} → {table['rows_after']:,} rows")
    schema = table["schema"]
    for column in schema["added"]:
        click.echo(f"  + column {column['name']} ({column['type']})")
    for column in schema["removed"]:
        click.echo(f"  - column {column['name']} ({column['type']})")
    for column in schema["retyped"]:
        click.echo(f"  ~ column {column['name']}: {column['before']} → {column['after']}")
    if table["columns"]:
        emit(
            [
                {
                    "column": c["name"], "psi": c["psi"], "nulls": _arrow(c["null_share_before"], c["null_share_after"]),
                    "mean": _arrow(c["mean_before"], c["mean_after"]),
                    "distinct": _arrow(c["distinct_before"], c["distinct_after"]),
                }
                for c in table["columns"]
            ]
        )  # fmt: skip
    if table["rows"]:
        _show_rows(table["rows"])


def _show_rows(rows: dict[str, Any]) -> None:
    click.echo(
        f"  rows: {rows['added_count']:,} added, {rows['removed_count']:,} removed, {rows['changed_count']:,} changed, "
        f"{rows['unchanged_count']:,} the same"
    )
    for mark, kind in (("+", "added"), ("-", "removed")):
        for row in rows[kind]:
            click.echo(f"  {mark} " + ", ".join(f"{k}={_value(v)}" for k, v in row.items()))
    for change in rows["changed"]:
        key = ", ".join(f"{k}={_value(v)}" for k, v in change["key"].items())
        moved = ", ".join(f"{k}: {_value(old)} → {_value(new)}" for k, (old, new) in change["changes"].items())
        click.echo(f"  ~ {key}  {moved}")


def _arrow(before: Any, after: Any) -> str:
    if before is None and after is None:
        return "–"
    return _value(before) if before == after else f"{_value(before)} → {_value(after)}"


def _value(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@group.command()
@click.argument("handle")
@json_option
def profile(handle: str, as_json: bool) -> None:
    """What is in the tables of NAME@SELECTOR: types, nulls, distinct values, ranges.

    \b
    Example:
      noria data profile flights@latest
    """
    found = api().get(_at(resolve(handle, api=api())) + "/profile")
    if as_json:
        emit(found, as_json=True)
        return
    for table in found["tables"]:
        rows = "" if table["rows_count"] is None else f"  {table['rows_count']:,} rows"
        click.secho(f"{table['path']}{rows}", bold=True)
        if table["state"] != "ready" or table["reason"]:
            click.echo(f"{table['state']}: {table['reason'] or 'being computed; ask again in a moment'}")
        if table["columns"]:
            emit(table["columns"], columns=["name", "type", "nulls", "distinct", "min", "max", "mean", "std"])
    if not found["tables"]:
        click.echo("No Parquet or CSV file in this version.")


@group.command()
@click.argument("handle")
@click.argument("dest", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Write into a folder that is not empty; files of the same path are replaced.")
def checkout(handle: str, dest: Path, force: bool) -> None:
    """Write the files of NAME@SELECTOR below DEST, each checked against its digest.

    \b
    Example:
      noria data checkout flights@3 ./flights-3
    """
    version = resolve(handle, api=api())
    with progress(f"Checking out {version.handle}") as say:
        version.checkout(dest, overwrite=force, progress=say)
    click.echo(f"{version.handle} is in {dest}: {version.info.files_count:,} files, {size(version.info.size_bytes)}.")


@group.command()
@click.argument("handle")
@click.argument("alias")
@click.option("--remove", is_flag=True, help="Remove the alias from the dataset instead.")
@click.option("--expect", type=int, help="Refuse unless the alias is at this generation (0: it must be new).")
def alias(handle: str, alias: str, remove: bool, expect: int | None) -> None:
    """Point ALIAS at NAME@SELECTOR.

    \b
    Example:
      noria data alias flights@3 train
      noria data alias flights train --remove
    """
    wanted = parse_handle(handle, kind="dataset")
    data = dataset(wanted.name, api=api())
    if remove:
        data.remove_alias(alias)
        click.echo(f"{wanted.name} has no alias {alias} any more.")
        return
    data.move_alias(alias, wanted.selector or "latest", expect=expect)
    click.echo(f"{alias} is {data.version(alias).handle} now.")


@group.command()
@click.argument("handle")
@json_option
def verify(handle: str, as_json: bool) -> None:
    """Read every byte of NAME@SELECTOR on the server again and compare it with its digest. Exit code 1 on damage.

    \b
    Example:
      noria data verify flights@latest
    """
    version = resolve(handle, api=api())
    files_count, size_bytes, damaged, after = 0, 0, list[dict[str, Any]](), ""
    with progress(f"Verifying {version.handle}") as say:
        while True:
            part = api().post(_at(version) + f"/verify?after={quote(after, safe='')}", timeout_s=600.0)
            files_count, size_bytes = files_count + part["files_count"], size_bytes + part["size_bytes"]
            damaged += part["damaged"]
            say(f"{files_count:,} files, {size(size_bytes)}")
            after = part.get("next") or ""
            if not after:
                break
    if as_json:
        emit({"files_count": files_count, "size_bytes": size_bytes, "damaged": damaged}, as_json=True)
    else:
        for item in damaged:
            click.secho(f"{item['path']}: {item['problem']}", fg="red")
        click.echo(f"{version.handle}: {files_count:,} files, {size(size_bytes)} read, {len(damaged)} damaged.")
    if damaged:
        raise SystemExit(1)


@group.command()
@click.argument("handle")
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete(handle: str, yes: bool) -> None:
    """Take NAME@SELECTOR out of the history. Refused while an alias, a run or a model needs it.

    \b
    Example:
      noria data delete flights@2 --yes
    """
    version = resolve(handle, api=api())
    if not yes:
        click.confirm(f"Delete {version.handle} ({version.info.message or 'no message'})?", abort=True)
    api().delete(_at(version))
    click.echo(f"{version.handle} is deleted. Its number is not used again.")


def size(count: int) -> str:
    """Bytes as people read them: 1.4 MiB."""
    value, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"


def _at(version: Version) -> str:
    return f"/datasets/{quote(version.info.dataset, safe='')}/versions/{version.id}"


def _plain(info: DatasetVersion) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(info)
    return found


def _row(version: dict[str, Any]) -> dict[str, Any]:
    return {
        "number": version["number"], "created_at_ms": version["created_at_ms"], "actor": version["actor"],
        "files": version["files_count"], "size": size(version["size_bytes"]), "rows": version["rows_count"],
        "aliases": ", ".join(version["aliases"]), "message": version["message"],
    }  # fmt: skip
