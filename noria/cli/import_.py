"""`noria import`: bring what other trackers keep into Noria, with its ids."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from noria.cli.base import Group, emit, json_option, progress
from noria.kernel.errors import Invalid, Unavailable

PATIENCE_S = 60.0  # every request may be repeated


@click.group(cls=Group)
def group() -> None:
    """Bring runs and models in from elsewhere, with the ids they have there. May be stopped and repeated at any point."""


@group.command()
@click.argument("source")
@click.option("--experiment", "-e", "experiments", multiple=True, help="Only this one, by name; may be given several times.")
@click.option("--artifacts", default="", help="Of a database: the folder or bucket where MLflow keeps its files.")
@click.option("--dry-run", is_flag=True, help="Only say what would come.")
@click.option("--verify", is_flag=True, help="Afterwards, compare every value with the source.")
@json_option
def mlflow(
    source: str, experiments: tuple[str, ...], artifacts: str, dry_run: bool, verify: bool, as_json: bool
) -> None:  # fmt: skip
    """Import from MLflow: from a server by its URL, or without one from its database (SQLite, PostgreSQL) or its folder (mlruns).

    Runs keep their ids, times, users, status, params, tags, every point, inputs and files; logged models their ids; versions
    their numbers. Experiments get ids of Noria's, which the report names. What is complete here is not sent again. Exits with 1
    when something was left out or differs; the report says what, and why.

    \b
    Example:
      noria import mlflow http://127.0.0.1:5001 --dry-run
      noria import mlflow http://127.0.0.1:5001 --experiment flights --verify
      noria import mlflow sqlite:///mlflow.db --artifacts ./mlartifacts
      noria import mlflow ./mlruns
    """
    opened = _opened(source, artifacts)
    try:
        _import(opened, experiments, dry_run=dry_run, verify=verify, as_json=as_json)
    finally:
        opened.close()


@group.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--experiment", "-e", "experiments", multiple=True, help="Only of this one, by name; may be given several times."
)
@click.option("--dry-run", is_flag=True, help="Only say what would come.")
@click.option("--verify", is_flag=True, help="Afterwards, compare every value with the export.")
@json_option
def runs(path: Path, experiments: tuple[str, ...], dry_run: bool, verify: bool, as_json: bool) -> None:
    """Import what `noria run export` wrote, a folder or an archive, into this Noria, with its ids.

    Its digests are checked before anything is sent. May be stopped and repeated at any point.

    \b
    Example:
      noria import runs ./flights
      noria import runs flights.zip --verify
    """
    from noria.client.moving.exported import Exported

    with progress("Checking") as say:
        opened = Exported(path, say=say)
    try:
        _import(opened, experiments, dry_run=dry_run, verify=verify, as_json=as_json)
    finally:
        opened.close()


def _opened(source: str, artifacts: str) -> Any:
    if source.startswith(("http://", "https://")):
        from noria.client.moving.mlflow_server import MlflowServer

        if artifacts:
            raise Invalid("A server gives its files itself.", where="artifacts", hint="Leave --artifacts out.")
        return MlflowServer(source)
    folder = Path(source.removeprefix("file://"))
    if folder.is_dir():
        from noria.client.moving.mlflow_folder import MlflowFolder

        return MlflowFolder(folder, artifacts)
    if "://" not in source:
        raise Invalid(
            f"{source!r} is no source.", where="source",
            hint="Give http://host:5000, sqlite:///mlflow.db, postgresql://user@host/mlflow, or a folder: ./mlruns.",
        )  # fmt: skip
    from noria.client.moving.mlflow_database import MlflowDatabase

    return MlflowDatabase(source, artifacts)


def _import(opened: Any, experiments: tuple[str, ...], *, dry_run: bool, verify: bool, as_json: bool) -> None:
    from stamina import instrumentation

    from noria.client.api import connect
    from noria.client.moving.mover import Mover
    from noria.client.moving.verify import verify_all

    instrumentation.set_on_retry_hooks([])  # patience is no news to who waits
    with connect() as api, _to_be_repeated(), progress("Importing") as say:
        if api.url.rstrip("/") == opened.label.rstrip("/"):
            raise Invalid(f"{api.url} is the Noria that would be imported into.", hint="Set NORIA_URL to another one.")
        api.request("GET", "/health")  # nobody there is said at once
        api.be_patient(PATIENCE_S)
        mover = Mover(api, opened, only=set(experiments) or None, say=say)
        report = mover.look() if dry_run else mover.move()
        if verify and not dry_run:
            verify_all(api, opened, report, only=set(experiments) or None, say=say)
    if as_json:
        emit(report.as_dict() | {"dry_run": dry_run}, as_json=True)
    else:
        _show(report, dry_run=dry_run)
    if not report.is_clean:
        raise click.exceptions.Exit(1)


@contextmanager
def _to_be_repeated() -> Iterator[None]:
    """Whoever is broken off is told that nothing was lost by it."""
    try:
        yield
    except Unavailable as error:
        raise Unavailable(error.message, hint=f"{error.hint} The same command goes on where it was.".strip()) from error


def _show(report: Any, *, dry_run: bool) -> None:
    rows = [{"what": kind, **counts} for kind, counts in report.counts.items() if counts["found"]]
    emit(rows, columns=["what", "found", "new", "resumed", "already", "left_out"])
    parts = report.parts
    if dry_run:
        click.echo("\nNothing was changed. Without --dry-run, what is new comes with its points and files.")
        return
    click.echo(
        f"\nSent: {parts['points']:,} points, {parts['params']:,} params, {parts['tags']:,} tags, {parts['inputs']:,} inputs, "
        f"{parts['files']:,} files ({parts['file_bytes']:,} bytes); each run was counted here before it was marked as complete."
    )
    moved = [e for e in report.experiments if e["from"] != e["to"]]
    if moved:
        click.echo()
        emit(moved, columns=["name", "from", "to"])
    if report.unfinished:
        click.echo(f"\n{len(report.unfinished)} runs are not ended there; import again when they are.")
    for left in report.left_out:
        click.echo(f"Left out: {left['kind']} {left['name']}: {left['why']}", err=True)
    if report.verified is not None:
        click.echo(
            f"\nVerified: {report.verified['runs']:,} runs, {report.verified['points']:,} points and "
            f"{report.verified['files']:,} files are the same here and there."
            if not report.differences
            else f"\n{len(report.differences)} differences:"
        )
    for found in report.differences:
        click.echo(f"Differs: {found['kind']} {found['name']}: {found['why']}", err=True)
