"""Habits that a test can hold: one clock, one reader of the environment, no print, no dead module."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.shape.test_arrows import ROOT, imports, modules

# Modules that read the environment besides config.py: processes and clients configured by the variables they are given.
READS_ENVIRONMENT = {
    "noria.config", "noria.client.api", "noria.supervisor", "noria.testing.executor_contract", "noria.kernel.processes",
}  # fmt: skip
ASKS_THE_TIME = {"noria.kernel.clock", "noria.kernel.ids"}
# Started by name, from the command line or by another process.
ENTRY_POINTS = re.compile(
    r"noria\.(cli\..*|control|supervisor|migrations\..*|testing\..*|.*\.(node|worker|recorder|convert|prime|zygote|elsewhere|ray_app|verify|__main__)|pipelines\.worker\.(job|ray|kubernetes|slurm)|client\..*)$"
)


@cache
def calls(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found.add(f"{node.value.id}.{node.attr}")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            found.add(node.func.id)
    return found


@pytest.mark.parametrize("what", ["clock", "environment", "print"])
def test_only_its_own_module_does(what: str) -> None:
    wrong = []
    for name, path in modules().items():
        found = calls(path)
        is_process = re.search(
            r"\.(node|worker|recorder|zygote|steps|gateway|sync|elsewhere|ray_app)$", name
        ) or name.startswith(("noria.client", "noria.cli", "noria.pipelines.worker"))
        asks = found & {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow"}
        if what == "clock" and asks and name not in ASKS_THE_TIME and not is_process:
            wrong.append(name)
        if (
            what == "environment"
            and found & {"os.environ", "os.getenv"}
            and name not in READS_ENVIRONMENT
            and not is_process
        ):
            wrong.append(name)
        if what == "print" and "print" in found and not name.endswith(".verify"):
            wrong.append(name)
    assert not wrong, f"{what}: {wrong}"


def test_no_module_is_dead() -> None:
    known = modules()
    used = {target for path in known.values() for target in imports(path, set(known))}
    dead = [n for n in known if n not in used and not ENTRY_POINTS.match(n) and known[n].name != "__init__.py"]
    assert not dead, dead


def test_growth_is_seen(capsys: pytest.CaptureFixture[str]) -> None:
    """Prints, without failing, the ten largest files and the longest functions."""
    files, functions = [], []
    for name, path in modules().items():
        text = path.read_text()
        files.append((text.count("\n"), name))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno and node.name != "routes":
                functions.append((node.end_lineno - node.lineno + 1, f"{name}.{node.name}"))
    with capsys.disabled():
        for title, rows in (("largest files", files), ("longest functions", functions)):
            shown = ", ".join(f"{n} {c}" for c, n in sorted(rows, reverse=True)[:10])
            print(f"\n{title}: {shown}")


def test_no_address_of_a_registry_nor_a_machine_is_committed() -> None:
    for name in ("requirements.lock", "pyproject.toml", "Makefile"):
        path = ROOT / name
        if path.exists():
            assert not re.search(r"--index-url|--extra-index-url|--find-links|file://|pythonhosted", path.read_text()), name


def test_no_environment_is_committed() -> None:
    """A tracked link called .venv replaces the real environment of whoever checks it out: git overwrites what it ignores."""
    import subprocess

    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    found = subprocess.run(["git", "ls-files", ".venv"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not found, "git rm --cached .venv"


def test_every_vendored_file_is_what_it_says() -> None:
    import hashlib
    import json

    vendor = Path(ROOT / "noria/ui/vendor")
    for package in json.loads((vendor / "VENDOR.json").read_text())["packages"]:
        assert hashlib.sha256((vendor / package["file"]).read_bytes()).hexdigest() == package["sha256"], package["file"]
        assert (vendor / package["licence_file"]).exists()


def test_patterns_end_at_the_end() -> None:
    """A `$` also matches before a final newline: a check that ends in it lets one through."""
    wrong = [
        name for name, path in modules().items() if re.search(r're\.(compile|match)\(\s*r"[^"\n]*\$"', path.read_text())
    ]
    assert not wrong, wrong


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        ("import noria", {"msgspec", "click", "httpx", "numpy", "sqlalchemy", "litestar"}),
        ("import noria; noria.init; noria.log", {"httpx", "numpy", "pyarrow", "sqlalchemy", "litestar", "click"}),
        ("import noria.cli.main", {"httpx", "numpy", "pyarrow", "sqlalchemy", "litestar", "msgspec"}),
    ],
)
def test_what_starts_often_loads_little(code: str, heavy: set[str]) -> None:
    """`import noria` within 100 ms and `noria --help` within 250 (benchmarks/client.py measures): by what is not loaded."""
    import subprocess
    import sys

    asked = f"{code}; import sys; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", asked], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert not heavy & set(loaded), sorted(heavy & set(loaded))
