"""The manual says what the program does: generated pages are current, links lead somewhere, examples name real commands."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from noria.cli.main import GROUPS
from scripts import reference

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize("name", ["settings.md", "events.md", "errors.md", "actions.md", "cli.md", "mlflow.md"])
def test_the_reference_is_current(name: str) -> None:
    reference.load_everything()
    text = reference.pages()[name]
    path = reference.REFERENCE / name
    if os.environ.get("NORIA_APPROVE"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert path.read_text() == text, f"{name} is old; run make approve"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if "://" not in target and not target.startswith("mailto:"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_in_the_manual_exist(page: Path) -> None:
    from click import Context, Group

    from noria.cli.main import main

    for line in re.findall(r"^(?:\$ )?noria ([a-z][^\n]*)$", page.read_text(), re.MULTILINE):
        words = line.split()
        assert words[0] in GROUPS, f"{page.name}: noria {line}"
        command = main.get_command(Context(main), words[0])
        if isinstance(command, Group) and len(words) > 1 and not words[1].startswith("-"):
            assert words[1] in command.list_commands(Context(command)), f"{page.name}: noria {line}"


def test_the_example_pipeline_fits_a_screen() -> None:
    """The promise of the demo: a plain Python file of at most sixty lines."""
    assert len((ROOT / "examples" / "flights" / "pipeline.py").read_text().splitlines()) <= 60
