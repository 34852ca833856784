"""`noria data expect`, `check`: what data must be like."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from noria.cli.base import emit, json_option, progress
from noria.cli.data_group import group, open_dataset, resolve


@group.command()
@click.argument("name")
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--remove", is_flag=True, help="Expect nothing any more.")
@json_option
def expect(name: str, file: Path | None, remove: bool, as_json: bool) -> None:
    """Refuse commits to NAME that are not as the YAML file FILE says; without FILE, show what is expected.

    \b
    Example:
      noria data expect flights expectations.yaml
      noria data expect flights
    """
    if file and remove:
        raise click.UsageError("Give a file, or --remove.")
    data = open_dataset(name)
    found = data.expect({} if remove else file) if file or remove else data.expectations()
    plain = msgspec.to_builtins(found)
    if as_json:
        emit(plain, as_json=True)
    elif file or remove:
        click.echo(f"Commits to {name} have to be as {file} says." if file else f"Commits to {name} may be like anything.")
    elif not plain:
        click.echo(f"Nothing is expected of {name}. Say what: noria data expect {name} FILE.yaml")
    else:
        import yaml

        click.echo(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True).rstrip())


@group.command()
@click.argument("handle")
@click.option(
    "--expect", "file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Check against this file."
)
@json_option
def check(handle: str, file: Path | None, as_json: bool) -> None:
    """Is NAME@SELECTOR as expected? Ends with 1 when it is not, so that a pipeline stops there.

    \b
    Example:
      noria data check flights@train
      noria data check flights@latest --expect stricter.yaml
    """
    version = resolve(handle)
    with progress(f"Checking {version.handle}"):
        found = version.check(file)
    if as_json:
        emit({**msgspec.to_builtins(found), "passed": found.passed}, as_json=True)
    else:
        for one in found.broken:
            click.secho(f"{one.severity}: {one.text}", fg="red" if one.severity == "error" else "yellow", err=True)
        click.echo(
            f"{version.handle}: {found.rules_count} rules on {found.tables_count} tables, {len(found.broken)} broken."
        )
    if not found.passed:
        raise SystemExit(1)
