"""A plain dictionary beside the real store: commit, branch, merge, tag, alias, delete, collect, crash, reopen."""

from __future__ import annotations

import random
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from noria.kernel import crash
from noria.kernel.crash import Crashed
from noria.kernel.errors import AlreadyExists, Conflict, NoriaError, NotFound
from noria.repository.check import verify
from noria.repository.collect import collect
from noria.repository.merge import MergeConflict, merge
from noria.repository.repository import Repository, Version, open_repository
from noria.repository.scan import StatCache
from tests.repository.conftest import commit_folder, content, write_files

BIG = random.Random(7).randbytes(700_000)
BYTES = {
    "empty": b"",
    "a": b"a" * 2000,
    "b": random.Random(1).randbytes(3000),
    "big": BIG,
    "edited": BIG[:300_000] + b"x" + BIG[300_000:],
}
PATHS = ["f", "d/g", "d/e/h"]
NAMES = ["one", "two"]
COMMIT_POINTS = [
    "pack.drafted", "pack.published", "index.published", "packs.finished", "tree.written", "commit.written", "ref.drafted",
    "ref.moved",
]  # fmt: skip
COLLECT_POINTS = ["collect.rewritten", "collect.index_removed", "pack.drafted", "pack.published", "index.published"]
Files = dict[str, str]  # path: which of BYTES


@dataclass
class Model:
    """What a dataset is, in a few plain fields."""

    last: int = 0
    versions: dict[int, Files] = field(default_factory=dict)
    branches: dict[str, int] = field(default_factory=dict)
    parents: dict[int, list[int]] = field(default_factory=dict)
    tags: dict[str, int] = field(default_factory=dict)
    aliases: dict[str, int] = field(default_factory=dict)

    def ancestors(self, number: int) -> set[int]:
        found, row = set[int](), [number]
        while row:
            at = row.pop()
            if at not in found:
                found.add(at)
                row += self.parents[at]
        return found


files_of = st.dictionaries(st.sampled_from(PATHS), st.sampled_from(list(BYTES)), min_size=1)


class History(RuleBasedStateMachine):
    """Does everything to the repository and to the model, and compares."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="noria-history-"))
        self.models = {name: Model() for name in NAMES}
        self.repository = self.open()

    def open(self) -> Repository:
        return open_repository(str(self.folder / "store"))

    def teardown(self) -> None:
        crash.disarm()
        shutil.rmtree(self.folder)

    @rule(
        name=st.sampled_from(NAMES),
        files=files_of,
        point=st.sampled_from(["", "", "", *COMMIT_POINTS]),
        pick=st.integers(0, 9),
    )
    def commit(self, name: str, files: Files, point: str, pick: int) -> None:
        model = self.models[name]
        branch = sorted(model.branches)[pick % len(model.branches)] if model.branches else "main"
        if model.last and branch not in model.branches:
            branch = "main"
        source = self.folder / "source" / name
        shutil.rmtree(source, ignore_errors=True)
        write_files(source, {path: BYTES[of] for path, of in files.items()})
        if point:
            crash.arm(point)
        crashed = False
        try:
            commit_folder(self.repository, name, source, cache=StatCache(self.folder / "cache", source), branch=branch)
        except Crashed:
            crashed = True
            self.repository = self.open()
        crash.disarm()  # a point that was not passed by
        if crashed and point != "ref.moved":
            return
        head = model.branches.get(branch)
        if head is not None and model.versions[head] == files:
            return
        model.last += 1
        model.versions[model.last], model.parents[model.last] = files, [head] if head else []
        model.branches[branch] = model.last

    @rule(name=st.sampled_from(NAMES), branch=st.sampled_from(["dev", "x"]), pick=st.integers(0, 9))
    def branch(self, name: str, branch: str, pick: int) -> None:
        model = self.models[name]
        if not model.versions:
            return
        number = sorted(model.versions)[pick % len(model.versions)]
        if branch in model.branches:
            with pytest.raises(AlreadyExists):
                self.repository.branch(name, branch, str(number))
            self.repository.delete_branch(name, branch)
            del model.branches[branch]
            return
        self.repository.branch(name, branch, str(number))
        model.branches[branch] = number

    @precondition(lambda self: any(len(m.branches) > 1 for m in self.models.values()))
    @rule(strategy=st.sampled_from(["", "ours", "theirs"]), pick=st.integers(0, 9))
    def merge(self, strategy: str, pick: int) -> None:
        name, model = next((n, m) for n, m in self.models.items() if len(m.branches) > 1)
        branches = sorted(model.branches)
        into, other = branches[pick % len(branches)], branches[(pick + 1) % len(branches)]
        ours, theirs = model.branches[into], model.branches[other]
        mine, others = model.ancestors(ours), model.ancestors(theirs)
        theirs_commit = self.repository.refs(name).numbers[theirs]
        made: Version | None
        paths: list[str] = []
        with self.repository.writing() as writing:
            try:
                made, outcome = merge(self.repository, writing, name, theirs_commit, into=into, strategy=strategy)  # type: ignore[arg-type]
            except MergeConflict as conflict:
                made, paths = None, conflict.paths
            except NoriaError:  # the common version was deleted and collected
                assert len(model.versions) < model.last
                return
        if made is None:
            assert paths and not strategy
            assert all(model.versions[ours].get(p) != model.versions[theirs].get(p) for p in paths)
        elif theirs in mine:
            assert outcome == "nothing"
        elif ours in others:
            assert outcome == "fast-forward"
            model.branches[into] = theirs
        elif made.number != ours:
            merged = {
                p: next(k for k, v in BYTES.items() if v == data) for p, data in content(self.repository, made).items()
            }
            for path in set(merged) | set(model.versions[ours]) | set(model.versions[theirs]):
                assert merged.get(path) in (model.versions[ours].get(path), model.versions[theirs].get(path))
            model.last += 1
            assert made.number == model.last
            model.versions[model.last], model.parents[model.last] = merged, [ours, theirs]
            model.branches[into] = model.last

    @rule(name=st.sampled_from(NAMES), kind=st.sampled_from(["tags", "aliases"]), pick=st.integers(0, 9))
    def name(self, name: str, kind: str, pick: int) -> None:
        model = self.models[name]
        if not model.versions:
            return
        number = sorted(model.versions)[pick % len(model.versions)]
        if kind == "aliases":
            self.repository.move_alias(name, "train", str(number))
            model.aliases["train"] = number
        elif "t" in model.tags:
            self.repository.delete_tag(name, "t")
            del model.tags["t"]
        else:
            self.repository.tag(name, "t", str(number))
            model.tags["t"] = number

    @rule(name=st.sampled_from(NAMES), pick=st.integers(0, 9))
    def delete(self, name: str, pick: int) -> None:
        model = self.models[name]
        if not model.versions:
            return
        number = sorted(model.versions)[pick % len(model.versions)]
        needed = {*model.tags.values(), *model.aliases.values(), *(n for b, n in model.branches.items() if b != "main")}
        if number in needed:
            with pytest.raises(Conflict):
                self.repository.delete_version(name, str(number))
            return
        self.repository.delete_version(name, str(number))
        del model.versions[number]
        if model.branches.get("main") == number:
            del model.branches["main"]
            left = [n for n in self.nearest(model, number) if n in model.versions]
            if left:
                model.branches["main"] = left[0]

    @staticmethod
    def nearest(model: Model, number: int) -> list[int]:
        found, row = list[int](), model.parents[number]
        while row:
            found += [n for n in row if n not in found]
            row = [p for n in row for p in model.parents[n] if p not in found]
        return found

    @rule(point=st.sampled_from(["", *COLLECT_POINTS]), is_dry=st.booleans())
    def collect(self, point: str, is_dry: bool) -> None:
        if point:
            crash.arm(point)
        try:
            collect(self.repository, grace_s=-1, dry_run=is_dry)
        except Crashed:
            self.repository = self.open()
        crash.disarm()

    @rule()
    def reopen(self) -> None:
        self.repository = self.open()

    @rule()
    def verify(self) -> None:
        assert verify(self.repository).faults == []

    @invariant()
    def the_store_is_the_models(self) -> None:
        for name, model in self.models.items():
            if not model.last:
                with pytest.raises(NotFound):
                    self.repository.refs(name)
                continue
            refs = self.repository.refs(name)
            assert refs.last_number == model.last
            by_number = {n: {p: BYTES[of] for p, of in files.items()} for n, files in model.versions.items()}
            assert {v.number: content(self.repository, v) for v in self.repository.versions(name)} == by_number
            number = {c: n for n, c in refs.numbers.items()}
            assert {b: number[c] for b, c in refs.branches.items()} == model.branches
            assert {t: number[c] for t, c in refs.tags.items()} == model.tags
            assert {a: number[x.commit] for a, x in refs.aliases.items()} == model.aliases


def test_histories_are_those_of_a_plain_model() -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        History,
        settings=settings(max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)),
    )


@pytest.mark.parametrize("point", COMMIT_POINTS)
def test_a_commit_that_dies_is_there_or_not(point: str, tmp_path: Path) -> None:
    """Every point is passed by, and what comes after a crash there is a whole version or none; the next commit works."""
    store, source = str(tmp_path / "store"), write_files(tmp_path / "source", {"f": BIG, "g": b"small"})
    first = commit_folder(open_repository(store), "d", write_files(tmp_path / "first", {"f": b"first"}))
    crash.arm(point)
    with pytest.raises(Crashed):
        commit_folder(open_repository(store), "d", source)
    repository = open_repository(store)
    found = repository.version("d")
    assert content(repository, found) == ({"f": BIG, "g": b"small"} if point == "ref.moved" else {"f": b"first"})
    again = commit_folder(repository, "d", source)
    assert again.number == 2 and again.commit.parents == [first.id]
    collect(repository, grace_s=-1)
    repository = open_repository(store)
    assert verify(repository).faults == []
    assert content(repository, repository.version("d", "1")) == {"f": b"first"}
    assert not list((tmp_path / "store" / "tmp").iterdir()), "drafts of the dead are collected"
