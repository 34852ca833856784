"""`noria run reproduce`: make a run again and compare."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import msgspec

from noria.cli.base import api, emit, json_option


@click.command()
@click.argument("run_id")
@click.option("--dir", "folder", type=click.Path(path_type=Path), help="Build it in this empty folder, which stays.")
@click.option(
    "--tolerance", type=float, default=1e-6, show_default=True, help="How far numbers may be apart, relative to them."
)
@click.option("--keep", is_flag=True, help="Leave the folder for a look.")
@click.option(
    "--repository", type=click.Path(path_type=Path), default=Path(), help="Where the commit is, when no code was kept."
)
@json_option
def reproduce(run_id: str, folder: Path | None, tolerance: float, keep: bool, repository: Path, as_json: bool) -> None:
    """Make a run again from what was captured, in a clean place, and compare its numbers.

    Code, packages and versions of data are those of the run; the new run is tagged with noria.reproduces. For a run of a pipeline
    the workers do it. What cannot be the same is said. Exits with 0 when every number matches, else with 1.

    \b
    Example:
      noria run reproduce 0197c0de00007000800000000000abcd
      noria run reproduce 0197c0de00007000800000000000abcd --tolerance 0.01 --dir ./again
    """
    from noria.client.reproduce import reproduce as make_again

    found = make_again(
        api(), run_id, tolerance=tolerance, folder=folder, keep=keep, repository=repository,
        say=lambda text: click.echo(text, err=True),
    )  # fmt: skip
    if as_json:
        emit({**msgspec.to_builtins(found), "matches": found.matches}, as_json=True)
    else:
        _show(found, tolerance)
    sys.exit(0 if found.matches else 1)


def _show(found: object, tolerance: float) -> None:
    from noria.client.reproduce import Reproduced

    assert isinstance(found, Reproduced)
    rows = [{"metric": m.key, "was": m.was, "now": m.now, "": "same" if m.matches else "DIFFERS"} for m in found.metrics]
    emit(rows, columns=["metric", "was", "now", ""])
    for note in found.notes:
        click.echo(f"- {note}")
    same = sum(m.matches for m in found.metrics)
    how = "It ended as before" if found.status == "same" else "It did not end as before"
    click.echo(f"{how}; {same} of {len(found.metrics)} numbers match within {tolerance:g}. The new run: {found.made_again}")
