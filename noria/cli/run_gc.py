"""`noria run gc`: remove for good what was put away, and give its space back."""

from __future__ import annotations

import re
from typing import Any

import click

from noria.cli.base import api, emit, json_option, progress
from noria.kernel.errors import Invalid

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


@click.command()
@click.argument("runs", nargs=-1)
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option("--older-than", default="30d", show_default=True, help="Put away at least this long ago: 45m, 12h, 30d.")
@click.option(
    "--grace", default="1d", show_default=True, help="How long files wait after their last owner went; 1m at least."
)
@click.option("--experiment", "-e", default="", help="Only of this experiment, by id.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@json_option
def gc(
    runs: tuple[str, ...], dry_run: bool, older_than: str, grace: str, experiment: str, yes: bool, as_json: bool
) -> None:  # fmt: skip
    """Remove for good the runs, logged models and experiments that were put away: rows, points, files. It cannot be undone.

    What a registered model version or a reading run still needs stays, and is named. A file goes when nobody else has the same
    bytes, a grace time after its last owner.

    \b
    Example:
      noria run gc --dry-run
      noria run gc --older-than 30d --yes
      noria run gc 0197c0de00007000800000000000abcd --older-than 0s
    """
    request = {
        "older_than_s": duration_s(older_than), "grace_s": duration_s(grace), "runs": list(runs), "experiment_id": experiment,
    }  # fmt: skip
    planned = api().post("/purge", request | {"dry_run": True})
    if dry_run or (not planned["purged"] and not planned["waiting_bytes"]):
        _show(planned, as_json)
        return
    if not yes and planned["purged"]:
        more = " or more" if planned["has_more"] else ""
        click.confirm(
            f"Remove {len(planned['purged'])}{more} things with {planned['points']:,} points and free "
            f"{_bytes(planned['freed_bytes'])} of files, for good?", abort=True, err=True,
        )  # fmt: skip
    done = _purge_all(request)
    _show(done, as_json)


def _purge_all(request: dict[str, Any]) -> dict[str, Any]:
    """Ask until nothing more goes; the answers as one."""
    total: dict[str, Any] = {}
    with progress("Removing") as say:
        while True:
            part = api().post("/purge", request | {"dry_run": False}, timeout_s=600)
            for name in ("points", "freed_bytes", "removed_blobs", "removed_bytes", "returned_bytes"):
                total[name] = total.get(name, 0) + part[name]
            total["purged"] = [*total.get("purged", []), *part["purged"]]
            total |= {"protected": part["protected"], "waiting_bytes": part["waiting_bytes"], "dry_run": False}
            say(f"{len(total['purged'])} things")
            if not part["has_more"]:
                return total | {"has_more": False}


def _show(report: dict[str, Any], as_json: bool) -> None:
    if as_json:
        emit(report, as_json=True)
        return
    rows = [{**p, "artifact_bytes": _bytes(p["artifact_bytes"])} for p in report["purged"]]
    emit(rows, columns=["ref", "name", "points", "artifacts", "artifact_bytes"])
    for kept in report["protected"]:
        click.echo(f"Kept: {kept['ref']} ({kept['name']}), needed by {', '.join(kept['by'])}.")
    verb = "would go" if report["dry_run"] else "went"
    click.echo(f"{report['points']:,} points {verb}; {_bytes(report['freed_bytes'])} of files are used by nothing else.")
    if report["has_more"]:
        click.echo("There is more of it.")
    if report.get("removed_blobs"):
        click.echo(f"Removed {report['removed_blobs']} files ({_bytes(report['removed_bytes'])}) whose grace time was over.")
    if report["waiting_bytes"]:
        click.echo(f"{_bytes(report['waiting_bytes'])} of files wait for their grace time; the server removes them then.")
    if report.get("returned_bytes"):
        click.echo(f"The database is {_bytes(report['returned_bytes'])} smaller.")


def duration_s(text: str) -> float:
    """`45m`, `12h`, `30d` in seconds. Raises Invalid."""
    found = re.fullmatch(r"(\d{1,9})([smhdw])", text.strip())
    if not found:
        raise Invalid(f"{text!r} is not a length of time.", where="older_than", hint="Write 90s, 45m, 12h, 30d or 4w.")
    return float(int(found[1]) * _UNITS_S[found[2]])


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
