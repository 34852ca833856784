"""`noria data croissant`: a version described for others' tools."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import click

from noria.cli.base import api
from noria.cli.data_group import group
from noria.kernel.ids import parse_handle


@group.command()
@click.argument("handle")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="A file for it; else it is printed.")
def croissant(handle: str, output: Path | None) -> None:
    """Describe NAME@SELECTOR as Croissant (MLCommons): its files with their SHA-256, its tables with their columns.

    \b
    Example:
      noria data croissant flights@train --output croissant.json
    """
    found = parse_handle(handle, kind="dataset")
    path = f"/datasets/{quote(found.name, safe='')}/versions/{quote(found.selector or 'latest', safe='')}/croissant"
    text = b"".join(api().get_bytes(path)).decode()
    if output:
        output.write_text(text)
        click.echo(f"The description of {handle} is in {output}.")
    else:
        click.echo(text)
