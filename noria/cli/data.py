"""`noria data`: versions of data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from noria.cli import data_branches, data_croissant, data_expectations, data_stores, data_subjects
from noria.cli.base import api, emit, json_option, progress
from noria.cli.data_group import group, open_dataset, plain, resolve, size
from noria.client.datasets import Version
from noria.client.project import data_path
from noria.client.repositories import LocalDataset, local_repository
from noria.kernel.errors import Invalid
from noria.kernel.ids import parse_handle

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
VERSION_COLUMNS = ["number", "branch", "created_at_ms", "actor", "files", "size", "rows", "aliases", "message"]


@group.command()
@click.argument("name")
@click.argument("path", type=click.Path(exists=True, path_type=Path), required=False)
@click.option("-m", "--message", default="", help="What changed, for the log.")
@click.option("--alias", default="", help="Also point this alias at the version.")
@click.option("--branch", default="main", show_default=True, help="The branch that the version is added to.")
@click.option("--parent", default="", help="Refuse unless this (an id or number) is still the latest version.")
@click.option("--expect", type=_FILE, help="Refuse unless the data is as this YAML file says (see noria data expect).")
@click.option(
    "--table", is_flag=True, help="Take a Parquet file as a table: of the next one only rows that changed are stored."
)
@click.option(
    "--key", default="", help="Of a table: the columns that name a row, separated by commas; else that of the last one."
)
@json_option
def commit(
    name: str, path: Path | None, message: str, alias: str, branch: str, parent: str, expect: Path | None, table: bool, key: str,
    as_json: bool,
) -> None:  # fmt: skip
    """Make a version of NAME from the file or folder PATH, else from the one that noria.toml names. Only what changed is read, only
    what is new is stored.

    \b
    Example:
      noria data commit flights data/ -m "January"
      noria data commit flights data.parquet -m "All labels" --alias train
      noria data commit flights data/ -m "Try without January" --branch trial
      noria data commit flights rows.parquet --table --key id
    """
    data = open_dataset(name)
    start = data.version(parent) if parent else None
    with progress(f"Committing {name}") as say:
        made = data.commit(
            path or data_path(name), message=message, alias=alias, branch=branch, parent=start, expect=expect, progress=say,
            table=table, key=[k.strip() for k in key.split(",") if k.strip()] or None,
        )  # fmt: skip
    if as_json:
        emit({"version": plain(made), "is_new": made.is_new, "warnings": made.warnings}, as_json=True)
        return
    for warning in made.warnings:
        click.secho(f"Warning: {warning}", fg="yellow", err=True)
    if made.is_new:
        rows = f"{made.rows_count:,} rows" if table or key else f"{made.info.files_count:,} files"
        click.echo(f"{made.handle}  {rows}, {size(made.info.size_bytes)}")
    else:
        click.echo(f"{made.handle} already has exactly this content; no new version was made.")


@group.command()
@click.argument("name")
@click.option("-m", "--message", default="", help="Why, for the log.")
@click.option("--branch", default="main", show_default=True, help="The branch that the version is added to.")
@json_option
def compact(name: str, message: str, branch: str, as_json: bool) -> None:
    """Make a version of the table NAME with the same rows, without layers of changed rows. Commits do it for parts by themselves.

    \b
    Example:
      noria data compact flights
    """
    with progress(f"Compacting {name}") as say:
        made = open_dataset(name).compact(branch=branch, message=message, progress=say)
    if as_json:
        emit({"version": plain(made), "is_new": made.is_new}, as_json=True)
    elif made.is_new:
        click.echo(f"{made.handle}  {made.rows_count:,} rows, {size(made.info.size_bytes)}")
    else:
        click.echo(f"{made.handle} has no layers; no new version was made.")


@group.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List datasets.

    \b
    Example:
      noria data list
    """
    repository = local_repository()
    if repository is None:
        found = list(api().items("/datasets"))
    else:
        found = [msgspec.to_builtins(repository.info(refs)) for refs in repository.datasets()]
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
@click.option("--branch", default="", help="Only what this branch came through.")
@json_option
def log(name: str, limit: int, branch: str, as_json: bool) -> None:
    """The versions of NAME, newest first.

    \b
    Example:
      noria data log flights
      noria data log flights --branch trial
    """
    found = [plain(v) for v in open_dataset(name).versions(branch=branch, limit=limit)]
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
    version = resolve(handle)
    files = [msgspec.to_builtins(f) for f in version.files(limit=limit)]
    if as_json:
        emit({"version": plain(version), "files": files}, as_json=True)
        return
    row = _row(plain(version))
    schema = ", ".join(f"{c.name} {c.type}" for c in version.info.schema or [])
    emit({"version": version.handle, "id": version.id, "root": version.info.root_digest, **row, "columns": schema or None})
    click.echo()
    emit([{**f, "size": size(f["size_bytes"])} for f in files], columns=["path", "size", "digest"])
    if version.info.files_count > len(files):
        click.echo(f"… and {version.info.files_count - len(files):,} more.")


@group.command()
@click.argument("name")
@click.argument("a", default="")
@click.argument("b", default="")
@click.option("--rows", is_flag=True, help="Also compare the rows of tables that changed.")
@click.option("--key", default="", help="The column that names a row; several separated by commas.")
@click.option("--path", default="", help="Only this table.")
@click.option("--limit", type=click.IntRange(1, 200), default=20, show_default=True, help="Example rows of each kind.")
@json_option
def diff(name: str, a: str, b: str, rows: bool, key: str, path: str, limit: int, as_json: bool) -> None:
    """What changed from version A of NAME to version B, the latest by default: files, columns and, with --rows, rows.

    \b
    Example:
      noria data diff flights@1 flights@2
      noria data diff flights train latest --rows --key key
    """
    name, a, b = _compared(name, a, b)
    found = msgspec.to_builtins(open_dataset(name).diff(a, b, rows=rows, key=key, path=path, limit=limit))
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


def _compared(name: str, a: str, b: str) -> tuple[str, str, str]:
    """The dataset and its two selectors, written as NAME@A NAME@B or as NAME A B. Raises Invalid."""
    if "@" in name:
        if b:
            raise Invalid("Two versions are compared.", where="b", hint="noria data diff flights@1 flights@2")
        first = parse_handle(name, kind="dataset")
        second = parse_handle(a, kind="dataset") if "@" in a else None
        if second and second.name != first.name:
            raise Invalid(
                f"{first.name} and {second.name} are two datasets; versions of one are compared.",
                where="a",
                hint="Check both out to compare their files.",
            )
        name, a, b = first.name, first.selector or "latest", (second.selector if second else a) or "latest"
    if not a:
        raise Invalid("Which versions?", where="a", hint=f"noria data diff {name}@1 {name}@2")
    return name, a, b or "latest"


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
    found = msgspec.to_builtins(resolve(handle).profile())
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
@click.option("--link", is_flag=True, help="Read-only hard links instead of copies; without a server, on one file system.")
@click.option("--force", is_flag=True, help="Write into a folder that is not empty; files of the same path are replaced.")
@click.option(
    "--from", "remote", default="", help="Straight from a repository (s3://…, a folder); only what is needed is read."
)
@click.option("--path", "prefix", default="", help="Only files whose path begins so.")
@json_option
def checkout(handle: str, dest: Path, link: bool, force: bool, remote: str, prefix: str, as_json: bool) -> None:
    """Write the files of NAME@SELECTOR below DEST, each checked against its digest.

    \b
    Example:
      noria data checkout flights@3 ./flights-3
      noria data checkout flights@3 ./january --path 2013/01/ --from s3://bucket/data
    """
    version = resolve(handle) if not remote else _remote_version(handle, remote)
    with progress(f"Checking out {version.handle}") as say:
        version.checkout(dest, overwrite=force, link=link, prefix=prefix, progress=say)
    files = version.files(prefix)
    total = sum(f.size_bytes for f in files)
    if as_json:
        emit({"version": plain(version), "dest": str(dest), "files_count": len(files), "size_bytes": total}, as_json=True)
        return
    click.echo(f"{version.handle} is in {dest}: {len(files):,} files, {size(total)}.")


def _remote_version(handle: str, remote: str) -> Version:
    from noria.repository.repository import open_repository

    found = parse_handle(handle, kind="dataset")
    return LocalDataset(found.name, open_repository(remote, create=False), api).version(found.selector or "latest")


@group.command()
@click.argument("handle")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many files to list.")
@json_option
def status(handle: str, path: Path, limit: int, as_json: bool) -> None:
    """What the folder PATH has that NAME@SELECTOR does not, and the other way round. Exit code 1 when they differ.

    \b
    Example:
      noria data status flights data/
      noria data status flights@train data/ --json
    """
    wanted = parse_handle(handle, kind="dataset")
    changes = open_dataset(wanted.name).status(path, wanted.selector or "latest")
    kinds = {"added": "+", "removed": "-", "changed": "~"}
    named = [("added" if c.before is None else "removed" if c.after is None else "changed", c) for c in changes]
    if as_json:
        emit({"is_clean": not changes, **{k: [c.path for kind, c in named if kind == k] for k in kinds}}, as_json=True)
    elif not changes:
        click.echo(f"{path} is {handle}; nothing changed.")
    else:
        for kind, change in named[:limit]:
            click.echo(f"{kinds[kind]} {change.path}")
        if len(named) > limit:
            click.echo(f"… and {len(named) - limit:,} more.")
    if changes:
        raise SystemExit(1)


@group.command()
@click.argument("handle")
@click.argument("alias")
@click.option("--remove", is_flag=True, help="Remove the alias from the dataset instead.")
@click.option("--expect", type=int, help="Refuse unless the alias is at this generation (0: it must be new).")
@json_option
def alias(handle: str, alias: str, remove: bool, expect: int | None, as_json: bool) -> None:
    """Point ALIAS at NAME@SELECTOR.

    \b
    Example:
      noria data alias flights@3 train
      noria data alias flights train --remove
    """
    wanted = parse_handle(handle, kind="dataset")
    data = open_dataset(wanted.name)
    if remove:
        data.remove_alias(alias)
        emit({"alias": alias, "version": None}, as_json=True) if as_json else click.echo(
            f"{wanted.name} has no alias {alias} any more."
        )
        return
    data.move_alias(alias, wanted.selector or "latest", expect=expect)
    now = data.version(alias)
    emit({"alias": alias, "version": plain(now)}, as_json=True) if as_json else click.echo(f"{alias} is {now.handle} now.")


@group.command()
@click.argument("handle", required=False, default="")
@json_option
def verify(handle: str, as_json: bool) -> None:
    """Read every byte of NAME@SELECTOR again and compare it with its digest. Exit code 1 on damage.

    Without a version: everything in the repository of the home, packs, lists of files and commits.

    \b
    Example:
      noria data verify flights@latest
      noria data verify --json
    """
    if not handle:
        data_stores.verify_repository(as_json)
        return
    version = resolve(handle)
    with progress(f"Verifying {version.handle}") as say:
        found = version.verify(say)
    if as_json:
        emit(msgspec.to_builtins(found) | {"next": None}, as_json=True)
    else:
        for item in found.damaged:
            click.secho(f"{item.path}: {item.problem}", fg="red")
        click.echo(
            f"{version.handle}: {found.files_count:,} files, {size(found.size_bytes)} read, {len(found.damaged)} damaged."
        )
    if found.damaged:
        raise SystemExit(1)


@group.command()
@click.argument("handle")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def delete(handle: str, yes: bool, as_json: bool) -> None:
    """Take NAME@SELECTOR out of the history. Refused while an alias, a run or a model needs it.

    \b
    Example:
      noria data delete flights@2 --yes
    """
    version = resolve(handle)
    if not yes:
        click.confirm(f"Delete {version.handle} ({version.info.message or 'no message'})?", abort=True)
    version.dataset.delete(version.id)
    if as_json:
        emit({"deleted": plain(version)}, as_json=True)
        return
    click.echo(f"{version.handle} is deleted. Its number is not used again.")


def _row(version: dict[str, Any]) -> dict[str, Any]:
    return {
        "number": version["number"], "branch": version["branch"], "created_at_ms": version["created_at_ms"], "actor": version["actor"],
        "files": version["files_count"], "size": size(version["size_bytes"]), "rows": version["rows_count"],
        "aliases": ", ".join(version["aliases"]), "message": version["message"],
    }  # fmt: skip


__all__ = [
    "data_branches",
    "data_croissant",
    "data_expectations",
    "data_stores",
    "data_subjects",
    "group",
]  # the commands of the other files come with them
