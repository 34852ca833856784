"""`noria backup`: one file that holds a home, and the drill that shows it can be restored."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import click

from noria.cli.base import Group, emit, json_option
from noria.kernel.errors import Invalid


@click.group(cls=Group)
def group() -> None:
    """Back up, verify and restore a home."""


@group.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--home", help="The home to back up.  [default: ./noria-home]")
@click.option("--without-database", is_flag=True, help="Leave the rows out: PostgreSQL has its own tools.")
@click.option(
    "--without-blobs", is_flag=True, help="Leave the bytes out: a bucket has its own ways. Keys and settings stay."
)
@json_option
def create(file: Path, home: str | None, without_database: bool, without_blobs: bool, as_json: bool) -> None:
    """Write the home to FILE (.tar, or .tar.gz). The server may run meanwhile. FILE holds the keys: keep it safe.

    \b
    Example:
      noria backup create noria-2026-03-01.tar
      noria backup create keys.tar --without-database --without-blobs
    """
    from noria.cli import archive
    from noria.config import load_config

    manifest = archive.create(load_config(home=home), file, with_database=not without_database, with_blobs=not without_blobs)
    _say(manifest, file, as_json, "Saved")
    if not as_json:
        click.echo(f"Show that it can be restored: noria backup verify {file}")


@group.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@json_option
def verify(file: Path, as_json: bool) -> None:
    """Restore FILE into a scratch folder and verify it: digests, database, schema, audit log.

    \b
    Example:
      noria backup verify noria-2026-03-01.tar
    """
    from noria.cli import archive

    with tempfile.TemporaryDirectory(prefix="noria-drill-") as scratch:
        home = Path(scratch) / "home"
        manifest = archive.restore(file, home)
        report = _drill(home) if manifest["database"] and manifest.get("blobs", True) else {}
    _say(manifest | {"audit": report}, file, as_json, "Restorable")


@group.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--home", help="The home to make; it must not exist, or be empty.  [default: ./noria-home]")
@json_option
def restore(file: Path, home: str | None, as_json: bool) -> None:
    """Make a home from FILE.

    \b
    Example:
      noria backup restore noria-2026-03-01.tar --home /srv/noria
    """
    from noria.cli import archive
    from noria.config import load_config

    target = load_config(home=home).home
    manifest = archive.restore(file, target)
    _say(manifest, file, as_json, f"Restored to {target}")


def _drill(home: Path) -> dict[str, Any]:
    """Open the restored home as a server would, and verify its audit log. Raises Invalid when that fails."""
    from noria.app import build
    from noria.config import load_config

    app = build(load_config({}, home=str(home)))
    try:
        report = app.audit.verify(app.ops.system("backup"))
    finally:
        app.db.close()
    if not report.is_intact:
        raise Invalid("The restored audit log is not intact: " + report.faults[0].message)
    return {"facts": report.facts, "sealed": report.sealed, "root": report.root}


def _say(manifest: dict[str, Any], file: Path, as_json: bool, done: str) -> None:
    size = sum(f["size_bytes"] for f in manifest["files"].values())
    if as_json:
        summary = {k: v for k, v in manifest.items() if k != "files"}
        emit(summary | {"file": str(file), "files_count": len(manifest["files"]), "size_bytes": size}, as_json=True)
        return
    facts = f", {manifest['database']['facts']} facts" if manifest["database"] else ", no database"
    facts += "" if manifest.get("blobs", True) else ", no blobs"
    click.echo(f"{done}: {file} ({len(manifest['files'])} files, {size / 1e6:.1f} MB{facts}).")
