"""`noria init`: from a folder that somebody works in to a project: what was found, two small files, and what to do next."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import click

from noria.cli.base import emit, json_option
from noria.cli.init_files import count, pipeline, toml
from noria.cli.init_scan import FILES_MAX, Found, name_of, scan
from noria.client import project
from noria.client.api import find_server


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path), default=".")
@click.option("--url", default="", help="The server of everybody who works here.  [default: NORIA_URL]")
@click.option("--dry-run", is_flag=True, help="Show the files; write nothing.")
@json_option
def group(folder: Path, url: str, dry_run: bool, as_json: bool) -> None:
    """Make a project of the FOLDER you work in: finds scripts that train, data and MLflow models, and writes noria.toml and
    pipeline.py. Files that exist are left as they are; nothing of yours is run or changed.

    \b
    Example:
      noria init
      noria init --url https://noria.example.org
    """
    root = folder.resolve()
    found = scan(root)
    files = {project.FILE: toml(found, url=url or os.environ.get("NORIA_URL", ""))}
    if found.scripts or found.data or not found.models:  # who only serves a model needs no pipeline
        files["pipeline.py"] = pipeline(root, found, has_mlflow=find_spec("mlflow") is not None)
    kept = [name for name in files if (root / name).exists()]
    if not dry_run:
        for name in files.keys() - set(kept):
            (root / name).write_text(files[name], encoding="utf-8")
    steps = _next(root, found, is_new="pipeline.py" in files and "pipeline.py" not in kept)
    if as_json:
        what = {
            "scripts": [{"path": s.path, "frameworks": s.frameworks, "logs": s.logs} for s in found.scripts],
            "data": [{"name": d.name, "path": d.path, "files": d.files, "size_bytes": d.size_bytes} for d in found.data],
            "notebooks": found.notebooks, "models": found.models, "unread": found.unread,
        }  # fmt: skip
        written = sorted(files.keys() - set(kept))
        emit({"found": what, "written": [] if dry_run else written, "kept": kept, "next": steps}, as_json=True)
        return
    _say(found)
    for name, text in files.items():
        if name in kept:
            click.echo(f"\n{name} exists and was left as it is.")
        elif dry_run:
            click.secho(f"\n{name}", bold=True)
            click.echo(text.rstrip())
        else:
            click.echo(f"\nWrote {name}.")
    click.secho("\nNext:", bold=True)
    for command, why in steps:
        click.echo(f"  {command:<58}  {why}")


def _say(found: Found) -> None:
    for script in found.scripts:
        logs = (
            "logs to MLflow" if script.logs else "does not log yet" if script.can_autolog else "logs nothing yet: noria.log"
        )
        click.echo(f"script    {script.path}  ({', '.join(script.frameworks)}; {logs})")
    for data in found.data:
        click.echo(f"data      {data.path}  → {data.name}  ({count(data)})")
    for notebook in found.notebooks:
        click.echo(f"notebook  {notebook}")
    for model in found.models:
        click.echo(f"model     {model}  (MLflow)")
    for unread in found.unread:
        click.secho(f"not read  {unread}", fg="yellow")
    if not found.is_whole:
        click.secho(f"Only the first {FILES_MAX:,} files were looked at.", fg="yellow")
    if not (found.scripts or found.data or found.models or found.notebooks):
        click.echo("Nothing that trains, no data and no model was found; the pipeline is an example to start from.")


def _next(root: Path, found: Found, *, is_new: bool) -> list[tuple[str, str]]:
    """The commands that lead on, each with its reason."""
    steps = [] if find_server() else [("noria server", "in another terminal; leave it running")]
    steps += [(f'noria data commit {d.name} -m "first"', f"a version of {d.path}") for d in found.data[:3]]
    steps += [(f"noria run -- python {s.path}", "the script as it is, as a run") for s in found.scripts[:1]]
    steps += [
        (f"noria model register {name_of(Path(m).name or root.name, 'model')} {m}", "the model, to serve it")
        for m in found.models[:3]
    ]
    if is_new:
        steps += [
            ("noria pipeline run pipeline.py", "durable, cached, on a version of the data" if found.data else "an example")
        ]
    return steps
