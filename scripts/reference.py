"""Writes docs/reference/ from the code: settings, events, errors, actions, commands, MLflow's endpoints.

A test compares; `make approve` rewrites.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from noria.access.policy import ACTIONS, ROLES
from noria.cli.main import main
from noria.config import SETTINGS
from noria.kernel.errors import ERRORS
from noria.kernel.facts import FACTS
from noria.kernel.secrets import Secret
from scripts import reference_mlflow as mlflow

REFERENCE = Path(__file__).parent.parent / "docs" / "reference"


def pages() -> dict[str, str]:
    """The text of each generated page."""
    return {
        "settings.md": settings(), "events.md": events(), "errors.md": errors(), "actions.md": actions(), "cli.md": commands(),
        "mlflow.md": mlflow.page(),
    }  # fmt: skip


def settings() -> str:
    rows = [
        f"| `{s.name}` | `{s.variable}` | {'secret' if s.kind is Secret else s.kind.__name__} | "
        f"{'' if s.kind is Secret else f'`{s.default}`' if s.default != '' else ''} | {s.help} |"
        for s in SETTINGS
    ]
    return _page(
        "Settings",
        "Read from `noria.toml` in the home, then from the environment, then from flags of `noria server`; the later wins.",
        ["| name | variable | type | default | meaning |", "|---|---|---|---|---|", *rows],
    )


def events() -> str:
    rows = []
    for kind, data in sorted(FACTS.items()):
        fields = ", ".join(f"`{n}`" for n in data.__struct_fields__)
        rows.append(f"| `{kind}` | {_one_line(data.__doc__)} | {fields} |")
    return _page(
        "Events",
        "Every kind of fact. A fact is written by the transaction that made it true, numbered densely, never changed, and sealed "
        "into the audit log. Read them at `GET /api/v1/events`, live at `GET /api/v1/stream`.",
        ["| kind | meaning | data |", "|---|---|---|", *rows],
    )


def errors() -> str:
    rows = [f"| `{e.code}` | {e.status} | `{e.mlflow_code}` | {_one_line(e.__doc__)} |" for e in ERRORS]
    return _page(
        "Errors",
        'Every answer that refuses has one shape: `{"error": {"code", "message", "hint", "where", "op"}}`; on MLflow\'s paths it is '
        'MLflow\'s `{"error_code", "message"}`. `op` finds the request in the log. Anything else is a bug: 500, `internal`.',
        ["| code | status | MLflow's code | what it means to you |", "|---|---|---|---|", *rows],
    )


def actions() -> str:
    roles = list(ROLES)
    rows = [f"| `{a}` | " + " | ".join("●" if a in ROLES[r] else "" for r in roles) + " |" for a in sorted(ACTIONS)]
    return _page(
        "Actions and roles",
        "Every route asks for one action. A role is a set of actions; `noria user grant NAME ROLE [--on model:fraud]` gives one. "
        "An action in no role belongs to Noria's own processes.",
        ["| action | " + " | ".join(roles) + " |", "|---" * (len(roles) + 1) + "|", *rows],
    )


def commands() -> str:
    parts = []
    for path, command in _walk(main, "noria"):
        parts.append(f"## {path}\n\n```text\n{help_of(command, path)}\n```\n")
    return "# Commands\n\n<!-- Written by scripts/reference.py. -->\n\n" + "\n".join(parts)


def help_of(command: click.Command, path: str) -> str:
    """A command's help, the same wherever and whenever it is asked for."""
    command._help_option = None  # click keeps the one it made first, with the names of whoever called first
    names = ["-h", "--help"]
    with click.Context(
        command, info_name=path, max_content_width=100, terminal_width=100, help_option_names=names
    ) as context:
        return "\n".join(line.rstrip() for line in command.get_help(context).splitlines())


def _walk(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=path)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            if found is not None:
                yield from _walk(found, f"{path} {name}")


def _page(title: str, about: str, lines: list[str]) -> str:
    return f"# {title}\n\n<!-- Written by scripts/reference.py. -->\n\n{about}\n\n" + "\n".join(lines) + "\n"


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


def load_everything() -> None:
    """Import the slices, so that every fact is declared."""
    import noria.app  # noqa: F401


if __name__ == "__main__":
    load_everything()
    REFERENCE.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (REFERENCE / name).write_text(text)
