"""What asking costs: a check from memory, reading somebody's rights, and "the latest 100 of a million runs that I may see".

    make bench T=access                            a million runs on both databases, some minutes
    python -m benchmarks.access --fast             100,000 runs

2,000 experiments in 200 projects; a dense user sees 150 of them by a group in a group, a sparse one sees two. Targets: a check from
memory within 2 µs, the page within 5 ms (p50), on SQLite and on PostgreSQL. The page goes through the service, rows and all.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # `python benchmarks/access.py`, as the Makefile runs it
    sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.databases import PostgresDatabase, SqliteFile, Store, postgres
from noria.access.model import Clearance, Grant, LabelWish, NewGroup, NewPrincipal, ProjectWish
from noria.app import App, build
from noria.config import load_config
from noria.kernel.ids import Ref
from noria.kernel.op import Actor, Op

EXPERIMENTS, PROJECTS, DENSE = 2_000, 200, 150
AT, WORKSPACE = 1_700_000_000_000, "0" * 32
RUN = "id, experiment_id, name, status, stage, started_at_ms, user_name, actor, workspace, has_points, source_dirty"


def experiment_id(i: int) -> str:
    return f"{i + 1:032x}"


def fill(app: App, store: Store, runs: int) -> dict[str, Op]:
    """Experiments, runs spread over them, projects, groups, people. Gives the operation of each person."""
    rows = ((experiment_id(i), f"e{i}", "active", AT, AT, "system:bench", WORKSPACE) for i in range(EXPERIMENTS))
    store.insert("experiment", "id, name, stage, created_at_ms, updated_at_ms, actor, workspace", rows)

    def all_runs() -> Iterator[tuple[Any, ...]]:
        for i in range(runs):
            at = AT + i
            home = experiment_id(i * 7919 % EXPERIMENTS)
            yield f"{i:032x}", home, f"r{i}", "FINISHED", "active", at, "", "user:x", WORKSPACE, False, False

    store.insert("run", RUN, all_runs())
    rows = ((f"experiment:{experiment_id(i)}", f"project:p{i % PROJECTS}", AT) for i in range(EXPERIMENTS))
    store.insert("scope_parent", "ref, parent, at_ms", rows)
    op, access = app.ops.system("bench"), app.access
    access.create_principal(op, NewPrincipal(name="root", roles=["admin"]))
    for i in range(PROJECTS):
        access.scopes.set_project(op, f"p{i}", ProjectWish())
    for group in ("company", "team"):
        access.groups.create(op, NewGroup(name=group))
    access.groups.add_member(op, "company", "team")
    people = {}
    for name in ("everything", "dense", "sparse", "uncleared"):
        made = access.create_principal(
            op, NewPrincipal(name=name, roles=["viewer"] if name in ("everything", "uncleared") else [])
        )
        people[name] = app.ops.mint(Actor(kind="user", id=made.id, name=name))
    access.groups.add_member(op, "team", "dense")
    for i in range(DENSE * PROJECTS // EXPERIMENTS):
        access.grant(op, Grant(principal="company", role="viewer", scope=f"project:p{i}"))
    for i in (3, 4):
        access.grant(op, Grant(principal="sparse", role="viewer", scope=f"experiment:{experiment_id(i)}"))
    access.scopes.set_label(op, "pii", LabelWish())
    access.scopes.put_label(op, "pii", "project:p7")
    for name in ("everything", "dense", "sparse"):
        access.scopes.clear(op, "pii", name, Clearance())
    store.settle()
    return people


def each(work: Callable[[], object], times: int) -> dict[str, float]:
    """p50 and p99 in milliseconds."""
    work()
    took = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        took.append((time.perf_counter() - began) * 1e3)
    took.sort()
    return {"p50_ms": round(statistics.median(took), 4), "p99_ms": round(took[int(len(took) * 0.99)], 4)}


def check_us(op: Op, app: App) -> float:
    """One check from memory in microseconds, the median of ten rounds."""
    on, rounds = Ref("experiment", experiment_id(3)), []
    for _ in range(10):
        began = time.perf_counter()
        for _ in range(20_000):
            app.access.allows(op.actor, WORKSPACE, "run.read", on)
        rounds.append((time.perf_counter() - began) / 20_000 * 1e6)
    return round(statistics.median(rounds), 3)


def measure(name: str, store_of: Callable[[Path], Store], runs: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="noria-bench-access-") as folder:
        home = Path(folder)
        store = store_of(home)
        app = build(load_config({}, home=str(home), database=store.address or f"sqlite:///{home / 'noria.db'}"))
        try:
            people = fill(app, store, runs)
            found: dict[str, Any] = {"runs": runs, "check_us": check_us(people["dense"], app)}

            def forgotten(op: Op) -> None:
                app.access.forget_caches()
                app.access.visible(op.actor, WORKSPACE, "run.read")

            for who, op in people.items():
                seen = app.access.visible(op.actor, WORKSPACE, "run.read")
                page = each(lambda op=op: app.tracking.search_runs(op, limit=100), 60)  # type: ignore[misc]
                rights = each(lambda op=op: forgotten(op), 60)  # type: ignore[misc]
                found[who] = {"experiments": "all" if seen is None else len(seen), "latest_100": page, "rights_anew": rights}
                print(f"{name:<10} {who:<10} {found[who]}", flush=True)
            print(f"{name:<10} check from memory {found['check_us']} µs", flush=True)
            return found
        finally:
            app.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--fast", action="store_true")
    parser.add_argument("--only", default="sqlite,postgresql")
    args = parser.parse_args()
    runs, results = 100_000 if args.fast else 1_000_000, {}
    with ExitStack() as stack:
        if "sqlite" in args.only:
            results["sqlite"] = measure("sqlite", lambda home: _sqlite(home), runs)
        if "postgresql" in args.only:
            uri = stack.enter_context(postgres())
            results["postgresql"] = measure("postgresql", lambda _: PostgresDatabase(uri, "access"), runs)
    print(json.dumps(results, indent=1))


def _sqlite(home: Path) -> SqliteFile:
    return SqliteFile(home / "noria.db")


if __name__ == "__main__":
    main()
