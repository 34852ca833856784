"""Contracts as files: a change of one is a reviewed diff. `make approve` writes them anew."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from noria.access.policy import ACTIONS, ROLES
from noria.cli.main import GROUPS, main
from noria.config import SETTINGS
from noria.http.asgi import route_table
from noria.kernel.facts import FACTS
from scripts import reference
from tests.conftest import Noria

HERE = Path(__file__).parent
REWRITE = bool(os.environ.get("NORIA_APPROVE"))


def approve(name: str, text: str) -> None:
    path = HERE / name
    if REWRITE:
        path.write_text(text)
    assert path.exists(), f"{name} is missing; run make approve and read it"
    assert path.read_text() == text, f"{name} changed; run make approve and review the diff"


def test_permissions() -> None:
    """Actions × roles; ● may, · may not."""
    width = max(map(len, ACTIONS))
    lines = [f"{'':<{width}}  " + "  ".join(ROLES)]
    for action in sorted(ACTIONS):
        cells = "  ".join(("●" if action in ROLES[role] else "·").ljust(len(role)) for role in ROLES)
        lines.append(f"{action:<{width}}  {cells}".rstrip())
    approve("permissions.txt", "\n".join(lines) + "\n")


def test_events() -> None:
    """Every kind of fact with its fields."""
    lines = []
    for kind, data in sorted(FACTS.items()):
        fields = ", ".join(f"{n}: {data.__annotations__.get(n, '')}" for n in data.__struct_fields__)
        lines.append(f"{kind} ({fields})\n    {(data.__doc__ or '').strip()}")
        assert data.__doc__, f"{kind} has no docstring"
    approve("events.txt", "\n".join(lines) + "\n")


def test_settings() -> None:
    approve("settings.txt", "\n".join(f"{s.variable} = {s.default!r}\n    {s.help}" for s in SETTINGS) + "\n")


def test_routes(noria: Noria) -> None:
    if noria.app.db.dialect != "sqlite":
        pytest.skip("the routes do not depend on the database")
    lines = [f"{method:<6} {path}  {action}" for method, path, action in route_table(noria.app.routes())]
    approve("routes.txt", "\n".join(lines) + "\n")


def test_openapi(noria: Noria) -> None:
    if noria.app.db.dialect != "sqlite":
        pytest.skip("the API does not depend on the database")
    answer = noria.http.get("/api/openapi.json")
    approve("openapi.json", json.dumps(answer.json(), indent=1, sort_keys=True) + "\n")


def test_schema(noria: Noria) -> None:
    """Every table and column, as the migrations leave them on each database."""
    import sqlalchemy as sa

    inspector = sa.inspect(noria.app.db.engine)
    lines = []
    for table in sorted(inspector.get_table_names()):
        keys = inspector.get_pk_constraint(table)["constrained_columns"]
        lines.append(f"{table} ({', '.join(keys)})")
        for column in inspector.get_columns(table):
            null = "" if column["nullable"] else " not null"
            lines.append(f"    {column['name']} {str(column['type']).lower()}{null}")
        for index in sorted(inspector.get_indexes(table), key=lambda i: str(i["name"])):
            lines.append(f"    index {index['name']} ({', '.join(map(str, index['column_names']))})")
    approve(f"schema-{noria.app.db.dialect}.txt", "\n".join(lines) + "\n")


def commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=path.rsplit(" ", 1)[-1])
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            if found is not None:
                yield from commands(found, f"{path} {name}")


def test_cli() -> None:
    """The help of every command; each has an example."""
    pages = []
    for path, command in commands(main, "noria"):
        pages.append(f"$ {path} --help\n{reference.help_of(command, path)}\n")
        if not isinstance(command, click.Group):
            assert "Example" in (command.help or ""), f"{path} has no example"
    assert len(pages) > len(GROUPS)
    approve("cli.txt", "\n".join(pages))
