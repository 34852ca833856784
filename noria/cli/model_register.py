"""`noria model register`: an MLflow model that lies in a folder becomes a version."""

from __future__ import annotations

from pathlib import Path

import click

from noria.cli.base import api, emit, json_option, progress


@click.command()
@click.argument("name")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("-m", "--description", default="", help="What it is and where it comes from.")
@json_option
def register(name: str, folder: Path, description: str, as_json: bool) -> None:
    """Make the MLflow model in FOLDER the next version of model NAME. Somebody else's model is scanned, not run.

    \b
    Example:
      noria model register churn downloads/model -m "From the vendor, 2026-11"
    """
    from noria.client.registering import register as send

    with progress(f"Registering {name}") as say:
        made = send(name, folder, description=description, api=api(), say=say)
    if as_json:
        emit(made, as_json=True)
        return
    click.echo(f"{name}@{made['number']}  {made.get('flavor') or 'MLflow model'}")
    click.echo(f"       Look at it: noria model scan {name}@{made['number']}")
    click.echo(f"       Serve it:   noria endpoint deploy {name}@{made['number']} --name {name}")
