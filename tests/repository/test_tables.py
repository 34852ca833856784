"""Tables: a dictionary of rows beside the real one, through commits, branches, merges, compaction, crashes and collection."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from noria.datasets.manifest import sort
from noria.datasets.model import TableFile
from noria.kernel import crash
from noria.kernel.crash import Crashed
from noria.kernel.errors import Invalid
from noria.repository.check import verify
from noria.repository.collect import collect
from noria.repository.ingest import gather
from noria.repository.merge import MergeConflict, merge
from noria.repository.repository import NewCommit, Repository, Version, open_repository
from noria.repository.tables.changes import KeyConflict, compare, rows_count
from noria.repository.tables.frames import frame_of
from noria.repository.tables.rows import digest
from noria.repository.tables.table import Table
from noria.repository.tables.writing import Written, compact, write_table
from noria.repository.transfer import pull
from tests.examples import examples

PATH = "data.parquet"
SCALE = 4096  # fragments of 16 to 128 rows, so that a few hundred rows are many of them
Row = tuple[float | None, str | None]
COMMIT_POINTS = [
    "pack.drafted", "pack.published", "index.published", "packs.finished", "tree.written", "commit.written", "ref.drafted",
    "ref.moved",
]  # fmt: skip


def frame(rows: dict[int, Row]) -> pa.Table:
    return pa.table(
        {
            "id": pa.array(list(rows), pa.int64()),
            "x": pa.array([r[0] for r in rows.values()], pa.float64()),
            "s": pa.array([r[1] for r in rows.values()], pa.string()),
        }
    )


def table_of(repository: Repository, version: Version) -> Table:
    file = repository.files(version.commit.root)[PATH]
    assert isinstance(file, TableFile)
    return repository.table(file)


def head_table(repository: Repository, name: str, branch: str = "main") -> Table | None:
    found = repository._refs(name)
    head = found and (found[0].branches.get(branch) or found[0].branches.get("main"))
    return table_of(repository, repository._version(found[0], head)) if found and head else None


def commit_written(repository: Repository, name: str, make: Any, branch: str = "main") -> Version:
    with tempfile.TemporaryDirectory() as folder, repository.writing() as writing:
        written: Written = make(Path(folder))
        files = sort(gather(writing, written.new).files | written.kept)
        return writing.commit(name, files, NewCommit(branch=branch))[0]


def commit_table(
    repository: Repository,
    name: str,
    rows: pa.Table,
    *,
    key: Sequence[str] = ("id",),
    branch: str = "main",
    scale: int = SCALE,
) -> Version:
    base = head_table(repository, name, branch)
    return commit_written(
        repository, name, lambda f: write_table(PATH, base, frame_of(rows, f), f, key=key, scale=scale), branch
    )


def as_rows(table: pa.Table) -> dict[int, Row]:
    columns = [table.column(n).to_pylist() for n in ("id", "x", "s")]
    return {i: (x, s) for i, x, s in zip(*columns, strict=True)}


def same(a: dict[int, Row], b: dict[int, Row]) -> bool:
    return repr(sorted(a.items())) == repr(sorted(b.items()))  # NaN is NaN


values = st.tuples(
    st.one_of(st.none(), st.just(float("nan")), st.sampled_from([0.0, -0.0, 1.5, 2.0])),
    st.sampled_from([None, "", "a", "bé"]),
)
edits = st.dictionaries(st.integers(0, 260), st.one_of(st.none(), values), max_size=12)  # None: the row goes


class Rows(RuleBasedStateMachine):
    """Does everything to the table and to a dictionary, and compares."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="noria-tables-"))
        self.repository = self.open()
        self.rows: dict[str, dict[int, Row]] = {"main": {i: (i / 2, "a") for i in range(200)}}
        self.bases: dict[str, dict[int, Row]] = {}
        self.versions: dict[str, dict[int, Row]] = {}
        self.made(commit_table(self.repository, "t", frame(self.rows["main"])), "main")

    def open(self) -> Repository:
        return open_repository(str(self.folder / "store"))

    def teardown(self) -> None:
        crash.disarm()
        shutil.rmtree(self.folder)

    def made(self, version: Version, branch: str) -> None:
        self.versions[version.id] = dict(self.rows[branch])

    @rule(changes=edits, dev=st.booleans(), seed=st.integers(0, 3), point=st.sampled_from(["", "", "", *COMMIT_POINTS]))
    def commit(self, changes: dict[int, Row | None], dev: bool, seed: int, point: str) -> None:
        branch = "dev" if dev and "dev" in self.rows else "main"
        new = {k: v for k, v in {**self.rows[branch], **changes}.items() if v is not None}
        rows = frame(new)
        if seed:
            rows = rows.take(np.random.default_rng(seed).permutation(rows.num_rows))
        if point:
            crash.arm(point)
        try:
            made = commit_table(self.repository, "t", rows, branch=branch)
        except Crashed:
            self.repository = self.open()
            crash.disarm()
            if point != "ref.moved":
                return
            made = self.repository.version("t", branch)
        crash.disarm()
        self.rows[branch] = new
        self.made(made, branch)

    @rule()
    def commit_the_same(self) -> None:
        before = self.repository.version("t").id
        keys = np.random.default_rng(len(self.versions)).permutation(len(self.rows["main"]))
        assert commit_table(self.repository, "t", frame(self.rows["main"]).take(keys)).id == before

    @rule(changes=st.dictionaries(st.integers(0, 260), values, max_size=40))
    def commit_more(self, changes: dict[int, Row]) -> None:
        """Enough for fragments to be written anew."""
        self.commit(dict(changes), False, 0, "")

    @rule()
    def compact(self) -> None:
        table = head_table(self.repository, "t")
        assert table is not None
        made = commit_written(self.repository, "t", lambda folder: compact(table, folder, scale=SCALE))
        found = table_of(self.repository, made)
        assert not found.manifest.layers
        self.made(made, "main")

    @rule()
    def branch(self) -> None:
        if "dev" in self.rows:
            self.repository.delete_branch("t", "dev")
            del self.rows["dev"]
            return
        self.repository.branch("t", "dev")
        self.rows["dev"], self.bases["dev"] = dict(self.rows["main"]), dict(self.rows["main"])

    @rule(strategy=st.sampled_from(["", "ours", "theirs"]))
    def merge(self, strategy: str) -> None:
        if "dev" not in self.rows:
            return
        base, ours, theirs = self.bases["dev"], self.rows["main"], self.rows["dev"]
        keys = {*base, *ours, *theirs}
        mine = {k for k in keys if repr(base.get(k)) != repr(ours.get(k))}
        other = {k for k in keys if repr(base.get(k)) != repr(theirs.get(k))}
        clash = {k for k in mine & other if repr(ours.get(k)) != repr(theirs.get(k))}
        head = self.repository.refs("t").branches["dev"]
        with self.repository.writing() as writing:
            try:
                made, _ = merge(self.repository, writing, "t", head, strategy=strategy)  # type: ignore[arg-type]
            except KeyConflict as conflict:
                assert clash and not strategy
                named = {int(k) for k in conflict.message.rpartition("with id ")[2].rstrip(".").split("; ")}
                assert named == clash
                return
        assert not clash or strategy
        taken = other if strategy == "theirs" else other - clash
        found = {k: theirs.get(k) if k in taken else ours.get(k) for k in keys}
        self.rows["main"] = {k: v for k, v in found.items() if v is not None}
        self.bases["dev"] = dict(theirs)
        self.made(made, "main")

    @rule()
    def collect(self) -> None:
        collect(self.repository, grace_s=-1)

    @rule()
    def reopen(self) -> None:
        self.repository = self.open()

    @invariant()
    def same_rows(self) -> None:
        for branch, rows in self.rows.items():
            table = table_of(self.repository, self.repository.version("t", branch))
            assert same(as_rows(table.read()), rows)
            assert table.rows_count == len(rows)

    @invariant()
    def same_history(self) -> None:
        for name, rows in list(self.versions.items())[-4:]:
            refs = self.repository.refs("t")
            if name in refs.kept():
                assert same(as_rows(table_of(self.repository, self.repository._version(refs, name)).read()), rows)

    @invariant()
    def differences_add_up(self) -> None:
        names = [n for n in self.versions if n in self.repository.refs("t").kept()][-2:]
        if len(names) == 2:
            a, b = (table_of(self.repository, self.repository._version(self.repository.refs("t"), n)) for n in names)
            found = compare(a, b)
            came, gone = rows_count(found.came), rows_count(found.gone)
            assert a.rows_count + came - gone == b.rows_count
            before, after = self.versions[names[0]], self.versions[names[1]]
            for each in found.changed:
                for row in each.keys.to_pylist():
                    assert repr(before[row["id"]]) != repr(after[row["id"]])
            moved = {r["id"] for c in found.changed for r in c.keys.to_pylist()}
            if not came and not gone:
                assert moved == {k for k in after if repr(before.get(k)) != repr(after[k])}


def test_rows_are_those_of_a_dictionary() -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Rows,
        settings=settings(
            max_examples=examples(15), stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


@given(old=st.lists(st.integers(0, 6), max_size=160), new=st.lists(st.integers(0, 6), max_size=160), at=st.integers(0, 160))
@settings(max_examples=40, deadline=None)
def test_without_a_key_rows_keep_their_order(old: list[int], new: list[int], at: int) -> None:
    """Whatever the two have in common, the second is read back as it was given."""
    with tempfile.TemporaryDirectory() as folder:
        repository = open_repository(folder)
        first, second = [7, *old], [*old[:at], *new, *old[at:], 8]
        for rows in (first, second):
            made = commit_table(repository, "t", pa.table({"a": pa.array(rows, pa.int32())}), key=())
            assert table_of(repository, made).read()["a"].to_pylist() == rows


def big(rows: int, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    return pa.table({"id": np.arange(rows), **{f"c{i}": rng.random(rows) for i in range(4)}})


def stored_bytes(folder: Path) -> int:
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())


def changed(rows: pa.Table, count: int) -> pa.Table:
    places = np.random.default_rng(1).choice(rows.num_rows, count, replace=False)
    column = rows["c1"].to_numpy().copy()
    column[places] = -1.0
    return rows.set_column(2, "c1", pa.array(column))


def test_a_few_changed_rows_cost_a_few_bytes(tmp_path: Path) -> None:
    repository = open_repository(str(tmp_path))
    rows = big(400_000)
    commit_table(repository, "t", rows, scale=1)
    before = stored_bytes(tmp_path)
    made = commit_table(repository, "t", changed(rows, 200), scale=1)
    assert stored_bytes(tmp_path) - before < 30_000
    assert table_of(repository, made).read().equals(changed(rows, 200))


def test_an_inserted_row_without_a_key_moves_the_nearest_end_only(tmp_path: Path) -> None:
    repository = open_repository(str(tmp_path))
    rows = big(40_000)
    first = table_of(repository, commit_table(repository, "t", rows, key=(), scale=64))
    more = pa.concat_tables([rows.slice(0, 20_000), rows.slice(0, 1), rows.slice(20_000)])
    second = table_of(repository, commit_table(repository, "t", more, key=(), scale=64))
    assert len(first.fragments) > 8
    assert len({f.name for f in second.fragments} - {f.name for f in first.fragments}) <= 2


def test_layers_are_folded_and_small_fragments_gathered(tmp_path: Path) -> None:
    repository, rows = open_repository(str(tmp_path)), {i: (float(i), "a") for i in range(3000)}
    for i in range(40):
        rows = {**rows, i * 7: (float(-i), "b"), 10_000 + i: (0.0, "new")}
        made = commit_table(repository, "t", frame(rows), scale=64)  # type: ignore[arg-type]
    table = table_of(repository, made)
    assert len(table.manifest.layers) <= 16 and len(table.fragments) < 24
    assert same(as_rows(table.read()), rows)  # type: ignore[arg-type]


def test_other_columns_make_the_table_anew(tmp_path: Path) -> None:
    repository, rows = open_repository(str(tmp_path)), big(1000)
    commit_table(repository, "t", rows)
    made = commit_table(repository, "t", rows.append_column("new", rows["c1"]))
    assert table_of(repository, made).read().column_names[-1] == "new"


NESTED = pa.table(
    {
        "id": pa.array([1, 2, 3], pa.int8()),
        "list": pa.array([[1.5, float("nan")], None, []], pa.list_(pa.float64())),
        "struct": pa.array([{"a": 1, "b": "x"}, None, {"a": None, "b": "y"}]),
        "kind": pa.array(["a", None, "b"]).dictionary_encode(),
        "when": pa.array([0, 1, None], pa.timestamp("us", "Europe/Vienna")),
        "amount": pa.array([Decimal("1.25"), Decimal(2), None], pa.decimal128(10, 2)),
        "raw": pa.array([b"\x00", None, b""], pa.binary()),
        "ok": pa.array([True, None, False]),
        "half": pa.array(np.array([1, 2, 3], np.float16)),
        "map": pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.int32())),
        "none": pa.nulls(3),
        "wide": pa.array([b"abcd", None, b"efgh"], pa.binary(4)),
        "large": pa.array(["x", "y", None], pa.large_string()),
    }
)


@pytest.mark.parametrize("column", NESTED.column_names[1:])
def test_every_type_is_compared_and_comes_back(column: str, tmp_path: Path) -> None:
    repository = open_repository(str(tmp_path))
    rows = pa.concat_tables(
        [NESTED] + [NESTED.set_column(0, "id", pa.array(range(i * 3 + 4, i * 3 + 7), pa.int8())) for i in range(30)]
    )
    first = commit_table(repository, "t", rows)
    assert commit_table(repository, "t", rows).id == first.id, "NaN in a list is no change"
    assert table_of(repository, first).read().unify_dictionaries().equals(rows.unify_dictionaries()) or digest(
        table_of(repository, first).read()
    ) == digest(rows)
    other = rows.slice(1, 1) if column != "none" else rows.slice(0, 1)
    place = rows.schema.get_field_index(column)
    values = pa.concat_arrays(
        [rows[column].combine_chunks()[:0], other[column].combine_chunks(), rows[column].combine_chunks()[1:]]
    )
    new = rows.set_column(place, rows.schema.field(column), values)
    made = commit_table(repository, "t", new)
    assert digest(table_of(repository, made).read()) == digest(new)
    assert (made.id == first.id) == (column == "none")


def test_keys_that_name_no_row_or_two_are_refused(tmp_path: Path) -> None:
    repository = open_repository(str(tmp_path))
    twice = pa.table({"id": [1, 2, 2], "x": [1.0, 2.0, 3.0]})
    for rows, key, said in (
        (twice, ["id"], "not unique: 2 occurs 2 times"), (pa.table({"id": [1, None]}), ["id"], "null in 1 rows"),
        (twice, ["nope"], "no column 'nope'"), (twice, ["x"], "cannot be a key"), (twice, ["id", "id"], "named twice"),
    ):  # fmt: skip
        with pytest.raises(Invalid, match=said):
            commit_table(repository, "t", rows, key=key)
    commit_table(repository, "t", pa.table({"id": [1, 2, 3], "x": [1.0, 2.0, 3.0]}))
    with pytest.raises(Invalid, match="not unique"):
        commit_table(repository, "t", twice)


def test_several_columns_can_be_the_key(tmp_path: Path) -> None:
    repository = open_repository(str(tmp_path))
    rows = pa.table({"a": ["x", "x", "y"], "b": [1, 2, 1], "v": [1.0, 2.0, 3.0]})
    commit_table(repository, "t", rows, key=["a", "b"])
    made = commit_table(repository, "t", rows.set_column(2, "v", pa.array([1.0, 5.0, 3.0])).take([2, 1, 0]), key=["a", "b"])
    assert table_of(repository, made).read().sort_by([("a", "ascending"), ("b", "ascending")])["v"].to_pylist() == [
        1.0,
        5.0,
        3.0,
    ]


def test_without_a_key_both_sides_cannot_be_merged(tmp_path: Path) -> None:
    repository, rows = open_repository(str(tmp_path)), pa.table({"a": [1, 2, 3]})
    commit_table(repository, "t", rows, key=())
    repository.branch("t", "dev")
    commit_table(repository, "t", pa.table({"a": [1, 2, 4]}), key=())
    commit_table(repository, "t", pa.table({"a": [5, 2, 3]}), key=(), branch="dev")
    with repository.writing() as writing:
        with pytest.raises(MergeConflict) as refused:
            merge(repository, writing, "t", repository.refs("t").branches["dev"])
        assert refused.value.paths == [PATH]
        made, _ = merge(repository, writing, "t", repository.refs("t").branches["dev"], strategy="theirs")
    assert table_of(repository, made).read()["a"].to_pylist() == [5, 2, 3]


def test_a_clone_has_the_rows_and_damage_is_found(tmp_path: Path) -> None:
    here, there = open_repository(str(tmp_path / "here")), open_repository(str(tmp_path / "there"))
    rows = big(5000)
    commit_table(here, "t", rows, scale=64)
    commit_table(here, "t", changed(rows, 20), scale=64)
    pull(there, here, "t")
    assert table_of(there, there.version("t")).read().equals(changed(rows, 20))
    assert table_of(there, there.version("t", "1")).read().equals(rows)
    pack = max((tmp_path / "there" / "packs").rglob("*.pack"), key=lambda p: p.stat().st_size)
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 1
    pack.write_bytes(data)
    faults = verify(open_repository(str(tmp_path / "there"))).faults
    assert faults and faults[0].path.startswith(f"{PATH}/")


def test_what_pretends_to_be_a_table_is_refused(tmp_path: Path) -> None:
    repository = open_repository(str(tmp_path / "store"))
    made = commit_table(repository, "t", big(100), scale=1)
    files = repository.manifest(made.commit.root)
    head, (fragment,) = f"{PATH}/_table.json", [p for p in files if "/fragments/" in p]
    text = b"".join(repository.read(files[head]))
    for said, change in {
        "does not describe": {head: b"{}"},
        "newer Noria": {head: text.replace(b'"layout":1', b'"layout":9')},
        "lacks": {fragment: None},
        "is no Parquet file": {fragment: b"PAR1 is not enough"},
        "does not add up": {head: text.replace(b'"live":100', b'"live":101')},
        "counts the rows": {head: text.replace(b'"live":100', b'"live":99')},
        "is not the fragment": {head: text.replace(b'"rows":100,"live":100', b'"rows":99,"live":99')},
        "no part of the table": {f"{PATH}/more": b"x"},
        "no column 'ix'": {head: text.replace(b'"id"', b'"ix"', 1)},
    }.items():
        source = tmp_path / "source"
        source.mkdir()
        places = {}
        for i, (path, data) in enumerate(({p: b"".join(repository.read(f)) for p, f in files.items()} | change).items()):
            if data is not None:
                places[path] = source / str(i)
                places[path].write_bytes(data)
        with repository.writing() as writing, pytest.raises(Invalid, match=said):
            writing.commit("t", gather(writing, places).files, NewCommit())
        shutil.rmtree(source)
    assert repository.version("t").id == made.id
