"""Name and password with every request: right ones are remembered for a while, and dropped when they are no longer right."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from noria.access import passwords, service
from noria.access.model import NewPrincipal
from noria.access.proven import PROVEN_MAX, PROVEN_S, ProvenPasswords
from noria.access.service import HASHES_AT_ONCE
from noria.kernel.clock import ManualClock
from tests.conftest import Noria

RIGHT = "correct horse battery"


@pytest.fixture
def ada(noria: Noria) -> str:
    new = NewPrincipal(name="ada", kind="user", password=RIGHT, roles=["admin"])
    noria.app.access.create_principal(noria.system(), new)
    return "ada"


def ask(noria: Noria, name: str, password: str) -> httpx.Response:
    """A request with Basic credentials, as MLflow's client sends them."""
    sent = base64.b64encode(f"{name}:{password}".encode()).decode()
    return noria.client().get("/api/2.0/mlflow/experiments/get?experiment_id=0", headers={"authorization": f"Basic {sent}"})


@contextmanager
def no_hashing(noria: Noria) -> Iterator[None]:
    """Every place at the hash function is taken: who needs it is told to come back, here without a long wait."""
    for _ in range(HASHES_AT_ONCE):
        assert noria.app.access._hashing.acquire(timeout=5)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(service, "HASH_WAIT_S", 0.2)
            yield
    finally:
        for _ in range(HASHES_AT_ONCE):
            noria.app.access._hashing.release()


def test_a_password_that_was_right_a_moment_ago_is_not_hashed_again(noria: Noria, ada: str) -> None:
    assert ask(noria, ada, RIGHT).status_code == 200
    with no_hashing(noria):
        assert ask(noria, ada, RIGHT).status_code == 200
        assert ask(noria, ada, RIGHT + "x").status_code == 429, "what was never right has to be hashed"
        noria.clock.advance(PROVEN_S + 1)
        assert ask(noria, ada, RIGHT).status_code == 429


def test_a_wrong_password_is_refused_beside_a_right_one(noria: Noria, ada: str) -> None:
    assert ask(noria, ada, RIGHT).status_code == 200
    for name, password in ((ada, ""), (ada, RIGHT.upper()), ("adac", RIGHT[1:]), ("nobody", RIGHT), ("", RIGHT)):
        answer = ask(noria, name, password)
        assert (answer.status_code, answer.json()["error_code"]) == (401, "UNAUTHENTICATED"), (name, password)


def test_a_changed_password_and_a_disabled_user_are_refused_at_once(noria: Noria, ada: str) -> None:
    bob = NewPrincipal(name="bob", kind="user", password=RIGHT, roles=["viewer"])
    noria.app.access.create_principal(noria.system(), bob)
    assert ask(noria, ada, RIGHT).status_code == ask(noria, "bob", RIGHT).status_code == 200
    with noria.app.db.write(noria.system()) as tx:  # as another process would
        tx.run("update principal set password_hash = :hash where name = 'ada'", hash=passwords.hashed("another one"))
    assert ask(noria, ada, RIGHT).status_code == 401
    assert ask(noria, ada, "another one").status_code == 200
    noria.app.access.disable_principal(noria.system(), "bob")
    assert ask(noria, "bob", RIGHT).status_code == 401


def test_what_is_remembered_is_bounded_and_holds_no_password() -> None:
    proven = ProvenPasswords(ManualClock())
    for i in range(PROVEN_MAX + 10):
        proven.note(f"user{i}", RIGHT, f"hash{i}")
    assert len(proven._proven) == PROVEN_MAX
    assert not proven.holds("user0", RIGHT, "hash0") and proven.holds("user20", RIGHT, "hash20")
    assert not proven.holds("user20", RIGHT, "hash21") and not proven.holds("user2", "0" + RIGHT, "hash20")
    assert RIGHT.encode() not in repr(proven._proven).encode()
