"""docs/internals/attacks.md lists every attack and fault, and every test that it names exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/internals/attacks.md").read_text()
ROWS = re.findall(r"^\| ([AF]\d+) \| (.*) \| (.*) \|$", PAGE, re.MULTILINE)


def test_every_attack_and_every_fault_is_listed_once() -> None:
    assert [row[0] for row in ROWS] == [*(f"A{i}" for i in range(1, 26)), *(f"F{i}" for i in range(1, 17))]


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_the_tests_that_a_row_names_exist(row: tuple[str, str, str]) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row[2])
    assert named, f"{row[0]} names no test"
    assert row[2].count("`") == 2 * len(named), f"{row[0]} names something that is no test"
    for path, name in named:
        tree = ast.parse((ROOT / path).read_text())
        there = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert name in there, f"{row[0]}: {path} has no {name}"
