"""`noria run sync`: send what runs kept on this machine while no server answered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from noria.cli.base import api, emit, json_option, progress
from noria.kernel.errors import NoriaError


@click.command()
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@click.option("--status", is_flag=True, help="Only list what waits.")
@json_option
def sync(folder: Path | None, status: bool, as_json: bool) -> None:
    """Send runs that wait on this machine; each keeps its id. May be stopped and repeated at any point: nothing is sent twice.

    FOLDER is one journal or a folder of them; without it NORIA_JOURNALS, else .noria/journals in your home. A run whose process
    was killed arrives as KILLED. Exits with 1 when something is left that could be sent.

    \b
    Example:
      noria run sync --status
      noria run sync
      noria run sync /scratch/journals --json
    """
    from noria.client.journal import default_root, journals_below
    from noria.client.sender import describe

    found = journals_below(folder or default_root())
    if status:
        columns = ["run", "name", "experiment", "state", "waiting_bytes", "refused", "last_at_ms", "journal"]
        emit([describe(path) for path in found], as_json=as_json, columns=columns)
        return
    rows = _send_all(found)
    if as_json:
        emit(rows, as_json=True)
    else:
        for row in rows:
            click.echo(_sentence(row))
        if not rows:
            click.echo("Nothing waits.")
    if any(row["state"] == "failed" for row in rows):
        raise click.exceptions.Exit(1)


def _send_all(found: list[Path]) -> list[dict[str, Any]]:
    from noria.client.sender import deliver, describe

    rows: list[dict[str, Any]] = []
    found = sorted(found, key=lambda path: bool(describe(path)["is_joined"]))  # after whoever began their run
    with progress("Sending") as say:
        for i, path in enumerate(found):
            say(f"{path.name} ({i + 1} of {len(found)})")
            about = describe(path)
            row = {"run": about["run"], "name": about["name"], "journal": str(path)}
            if about["state"] == "running":
                rows.append({**row, "state": "running"})
                continue
            try:
                sent = deliver(path, api())
                rows.append({**row, **sent, "journal": str(path), "state": "sent"})
            except NoriaError as error:
                rows.append({**row, "state": "failed", "error": error.message, "hint": error.hint})
    return rows


def _sentence(row: dict[str, Any]) -> str:
    name = f"Run {row['run']}" + (f" ({row['name']})" if row["name"] else "")
    if row["state"] == "running":
        return f"{name} still runs; it sends itself."
    if row["state"] == "failed":
        return f"{name} was not sent: {row['error']} {row['hint']}".rstrip()
    torn = f" Its last entry was torn off by a crash ({row['torn_bytes']} bytes)." if row["torn_bytes"] else ""
    refused = f" {row['refused']} entries were refused; see {row['journal']}/refused.jsonl." if row["refused"] else ""
    return f"{name} was sent ({row['sent_bytes']} bytes).{torn}{refused}"
