"""What every command shares: the connection, tables or JSON on standard output, errors as sentences with an exit code."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from noria.kernel.errors import NoriaError

F = TypeVar("F", bound=Callable[..., Any])

# Exit codes for scripts: 0 done, 1 refused or failed, 2 wrong usage (click's), then one per kind of error.
EXIT_CODES = {
    "invalid": 3, "unauthenticated": 4, "forbidden": 5, "not_found": 6, "already_exists": 7, "conflict": 8, "too_much": 9,
    "too_large": 9, "unavailable": 10, "storage_full": 10,
}  # fmt: skip


class CliError(click.ClickException):
    """An error of Noria, printed as a sentence and a hint."""

    def __init__(self, error: NoriaError) -> None:
        super().__init__(error.message)
        self.exit_code: int = EXIT_CODES.get(error.code, 1)  # type: ignore[misc]
        self.hint = error.hint
        self.code = error.code

    def show(self, file: Any = None) -> None:
        context = click.get_current_context(silent=True)
        if (context and context.find_root().params.get("as_json")) or "--json" in sys.argv:
            click.echo(json.dumps({"error": {"code": self.code, "message": self.message, "hint": self.hint}}), err=True)
            return
        click.secho(f"Error: {self.message}", fg="red", err=True)
        if self.hint:
            click.echo(f"       {self.hint}", err=True)


class Group(click.Group):
    """A group whose commands turn Noria's errors into sentences."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except NoriaError as error:
            raise CliError(error) from error


def json_option(command: F) -> F:
    """`--json`: machine-readable output."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def api() -> Any:
    """The connection of this command; closed at its end."""
    from noria.client.api import connect

    context = click.get_current_context()
    root = context.find_root()
    if "api" not in root.meta:
        made = connect()
        root.meta["api"] = made
        root.call_on_close(made.close)
    return root.meta["api"]


def until_ms(hours: float | None) -> int | None:
    """The time that many hours from now; None for ever."""
    return None if hours is None else int((time.time() + hours * 3600) * 1000)


def emit(value: Any, *, as_json: bool = False, columns: Sequence[str] = ()) -> None:
    """Print `value`: JSON, or a table of `columns` for a list, or name: value lines for one thing."""
    if as_json:
        click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))
    elif isinstance(value, list):
        _table(value, columns or (list(value[0]) if value else []))
    elif isinstance(value, dict):
        width = max((len(k) for k in value), default=0)
        for key in columns or value:
            click.echo(f"{key:<{width}}  {_cell(key, value.get(key))}")
    else:
        click.echo(str(value))


def _table(rows: list[dict[str, Any]], columns: Sequence[str]) -> None:
    if not rows:
        click.echo("Nothing here yet.")
        return
    cells = [[_cell(c, row.get(c)) for c in columns] for row in rows]
    widths = [max(len(c), *(len(r[i]) for r in cells)) for i, c in enumerate(columns)]
    click.secho("  ".join(c.upper().ljust(w) for c, w in zip(columns, widths, strict=True)).rstrip(), bold=True)
    for row in cells:
        click.echo("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip())


def _cell(column: str, value: Any) -> str:
    if value is None:
        return "–"
    if column.endswith("at_ms") and isinstance(value, int):
        return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(value / 1000)) + " UTC"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


@contextmanager
def progress(label: str) -> Iterator[Callable[[str], None]]:
    """Say what a long command is doing, on standard error; quiet when that is no terminal."""
    is_terminal = sys.stderr.isatty()

    def say(text: str) -> None:
        if is_terminal:
            click.echo(f"\r\x1b[K{label}: {text}", nl=False, err=True)

    say("…")
    try:
        yield say
    finally:
        if is_terminal:
            click.echo("\r\x1b[K", nl=False, err=True)
