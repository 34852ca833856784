"""Another key takes over in the open, and what the old one signed stays verifiable."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from noria.governance import audit, verify
from noria.governance.key_rotation import message_of
from noria.governance.keys import KEY_FILE, Signer, begin_rotation, load_signer
from noria.kernel.errors import Unavailable
from noria.registry.model import ModelVersion
from tests.conftest import Noria
from tests.governance.test_audit import export, people, run_verifier, verified
from tests.governance.test_provenance import cli, on_disk

__all__ = ["cli"]
AWAY = "away"


def rotate(noria: Noria, name: str = "audit", **how: object) -> str:
    answer = noria.http.post(f"/api/v1/keys/{name}/rotate", json={"reason": "yearly", **how})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["public"][0])


def key_of(noria: Noria) -> str:
    return str(noria.http.get("/api/v1/audit/key").text.splitlines()[0])


@pytest.fixture
def sealed(noria: Noria) -> Noria:
    people(noria, 2)
    noria.settle()
    return noria


def test_both_keys_sign_the_change_and_the_old_one_is_destroyed(sealed: Noria) -> None:
    old = load_signer(sealed.config.home, create=False)
    new = rotate(sealed)
    assert new != str(old.key) and new.partition("+")[0] == old.origin  # one log, whichever key
    (fact,) = sealed.facts("key.rotated")
    assert (fact.subject, fact.data["old"], fact.data["new"], fact.data["reason"]) == (
        "key:audit",
        str(old.key),
        new,
        "yearly",
    )
    for name in ("old", "new"):
        signature = base64.b64decode(fact.data[f"by_{name}"])
        assert verify.ed25519_verify(
            verify.parse_key(fact.data[name]).public, message_of("audit", str(old.key), new), signature
        )
    people(sealed, 1, name="after")
    sealed.settle()
    notes = [verify.parse_note(c["note"]) for c in sealed.http.get("/api/v1/audit/checkpoints").json()["items"]]
    assert [len(n.signatures) for n in notes] == [1, 2, 1]
    assert str(load_signer(sealed.config.home, create=False).key) == new
    assert not list((sealed.config.home / "keys").glob("*.next")) and str(old.private) not in "".join(
        p.read_text() for p in (sealed.config.home / "keys").glob("*.key")
    )
    assert verified(sealed)["is_intact"]


def test_whoever_has_the_old_key_comes_to_trust_the_new_one(sealed: Noria, tmp_path: Path) -> None:
    first = key_of(sealed)
    before = export(sealed, tmp_path / "before")
    second = rotate(sealed)
    third = rotate(sealed)
    people(sealed, 1, name="after")
    folder = export(sealed, tmp_path / "export")
    for given in (first, second, third, f"{third}\n{second}\n{first}"):
        (folder / "audit.pub").write_text(given)
        code, text = run_verifier(folder)
        assert code == 0, (given, text)
    (before / "audit.pub").write_text(f"{third}\n{second}\n{first}")
    code, text = run_verifier(before)  # from before the change: by the key of then, which is said
    assert code == 0 and "was replaced since" in text
    (before / "audit.pub").write_text(third)
    assert run_verifier(before)[0] == 1
    # Without the checkpoints between, nothing shows that the old one handed over.
    (folder / "audit.pub").write_text(first)
    (folder / "checkpoints.jsonl").unlink()
    code, text = run_verifier(folder)
    assert code == 1 and "no key that you gave handed over" in text


def test_the_handover_is_in_an_export_however_long_ago_it_was(
    sealed: Noria, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "CHECKPOINTS_COMPARED", 1)
    first = key_of(sealed)
    rotate(sealed)
    for name in ("b", "c", "d", "e"):
        people(sealed, 1, name=name)
        sealed.settle()
    folder = export(sealed, tmp_path / "export")
    (folder / "audit.pub").write_text(first)
    code, text = run_verifier(folder)
    assert code == 0, text
    assert len((folder / "checkpoints.jsonl").read_text().splitlines()) == 1 + audit.HANDOVERS


def test_a_leaked_old_key_hands_over_to_nobody_else(sealed: Noria, tmp_path: Path) -> None:
    """Who stole the old private key writes a history in which it hands over to a key of the thief's."""
    old = load_signer(sealed.config.home, create=False)
    new = rotate(sealed)
    folder = export(sealed, tmp_path / "export")
    thief = Signer.new(old.origin)
    lines = (folder / "events.jsonl").read_bytes().replace(new.encode(), str(thief.key).encode()).splitlines()
    tree = verify.Tree()
    for line in lines:
        tree.append(verify.leaf_hash(line))
    (folder / "events.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
    (folder / "checkpoint.txt").write_text(old.checkpoint(tree.size, tree.root(), also=thief))
    for name in ("hashes.txt", "checkpoints.jsonl"):
        (folder / name).unlink()
    for given, expected in ((new, 1), (f"{new}\n{old.key}", 1), (str(old.key), 0)):  # only who knows no better is fooled
        (folder / "audit.pub").write_text(given)
        code, text = run_verifier(folder)
        assert code == expected, text


def test_a_lost_key_is_given_up_in_the_open(sealed: Noria, tmp_path: Path) -> None:
    first = key_of(sealed)
    assert sealed.http.post("/api/v1/keys/audit/rotate", json={"lost": True}).status_code == 409
    (sealed.config.home / KEY_FILE).unlink()
    refused = sealed.http.post("/api/v1/keys/audit/rotate", json={})
    assert refused.status_code == 503 and "--lost" in refused.json()["error"]["hint"]
    second = rotate(sealed, lost=True)
    people(sealed, 1, name="after")
    folder = export(sealed, tmp_path / "export")
    (folder / "audit.pub").write_text(first)
    code, text = run_verifier(folder)
    assert code == 1 and "handed over" in text
    (folder / "audit.pub").write_text(second)
    code, text = run_verifier(folder)
    assert code == 0 and "was lost and replaced at fact" in text
    assert verified(sealed)["is_intact"]


def test_a_rotation_that_was_cut_short_is_finished(sealed: Noria) -> None:
    """Stopped after the fact and before the file moved: the next turn of the sealer goes on from there."""
    old = load_signer(sealed.config.home, create=False)
    fresh = begin_rotation(sealed.config.home, KEY_FILE, Signer, old.origin)
    sealed.settle()
    assert key_of(sealed) == str(old.key)  # begun, and not announced: nothing changes
    assert rotate(sealed) == str(fresh.key)

    again = begin_rotation(sealed.config.home, KEY_FILE, Signer, old.origin)
    from noria.governance.key_rotation import announce

    announce(sealed.app.db, sealed.op(), "audit", old=str(fresh.key), fresh=again, by=fresh, reason="")
    sealed.settle()
    assert key_of(sealed) == str(again.key) and verified(sealed)["is_intact"]


def test_what_old_keys_signed_of_models_stays_verifiable(
    noria: Noria, given_version: Callable[..., ModelVersion], cli: Callable[..., Result], tmp_path: Path
) -> None:
    assert noria.http.post("/api/v1/keys/models/rotate", json={}).status_code == 409  # none yet
    given_version()
    noria.app.provenances.reconcile()
    for name in ("models", "signatures"):
        assert cli("key", "rotate", name, "--yes").exit_code == 0
    given_version()
    noria.app.provenances.reconcile()
    listed = {k["name"]: k for k in json.loads(cli("key", "list", "--json").output)}
    assert [len(listed[n]["public"]) for n in ("models", "signatures")] == [2, 2]
    for number in (1, 2):
        assert cli("model", "verify", f"flights@{number}").exit_code == 0
        sig = tmp_path / f"{number}.sig"
        cli("model", "sign", f"flights@{number}", "--output", sig, "--pub", tmp_path / f"{number}.pub")
        assert cli("model", "verify", f"flights@{number}", "--signature", sig).exit_code == 0
        offline = ("--folder", on_disk(tmp_path / "model"), "--signature", sig, "--pub", tmp_path / f"{number}.pub")
        assert cli("model", "verify", f"flights@{number}", *offline).exit_code == 0
    assert (tmp_path / "1.pub").read_text() != (tmp_path / "2.pub").read_text()
    assert [f.subject for f in noria.facts("key.rotated")] == ["key:models", "key:signatures"]


def test_only_an_administrator_changes_keys(sealed: Noria) -> None:
    auditor = sealed.as_("a", "auditor")
    assert [k["state"] for k in auditor.get("/api/v1/keys").json()["items"]] == ["ready", "none yet", "none yet"]
    assert auditor.post("/api/v1/keys/audit/rotate", json={}).status_code == 403
    assert sealed.as_("v", "viewer").get("/api/v1/keys").status_code == 403
    assert sealed.http.post("/api/v1/keys/other/rotate", json={}).status_code == 404
    with pytest.raises(Unavailable, match="missing"):
        load_signer(sealed.config.home / AWAY, create=False)
