"""`noria run export`: runs as files that need no Noria to be read."""

from __future__ import annotations

from pathlib import Path

import click

from noria.cli.base import api, emit, json_option, progress
from noria.kernel.errors import Invalid


@click.command()
@click.argument("runs", nargs=-1)
@click.option("--experiment", "-e", "experiments", multiple=True, help="All runs of this experiment, by name or id.")
@click.option(
    "--output", "-o", required=True, type=click.Path(path_type=Path), help="A new folder, or a .zip, .tar or .tar.gz."
)
@click.option(
    "--metrics", type=click.Choice(["parquet", "csv"]), default="parquet", show_default=True, help="How points are written."
)
@click.option("--deleted", is_flag=True, help="Also the runs of the experiment that were put away.")
@json_option
def export(
    runs: tuple[str, ...], experiments: tuple[str, ...], output: Path, metrics: str, deleted: bool, as_json: bool
) -> None:  # fmt: skip
    """Write runs to a folder or an archive: JSON, Parquet, files, console, with digests. `noria import runs` reads it back.

    \b
    Example:
      noria run export 0197c0de00007000800000000000abcd -o ./run
      noria run export -e flights -o flights.zip
      noria run export -e flights --metrics csv -o ./flights
    """
    from noria.client.moving.exporter import export as write
    from noria.client.moving.noria_server import NoriaServer
    from noria.client.moving.sinks import open_sink

    if not runs and not experiments:
        raise Invalid("Name the runs, or an experiment.", hint="noria run export -e flights -o flights.zip")
    source = NoriaServer(api(), experiments=list(experiments), runs=list(runs), with_deleted=deleted)
    with progress("Exporting") as say, open_sink(output) as sink:
        counts = write(source, sink, metrics=metrics, say=say)
    if as_json:
        emit({"output": str(output), **counts}, as_json=True)
        return
    click.echo(
        f"Wrote {counts['runs']:,} runs with {counts['points']:,} points, {counts['files']:,} files and {counts['models']:,} logged "
        f"models to {output} ({counts['bytes']:,} bytes)."
    )
