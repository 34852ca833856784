"""Histories: commits, aliases and deletions against a plain model; writers at the same time."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from noria.client.datasets import Dataset
from noria.datasets.model import AliasMove, DatasetVersion, FileEntry
from noria.kernel.errors import Conflict, NotFound
from noria.kernel.ids import Ref
from tests.conftest import Noria

fresh_names = (f"d{i}" for i in itertools.count())


@dataclass
class Model:
    """What a dataset is, in a few plain fields."""

    content: dict[int, str] = field(default_factory=dict)  # of the versions that are left
    ids: dict[int, str] = field(default_factory=dict)
    last: int = 0
    aliases: dict[str, int] = field(default_factory=dict)
    generations: dict[str, int] = field(default_factory=dict)  # also of aliases that are gone
    protected: set[int] = field(default_factory=set)

    @property
    def head(self) -> int | None:
        return max(self.content, default=None)


class History(RuleBasedStateMachine):
    """Does everything to the service and to the model, and compares."""

    def __init__(self, noria: Noria) -> None:
        super().__init__()
        self.noria, self.service, self.op = noria, noria.app.datasets, noria.op()
        self.name, self.model = next(fresh_names), Model()

    def handle(self, selector: object) -> str:
        return f"{self.name}@{selector}"

    @rule(content=st.sampled_from("abc"), parent=st.sampled_from(["any", "head", "stale"]))
    def commit(self, content: str, parent: str) -> None:
        model = self.model
        info = self.noria.app.blobs.put(content.encode())
        files = [FileEntry(path="f", size_bytes=info.size_bytes, digest=info.digest)]
        start = {"any": None, "head": model.ids.get(model.head or 0), "stale": "0" * 32}[parent]
        is_same = model.head is not None and model.content[model.head] == content
        if start == "0" * 32 and not is_same:
            with pytest.raises(Conflict):
                self.service.commit(self.op, self.name, files, parent=start)
            return
        made = self.service.commit(self.op, self.name, files, parent=start)
        if is_same:
            assert made.number == model.head
            return
        assert made.parents == ([model.ids[model.head]] if model.head else [])
        model.last += 1
        assert made.number == model.last
        model.content[made.number], model.ids[made.number] = content, made.id

    @precondition(lambda self: self.model.content)
    @rule(alias=st.sampled_from(["x", "y"]), pick=st.integers(0, 99), guess=st.sampled_from([None, 0, 1, 2, 3]))
    def move_alias(self, alias: str, pick: int, guess: int | None) -> None:
        model = self.model
        number = sorted(model.content)[pick % len(model.content)]
        now = model.generations.get(alias, 0) if alias in model.aliases else 0
        move = AliasMove(selector=str(number), expect=guess)
        if guess is not None and guess != now:
            with pytest.raises(Conflict):
                self.service.move_alias(self.op, self.name, alias, move)
            return
        if model.aliases.get(alias) != number:
            model.generations[alias] = model.generations.get(alias, 0) + 1
            model.aliases[alias] = number
        moved = self.service.move_alias(self.op, self.name, alias, move)
        assert (moved.number, moved.generation) == (number, model.generations[alias])

    @precondition(lambda self: self.model.last)
    @rule(alias=st.sampled_from(["x", "y"]))
    def remove_alias(self, alias: str) -> None:
        if alias not in self.model.aliases:
            with pytest.raises(NotFound):
                self.service.remove_alias(self.op, self.name, alias)
            return
        self.service.remove_alias(self.op, self.name, alias)
        del self.model.aliases[alias]
        self.model.generations[alias] += 1

    @precondition(lambda self: self.model.content)
    @rule(pick=st.integers(0, 99))
    def protect_or_release(self, pick: int) -> None:
        number = sorted(self.model.content)[pick % len(self.model.content)]
        user, used = Ref("model_version", self.name), Ref("dataset_version", self.model.ids[number])
        with self.noria.app.db.write(self.op) as tx:
            if number in self.model.protected:
                tx.unlink(user, "trained_on", used)
            else:
                tx.link(user, "trained_on", used, protects=True)
        self.model.protected ^= {number}

    @precondition(lambda self: self.model.last)
    @rule(pick=st.integers(0, 99))
    def delete(self, pick: int) -> None:
        model = self.model
        number = 1 + pick % model.last
        if number not in model.content:
            with pytest.raises(NotFound):
                self.service.delete_version(self.op, self.handle(number))
            return
        if number in model.protected or number in model.aliases.values():
            with pytest.raises(Conflict):
                self.service.delete_version(self.op, self.handle(number))
            return
        self.service.delete_version(self.op, self.handle(number))
        del model.content[number]

    @invariant()
    def the_history_is_the_models(self) -> None:
        model = self.model
        if not model.last:
            with pytest.raises(NotFound):
                self.service.dataset(self.op, self.name)
            return
        found = self.service.dataset(self.op, self.name)
        assert (found.latest, found.versions_count) == (model.head, len(model.content))
        assert {a.name: a.number for a in found.aliases} == model.aliases
        listed = self.service.versions(self.op, self.name).items
        assert [v.number for v in listed] == sorted(model.content, reverse=True)
        for version in listed:
            text = b"".join(self.service.open(self.op, version, "f")).decode()
            assert text == model.content[version.number]
            assert sorted(version.aliases) == sorted(n for n, at in model.aliases.items() if at == version.number)


def test_histories_are_those_of_a_plain_model(noria: Noria) -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        lambda: History(noria),
        settings=settings(
            max_examples=30 if noria.app.db.dialect == "sqlite" else 6,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def one_file(noria: Noria, content: bytes) -> list[FileEntry]:
    info = noria.app.blobs.put(content)
    return [FileEntry(path="f", size_bytes=info.size_bytes, digest=info.digest)]


def test_writers_at_the_same_time_get_dense_numbers_and_one_chain(noria: Noria) -> None:
    service = noria.app.datasets

    def commit(i: int) -> DatasetVersion:
        return service.commit(noria.op(), "shared", one_file(noria, str(i).encode()))

    with ThreadPoolExecutor(8) as pool:
        made = sorted(pool.map(commit, range(16)), key=lambda v: v.number)
    assert [v.number for v in made] == list(range(1, 17))
    assert [v.parents for v in made] == [[], *([v.id] for v in made[:-1])]
    assert len(noria.facts("dataset.created")) == 1


def test_of_writers_from_the_same_parent_one_wins(noria: Noria, data: Dataset) -> None:
    start = data.commit({"f": b"start"})
    service = noria.app.datasets

    def commit(i: int) -> int:
        try:
            return service.commit(noria.op(), "flights", one_file(noria, str(i).encode()), parent=start.id).number
        except Conflict:
            return 0

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(commit, range(8))) == [0] * 7 + [2]


def test_of_movers_with_the_same_expectation_one_wins(noria: Noria, data: Dataset) -> None:
    for i in range(4):
        data.commit({"f": str(i).encode()})
    service = noria.app.datasets

    def move(i: int) -> int:
        try:
            return service.move_alias(noria.op(), "flights", "train", AliasMove(selector=str(i), expect=0)).generation
        except Conflict:
            return 0

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(move, range(1, 5))) == [0, 0, 0, 1]
