"""`noria apply`: declare things in YAML."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click
from msgspec import to_builtins

from noria.cli.base import CliError, api, emit, json_option
from noria.declare.model import Change, Manifest, parse
from noria.kernel.errors import Invalid, NoriaError

MARKS = {"create": ("+", "green"), "update": ("~", "yellow"), "replace": ("±", "yellow"), "same": ("=", "bright_black")}
VALUE_LENGTH = 60


@click.command()
@click.option(
    "-f", "--file", "files", multiple=True, required=True, help="A YAML file, a folder of them, or - for standard input."
)
@click.option("--dry-run", is_flag=True, help="Only say what would change.")
@click.option("--check", is_flag=True, help="Like --dry-run, and exit with 1 when anything differs.")
@json_option
def group(files: tuple[str, ...], dry_run: bool, check: bool, as_json: bool) -> None:
    """Make things as the files declare: Policy, Webhook, Endpoint, Schedule, Trigger, Monitor, Loop.

    Applying the same files again changes nothing.

    \b
    Example:
      noria apply -f noria.yaml --dry-run
      noria apply -f noria.yaml
      noria apply -f deploy/ --check      # has anybody changed it by hand?
    """
    from noria.client.declare import apply

    try:
        manifests = _read(files)
        say = (lambda _: None) if as_json else _say
        changes = apply(api(), manifests, dry_run=dry_run or check, say=say)
    except NoriaError as error:
        raise CliError(error) from error
    changed = [c for c in changes if c.verb != "same"]
    if as_json:
        emit(to_builtins(changes), as_json=True)
    else:
        what = "would change" if dry_run or check else "changed"
        click.echo(f"{len(changed)} of {len(changes)} {what}.")
    if check and changed:
        raise click.exceptions.Exit(1)


def _read(files: tuple[str, ...]) -> list[Manifest]:
    """The manifests of all files together. Raises Invalid naming the file."""
    texts: list[str] = []
    for name in files:
        if name == "-":
            texts.append(sys.stdin.read())
            continue
        path = Path(name)
        found = sorted([*path.glob("*.yaml"), *path.glob("*.yml")]) if path.is_dir() else [path]
        if not found:
            raise Invalid(f"{path} holds no .yaml file.")
        for file in found:
            try:
                texts.append(file.read_text())
            except (OSError, UnicodeDecodeError) as cause:
                raise Invalid(f"{file} cannot be read.") from cause
    return parse("\n---\n".join(texts))


def _say(change: Change) -> None:
    mark, colour = MARKS[change.verb]
    click.echo(click.style(mark, fg=colour) + f" {change.kind} {change.name}")
    if change.verb in ("update", "replace"):
        for difference in change.differences:
            click.echo(f"    {difference.path}: {_value(difference.was)} → {_value(difference.now)}")


def _value(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= VALUE_LENGTH else text[: VALUE_LENGTH - 1] + "…"
