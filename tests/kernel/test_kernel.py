"""The kernel's promises: ids, handles, transactions, facts, edges, paging."""

from __future__ import annotations

import threading

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Struct

from noria.kernel import edges
from noria.kernel.db import Read, js
from noria.kernel.errors import Conflict, Forbidden, Invalid, Unauthenticated
from noria.kernel.events import Event, Pump, cause_chain, events_after
from noria.kernel.ids import Ref, check_name, new_id, parse_handle
from noria.kernel.op import NOBODY
from noria.kernel.paging import decode_token, encode_token
from noria.kernel.secrets import Secret
from noria.kernel.ticks import Ticks
from tests.conftest import Noria


def test_ids_sort_by_time_and_are_uuid7() -> None:
    ids = [new_id(at) for at in (1, 2, 1_700_000_000_000, 1_700_000_000_001)]
    assert ids == sorted(ids)
    assert all(len(i) == 32 and i[12] == "7" and i[16] in "89ab" for i in ids)


@pytest.mark.parametrize(
    ("text", "name", "selector"),
    [("flights", "flights", ""), ("flights@3", "flights", "3"), ("model:flights@champion", "flights", "champion")],
)
def test_a_handle_is_read(text: str, name: str, selector: str) -> None:
    handle = parse_handle(text, kind="model")
    assert (handle.name, handle.selector) == (name, selector)


@pytest.mark.parametrize("text", ["", "dataset:flights", "a@b@c", "@3", "model:"])
def test_a_wrong_handle_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        parse_handle(text, kind="model")


@pytest.mark.parametrize("name", ["", " ", " a", "a ", "a\n", "a\u2003", "a/b", "a:b", "a@b", "a\0b", ".", ".."])
def test_a_name_that_nobody_can_type_is_refused(name: str) -> None:
    with pytest.raises(Invalid):
        check_name(name, what="model")


@given(st.text(max_size=300))
@example("0\n")
@example("a b")
def test_an_accepted_name_comes_back_from_its_handle(name: str) -> None:
    try:
        check_name(name, what="model")
    except Invalid:
        return
    assert parse_handle(f"model:{name}@1", kind="model").name == name
    assert parse_handle(name, kind="model").name == name


@given(st.lists(st.one_of(st.integers(-(2**53), 2**53), st.text(max_size=20), st.none()), min_size=1, max_size=4))
def test_a_page_token_comes_back(key: list[object]) -> None:
    assert decode_token(encode_token(*key), size=len(key)) == key


@pytest.mark.parametrize("token", ["x", "!!!", "WzFd", "e30"])
def test_a_damaged_page_token_is_refused(token: str) -> None:
    with pytest.raises(Invalid):
        decode_token(token, size=2)


def test_a_secret_does_not_show_itself() -> None:
    secret = Secret("hunter2")
    assert "hunter2" not in f"{secret} {secret!r} {[secret]}"
    assert secret.matches("hunter2") and not secret.matches("hunter3")


class Row(Struct):
    src: str
    protects: bool


def test_a_failed_transaction_leaves_nothing(noria: Noria) -> None:
    with pytest.raises(RuntimeError), noria.app.db.write(noria.op()) as tx:
        tx.link(Ref("run", "1"), "read", Ref("dataset_version", "2"))
        tx.emit("session.started", Ref("principal", "1"))
        raise RuntimeError("boom")
    assert noria.facts() == []
    with noria.app.db.read() as tx:
        assert edges.walk(tx, Ref("run", "1")) == []


def test_facts_are_dense_under_concurrent_writers(noria: Noria) -> None:
    def write(i: int) -> None:
        for _ in range(20):
            with noria.app.db.write(noria.op(f"writer {i}")) as tx:
                tx.emit("session.started", Ref("principal", str(i)))
                tx.emit("session.ended", Ref("principal", str(i)))

    threads = [threading.Thread(target=write, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [e.seq for e in noria.facts()] == list(range(1, 161))


def test_facts_cannot_be_changed_even_by_sql(noria: Noria) -> None:
    with noria.app.db.write(noria.op()) as tx:
        tx.emit("session.started", Ref("principal", "1"))
    for sql in ("update event set actor = 'mallory'", "delete from event"):
        with pytest.raises(Exception, match="never changed"), noria.app.db.system_write() as tx:
            tx.run(sql)
    assert len(noria.facts()) == 1


def test_an_undeclared_fact_is_our_mistake(noria: Noria) -> None:
    with pytest.raises(AssertionError), noria.app.db.write(noria.op()) as tx:
        tx.emit("run.exploded", Ref("run", "1"))
    with pytest.raises(AssertionError), noria.app.db.write(noria.op()) as tx:
        tx.emit("session.started", Ref("run", "1"), colour="red")


def test_text_that_one_database_would_change_is_refused_by_both(noria: Noria) -> None:
    for value in ("a\x00b", "\ud800", 2**63, -(2**63) - 1):
        with pytest.raises(Invalid), noria.app.db.read() as tx:
            tx.scalar("select :value", value=value)


def test_a_list_parameter_expands(noria: Noria) -> None:
    with noria.app.db.write(noria.op()) as tx:
        for i in range(3):
            tx.link(Ref("a", str(i)), "k", Ref("b", "1"), protects=i == 2)
    with noria.app.db.read() as tx:
        found = tx.all(Row, "select src, protects from edge where src in :refs order by src limit 10", refs=["a:0", "a:2"])
        none = tx.all(Row, "select src, protects from edge where src in :refs limit 10", refs=[])
    assert found == [Row("a:0", False), Row("a:2", True)]
    assert none == []


def test_what_is_protected_says_what_needs_it(noria: Noria) -> None:
    with noria.app.db.write(noria.op()) as tx:
        tx.link(Ref("revision", "9"), "serves", Ref("model_version", "7"), protects=True)
        with pytest.raises(Conflict, match=r"revision:9 \(serves\)"):
            edges.require_unprotected(tx, Ref("model_version", "7"))
        tx.unlink(Ref("revision", "9"), "serves", Ref("model_version", "7"))
        edges.require_unprotected(tx, Ref("model_version", "7"))


def test_a_walk_goes_both_ways_as_far_as_asked(noria: Noria) -> None:
    with noria.app.db.write(noria.op()) as tx:
        for src, dst in (("a", "b"), ("b", "c"), ("c", "d"), ("x", "b")):
            tx.link(Ref("n", src), "to", Ref("n", dst))
    with noria.app.db.read() as tx:
        near = {(e.src, e.dst) for e in edges.walk(tx, Ref("n", "a"), depth=1)}
        far = {(e.src, e.dst) for e in edges.walk(tx, Ref("n", "a"), depth=3)}
    assert near == {("n:a", "n:b")}
    assert far == {("n:a", "n:b"), ("n:b", "n:c"), ("n:c", "n:d"), ("n:x", "n:b")}


def test_a_cause_is_a_walk(noria: Noria) -> None:
    op = noria.op()
    for i in range(3):
        with noria.app.db.write(op) as tx:
            tx.emit("session.started", Ref("principal", str(i)))
        op = op.because(i + 1)
    with noria.app.db.read() as tx:
        assert [e.subject for e in cause_chain(tx, 3)] == ["principal:0", "principal:1", "principal:2"]


class Recorder:
    """A subscriber that fails once, at its second fact."""

    name = "recorder"

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.fail_at: int | None = None

    def interest(self, _: Read) -> frozenset[str]:
        return frozenset({"session.started"})

    def handle(self, event: Event) -> None:
        if event.seq == self.fail_at:
            self.fail_at = None
            raise RuntimeError("boom")
        self.seen.append(event.seq)


def test_a_subscriber_is_told_again_in_order_after_a_crash(noria: Noria) -> None:
    for kind in ("session.started", "session.ended", "session.started", "session.started"):
        with noria.app.db.write(noria.op()) as tx:
            tx.emit(kind, Ref("principal", "1"))
    recorder = Recorder()
    recorder.fail_at = 3
    pump = Pump(noria.app.db, [recorder], [])
    with pytest.raises(RuntimeError):
        pump.drain()
    again = Pump(noria.app.db, [recorder], [])  # a new process: the cursor is in the database
    again.drain()
    assert recorder.seen == [1, 3, 4]
    with noria.app.db.read() as tx:
        assert len(events_after(tx, 0)) == 4


def test_ticks_are_coalesced_per_subject() -> None:
    ticks = Ticks()
    for step in range(100):
        ticks.tick(Ref("run", "1"), {"step": step})
    ticks.tick(Ref("run", "2"), {"step": 5})
    assert [(t.subject, t.data["step"]) for t in ticks.since(0)] == [("run:1", 99), ("run:2", 5)]
    assert [t.subject for t in ticks.since(100)] == ["run:2"]
    assert ticks.since(ticks.version) == []


def test_nobody_is_unauthenticated_and_somebody_is_forbidden(noria: Noria) -> None:
    with pytest.raises(Unauthenticated):
        noria.app.ops.mint(NOBODY).require("run.read")
    noria.as_("bob", "predictor")
    bob = next(p for p in noria.app.access.principals(noria.system()) if p.name == "bob")
    from noria.kernel.op import Actor

    with pytest.raises(Forbidden):
        noria.app.ops.mint(Actor(kind="service", id=bob.id, name="bob")).require("run.read")


def test_json_columns_are_text_on_both(noria: Noria) -> None:
    assert js({"a": [1, None, "ü"]}) == '{"a":[1,null,"ü"]}'


def test_the_newest_revision_is_the_head_of_the_chain() -> None:
    """`newest()` reads the names of files, so that a start need not load what migrates."""
    from noria import migrations

    assert migrations.newest() == migrations._scripts().get_current_head()


def test_what_is_read_again_and_again_is_prepared_once(noria: Noria) -> None:
    """On PostgreSQL, that the end of a reading transaction does not throw its prepared statements away."""
    asked = "select seq from event_cursor where name = :name"
    for _ in range(10):
        with noria.app.db.read() as tx:
            tx.rows(asked, name="x")
    if noria.app.db.dialect == "postgresql":
        with noria.app.db.read() as tx:
            prepared = tx.column("select statement from pg_prepared_statements")
        assert any(asked.split(" where ")[0] in statement for statement in prepared), prepared
