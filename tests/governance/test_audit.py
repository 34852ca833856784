"""What happened, so that it can be shown."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.governance import audit, audit_store, tree, verify
from noria.governance.keys import KEY_FILE
from noria.governance.leaves import leaf_bytes
from noria.kernel.clock import ManualClock
from noria.kernel.errors import Conflict, Unavailable
from tests.conftest import Noria


def people(noria: Noria, count: int = 6, *, name: str = "robot") -> None:
    """Make facts: each person makes two."""
    for i in range(count):
        made = noria.http.post("/api/v1/principals", json={"name": f"{name}-{i}-ü", "kind": "service", "roles": ["viewer"]})
        assert made.status_code == 200, made.text


def tamper(noria: Noria, *statements: str) -> None:
    """Change rows as somebody with the database password would: the triggers first."""
    with noria.app.db.engine.begin() as connection:
        if noria.app.db.dialect == "sqlite":
            connection.exec_driver_sql("drop trigger if exists event_no_update")
            connection.exec_driver_sql("drop trigger if exists event_no_delete")
        else:
            connection.exec_driver_sql("alter table event disable trigger all")
        for statement in statements:
            connection.execute(sa.text(statement))


def verified(noria: Noria) -> Any:
    answer = noria.http.post("/api/v1/audit/verify")
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_facts_are_sealed_and_verify(noria: Noria) -> None:
    people(noria)
    noria.settle()
    report = verified(noria)
    assert report["is_intact"] and report["facts"] == report["sealed"] == 12 and not report["faults"]
    status = noria.http.get("/api/v1/audit/status").json()
    assert status["checkpoint"]["size"] == 12 and status["public_key"].startswith("noria/")


def test_an_empty_log_is_intact(noria: Noria) -> None:
    noria.settle()
    assert verified(noria)["is_intact"]


EDIT = "update event set actor = 'user:eve' where seq = 5"
INSERT = """insert into event (seq, at_ms, kind, subject, actor, op_id, cause, workspace, data)
            select 5, at_ms, kind, subject, 'user:eve', op_id, cause, workspace, data from event where seq = 4"""
MAKE_ROOM = ["update event set seq = -seq - 1 where seq >= 5", "update event set seq = -seq where seq < 0"]
CLOSE_GAP = ["update event set seq = 1 - seq where seq > 5", "update event set seq = -seq where seq < 0"]
SWAP = [f"update event set seq = {a} where seq = {b}" for a, b in ((-1, 5), (5, 8), (8, -1))]


@pytest.mark.parametrize(
    ("statements", "kind", "seq"),
    [
        ([EDIT], "edited", 5),
        (["update event set at_ms = at_ms - 86400000 where seq = 7"], "edited", 7),
        (["update event set data = '{}' where seq = 3"], "edited", 3),
        (["delete from event where seq = 5"], "removed", 5),
        (["delete from event where seq = 5", *CLOSE_GAP], "edited", 5),
        ([*MAKE_ROOM, INSERT], "edited", 5),
        (SWAP, "edited", 5),
        (["delete from event where seq > 9"], "cut", 10),
    ],
)
def test_tampering_with_the_live_log_names_the_first_bad_fact(
    noria: Noria, statements: list[str], kind: str, seq: int
) -> None:
    people(noria)
    noria.settle()
    tamper(noria, *statements)
    report = verified(noria)
    assert not report["is_intact"]
    assert (kind, seq) in [(f["kind"], f["seq"]) for f in report["faults"]]
    assert min(f["seq"] for f in report["faults"] if f["seq"]) == seq


def test_tampering_with_fact_and_stored_tree_alike_is_bounded_by_older_checkpoints(noria: Noria) -> None:
    for name in ("ada", "bob", "eve"):
        people(noria, 1, name=name)
        noria.settle()
    tamper(noria, EDIT)
    with noria.app.db.read() as tx:
        row = audit_store.raw_events(tx, 4, upto=5, limit=1)[0]
    forged = verify.leaf_hash(leaf_bytes(row)).hex()
    tamper(noria, f"update audit_node set hash = '{forged}' where pos = 8")
    fault = verified(noria)["faults"][0]
    assert fault["kind"] == "changed" and fault["seq"] <= 5 and "between" in fault["message"]


def test_the_triggers_refuse_changes(noria: Noria) -> None:
    people(noria, 1)
    for statement in ("update event set actor = 'x'", "delete from event"):
        with pytest.raises(sa.exc.DBAPIError, match="never changed"), noria.app.db.engine.begin() as connection:
            connection.execute(sa.text(statement))


def test_a_rewritten_database_is_not_signed_again(noria: Noria) -> None:
    people(noria)
    noria.settle()
    wipe = [EDIT, "delete from audit_node", "delete from audit_tree", "delete from checkpoint"]
    tamper(noria, *wipe)
    with pytest.raises(Conflict, match="rewritten or restored"):
        noria.app.audit.seal()
    restarted = audit.Audit(noria.app.db, noria.app.ops, noria.app.blobs, noria.config.home)
    with pytest.raises(Conflict, match="rewritten or restored"):
        restarted.seal()
    restarted.reconcile()  # says so in the log, and lets the other reconcilers work
    assert verified(noria)["faults"][0]["kind"] in ("changed", "edited")


def test_without_its_key_sealing_stops_and_work_goes_on(noria: Noria) -> None:
    people(noria, 1)
    noria.settle()
    (noria.config.home / KEY_FILE).rename(noria.config.home / "away")
    noria.as_("late")
    with pytest.raises(Unavailable, match="missing"):
        noria.app.audit.seal()
    for _ in range(2):  # said once, where whoever is told of facts hears it
        noria.app.audit.reconcile()
    (stopped,) = noria.facts("audit.sealing_stopped")
    assert "is missing" in stopped.data["reason"]
    status = noria.http.get("/api/v1/audit/status").json()
    assert "is missing" in status["problem"] and status["facts"] > status["sealed"]
    noria.as_("later")  # work goes on
    (noria.config.home / "away").rename(noria.config.home / KEY_FILE)
    noria.settle()
    assert len(noria.facts("audit.sealing_resumed")) == 1
    status = noria.http.get("/api/v1/audit/status").json()
    assert (status["problem"], status["sealed"]) == ("", len(noria.facts()))
    assert verified(noria)["is_intact"]


def test_the_key_is_for_its_owner_only(noria: Noria) -> None:
    people(noria, 1)
    noria.settle()
    path = noria.config.home / KEY_FILE
    assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o777 == 0o700


def test_the_log_is_explored_by_kind_actor_subject_and_time(noria: Noria, clock: ManualClock) -> None:
    people(noria, 3)
    clock.advance(60)
    later = clock.now_ms()
    people_of = noria.http.get("/api/v1/audit", params={"kinds": "principal.*"}).json()["items"]
    assert [e["kind"] for e in people_of] == ["principal.created"] * 3
    noria.http.post("/api/v1/tokens", json={"name": "t"})
    asked = {"from_ms": later, "kinds": "token.*"}
    assert [e["kind"] for e in noria.http.get("/api/v1/audit", params=asked).json()["items"]] == ["token.created"]
    assert not noria.http.get("/api/v1/audit", params={"actor": "user:eve"}).json()["items"]
    subject = people_of[0]["subject"]
    assert len(noria.http.get("/api/v1/audit", params={"subject": subject}).json()["items"]) == 2
    asked = {"limit": 4, "to_ms": later}
    page = noria.http.get("/api/v1/audit", params=asked).json()
    rest = noria.http.get("/api/v1/audit", params={**asked, "page": page["next"]}).json()
    assert [e["seq"] for e in page["items"] + rest["items"]] == [6, 5, 4, 3, 2, 1]
    assert noria.http.get("/api/v1/audit", params={"kinds": "no.such"}).status_code == 400


def test_whoever_looks_into_the_log_is_in_it(noria: Noria) -> None:
    """The auditor is audited too: what they asked is a fact, once in ten minutes for the same question."""
    auditor = noria.as_("a", "auditor")
    asked = {"kinds": "principal.*", "actor": "user:ada"}
    for _ in range(3):
        assert auditor.get("/api/v1/audit", params=asked).status_code == 200
    auditor.get("/api/v1/audit", params={"subject": "model:fraud"})
    noria.settle()
    auditor.get("/api/v1/audit/proof/1")
    auditor.post("/api/v1/audit/verify")
    read = noria.facts("audit.read")
    assert {f.actor for f in read} == {"service:a"}
    assert [(f.data["what"], f.data["kinds"], f.data["about"], f.data["by"]) for f in read] == [
        ("facts", "principal.*", "", "user:ada"), ("facts", "", "model:fraud", ""), ("proof", "", "", ""),
        ("verification", "", "", ""),
    ]  # fmt: skip
    for part in ("events", "personal", "ocsf"):
        assert auditor.get(f"/api/v1/audit/exports/1/{part}").status_code == 200
    assert [f.data["what"] for f in noria.facts("audit.read")][4:] == ["export"]
    noria.clock.advance(601)
    auditor.get("/api/v1/audit", params=asked)
    assert len(noria.facts("audit.read")) == 6


def test_only_who_may_reads_the_audit_log(noria: Noria) -> None:
    viewer, auditor = noria.as_("v", "viewer"), noria.as_("a", "auditor")
    assert viewer.get("/api/v1/audit").status_code == 403
    assert viewer.post("/api/v1/audit/exports").status_code == 403
    assert auditor.get("/api/v1/audit").status_code == 200
    noria.settle()
    assert auditor.post("/api/v1/audit/exports").status_code == 200
    assert noria.facts("audit.exported")[0].actor == "service:a"


# --- offline ----------------------------------------------------------------------------------------------------------


def export(noria: Noria, folder: Path) -> Path:
    noria.settle()
    size = noria.http.post("/api/v1/audit/exports").json()["size"]
    checkpoint = noria.http.get("/api/v1/audit/checkpoints", params={"limit": 1}).json()["items"][0]
    assert checkpoint["size"] == size
    folder.mkdir(exist_ok=True)
    (folder / "checkpoint.txt").write_text(checkpoint["note"])
    (folder / "audit.pub").write_text(noria.http.get("/api/v1/audit/key").text)
    for part, name in (("events", "events.jsonl"), ("hashes", "hashes.txt"), ("checkpoints", "checkpoints.jsonl")):
        (folder / name).write_bytes(noria.http.get(f"/api/v1/audit/exports/{size}/{part}").content)
    return folder


def run_verifier(folder: Path) -> tuple[int, str]:
    """Run the one file with an isolated interpreter: no site-packages, so nothing but the standard library."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(Path(verify.__file__)), str(folder / "events.jsonl"),
         str(folder / "checkpoint.txt"), "--pub", str(folder / "audit.pub")],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_an_export_verifies_with_the_standard_library_alone(noria: Noria, tmp_path: Path) -> None:
    people(noria)
    noria.http.post("/api/v1/models", json={"name": "flights", "description": "für alle Flughäfen"})
    folder = export(noria, tmp_path / "export")
    code, text = run_verifier(folder)
    assert code == 0 and text.startswith("INTACT  13 facts"), text
    assert b"\xc3\xbc" in (folder / "events.jsonl").read_bytes()  # UTF-8, not escaped


def changed(lines: list[bytes], how: str) -> list[bytes]:
    """The export after somebody was at it, at index 4."""
    other = list(lines)
    if how == "edited":
        other[4] = other[4].replace(b"local admin", b"somebody")
    elif how == "removed":
        del other[4]
    elif how == "inserted":
        other.insert(4, other[3].replace(b"local admin", b"somebody"))
    elif how == "moved":
        other[4], other[8] = other[8], other[4]
    elif how == "cut":
        del other[4:]
    elif how == "clock":
        fact = json.loads(other[4])
        other[4] = json.dumps(
            fact | {"at_ms": fact["at_ms"] - 7_200_000}, separators=(",", ":"), ensure_ascii=False
        ).encode()
    return other


@pytest.mark.parametrize("with_hashes", [True, False])
@pytest.mark.parametrize("how", ["edited", "removed", "inserted", "moved", "cut", "clock"])
def test_the_offline_verifier_names_the_first_bad_fact(noria: Noria, tmp_path: Path, how: str, with_hashes: bool) -> None:
    people(noria, 2)
    noria.settle()  # a checkpoint at 4 bounds what cannot be placed exactly
    people_more(noria)
    folder = export(noria, tmp_path / "export")
    lines = (folder / "events.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "events.jsonl").write_bytes(b"".join(changed([x.rstrip(b"\n") + b"\n" for x in lines], how)))
    if not with_hashes:
        (folder / "hashes.txt").unlink()
    code, text = run_verifier(folder)
    assert code == 1, text
    assert "[index 4]" in text.splitlines()[0], text
    if with_hashes and how != "clock":
        assert {"edited": "was edited", "removed": "was removed", "inserted": "was inserted", "moved": "were reordered",
                "cut": "ends after fact 4"}[how] in text  # fmt: skip


def people_more(noria: Noria) -> None:
    for i in range(4):
        noria.http.post("/api/v1/principals", json={"name": f"more-{i}", "kind": "service", "roles": ["viewer"]})


def test_a_clock_that_went_back_is_noted(noria: Noria, clock: ManualClock, tmp_path: Path) -> None:
    people(noria, 1)
    clock.advance(-7200)
    noria.as_("late")
    folder = export(noria, tmp_path / "export")
    code, text = run_verifier(folder)
    assert code == 0 and "The clock went back by 7200 s at fact 3." in text
    assert verified(noria)["warnings"][0]["seq"] == 3


def test_a_checkpoint_by_another_key_is_refused(noria: Noria, tmp_path: Path) -> None:
    people(noria, 1)
    folder = export(noria, tmp_path / "export")
    from noria.governance.keys import load_signer

    other = load_signer(tmp_path / "other", create=True)
    (folder / "audit.pub").write_text(str(other.key))
    code, text = run_verifier(folder)
    assert code == 1 and "not signed by" in text
    (folder / "audit.pub").write_text("nonsense")
    assert run_verifier(folder)[0] == 2


# --- the maths --------------------------------------------------------------------------------------------------------


def mth(leaves: list[bytes]) -> bytes:
    """The root as RFC 6962 section 2.1 defines it, by recursion: an independent second implementation."""
    if not leaves:
        return __import__("hashlib").sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return verify.node_hash(mth(leaves[:split]), mth(leaves[split:]))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 70), st.data())
def test_trees_proofs_and_consistency_agree_with_the_definition(size: int, data: st.DataObject) -> None:
    leaves = [verify.leaf_hash(bytes([i])) for i in range(size)]
    grown, nodes = verify.Tree(), dict[int, bytes]()
    for leaf in leaves:
        nodes |= {tree.position(level, index): node for level, index, node in grown.append(leaf)}
    assert grown.root() == mth(leaves)
    assert tree.combine([nodes[p] for p in tree.peak_positions(size)]) == grown.root()

    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size))
    path = [tree.combine([nodes[p] for p in tree.perfect_parts(*r)]) for r in tree.inclusion_ranges(index, size)]
    assert verify.verify_inclusion(leaves[index], index, size, path, grown.root())
    assert not verify.verify_inclusion(verify.leaf_hash(b"other"), index, size, path, grown.root())
    between = [tree.combine([nodes[p] for p in tree.perfect_parts(*r)]) for r in tree.consistency_ranges(old, size)]
    assert verify.verify_consistency(old, size, between, mth(leaves[:old]), grown.root())
    forged = mth([*leaves[: old - 1], verify.leaf_hash(b"forged")])
    assert not verify.verify_consistency(old, size, between, forged, grown.root())


def test_proofs_over_the_api(noria: Noria) -> None:
    people(noria)
    noria.settle()
    proof = noria.http.get("/api/v1/audit/proof/7").json()
    assert verify.leaf_hash(proof["leaf"].encode()).hex() == proof["leaf_hash"]
    path = [bytes.fromhex(p) for p in proof["path"]]
    assert verify.verify_inclusion(bytes.fromhex(proof["leaf_hash"]), 6, proof["size"], path, bytes.fromhex(proof["root"]))
    assert noria.http.get("/api/v1/audit/proof/99").status_code == 404
    between = noria.http.get("/api/v1/audit/consistency", params={"first": 5, "second": 12}).json()
    assert verify.verify_consistency(
        5, 12, [bytes.fromhex(p) for p in between["path"]], bytes.fromhex(between["first_root"]),
        bytes.fromhex(between["second_root"]),
    )  # fmt: skip
    assert noria.http.get("/api/v1/audit/consistency", params={"first": 5, "second": 99}).status_code == 404


def test_ed25519_gives_the_answers_of_rfc_8032() -> None:
    """Section 7.1, tests 1 to 3 and the SHA(abc) one."""
    vectors = [
        ("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
         "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"),
        ("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
         "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"),
        ("fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
         "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"),
    ]  # fmt: skip
    for public, message, signature in vectors:
        key, text, mark = bytes.fromhex(public), bytes.fromhex(message), bytes.fromhex(signature)
        assert verify.ed25519_verify(key, text, mark)
        assert not verify.ed25519_verify(key, text + b"x", mark)
        assert not verify.ed25519_verify(
            key, text, mark[:32] + (int.from_bytes(mark[32:], "little") + verify._Q).to_bytes(32, "little")
        )


@settings(max_examples=15, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 511))
def test_ed25519_agrees_with_cryptography(message: bytes, bit: int) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    public, signature = key.public_key().public_bytes_raw(), key.sign(message)
    assert verify.ed25519_verify(public, message, signature)
    flipped = bytearray(signature)
    flipped[bit // 8] ^= 1 << bit % 8
    assert not verify.ed25519_verify(public, message, bytes(flipped))


def test_a_leaf_is_canonical_json() -> None:
    row = {"seq": 1, "at_ms": 5, "kind": "a.b", "subject": "s:é\u2028", "actor": "user:\x01\"\\", "op_id": "0",
           "cause": None, "workspace": "w", "data": '{"x":1.0,"y":1e400}'}  # fmt: skip
    assert leaf_bytes(row) == (
        '{"actor":"user:\\u0001\\"\\\\","at_ms":5,"cause":null,"data":"{\\"x\\":1.0,\\"y\\":1e400}","kind":"a.b",'
        '"op_id":"0","seq":1,"subject":"s:é\u2028","workspace":"w"}'
    ).encode()  # fmt: skip


def test_a_note_is_read_back() -> None:
    text = (
        "origin\n3\n" + base64.b64encode(b"r" * 32).decode() + "\n\n— origin " + base64.b64encode(b"k" * 68).decode() + "\n"
    )
    note = verify.parse_note(text)
    assert (note.origin, note.size, note.root) == ("origin", 3, b"r" * 32)
    for broken in ("", "origin\n3\n", text.replace("3", "x"), text.replace("—", "-"), text.replace("\n\n", "\n")):
        with pytest.raises(verify.Unreadable):
            verify.parse_note(broken)
