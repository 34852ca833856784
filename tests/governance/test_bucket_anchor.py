"""Checkpoints in a real bucket that locks what it is given: SeaweedFS with Object Lock."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from noria.governance import audit
from noria.governance.bucket_anchor import BucketAnchor
from noria.governance.verify import parse_note
from tests.conftest import Noria
from tests.governance.test_audit import people
from tests.kernel.test_blobs import s3

__all__ = ["s3"]
pytestmark = [pytest.mark.slow, pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)]
RETENTION = """<ObjectLockConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><ObjectLockEnabled>Enabled</ObjectLockEnabled>
<Rule><DefaultRetention><Mode>COMPLIANCE</Mode><Days>1</Days></DefaultRetention></Rule></ObjectLockConfiguration>"""


def bucket(s3: str, name: str, *, locks: bool) -> BucketAnchor:
    from obstore.store import S3Store

    headers = {"x-amz-bucket-object-lock-enabled": "true"} if locks else {}
    assert httpx.put(f"{s3}/{name}", headers=headers).status_code == 200
    if locks:
        answer = httpx.put(f"{s3}/{name}?object-lock", content=RETENTION)
        assert answer.status_code == 200, answer.text
    store: Any = S3Store(
        name, prefix="noria", endpoint=s3, region="us-east-1", access_key_id="any", secret_access_key="any",
        client_options={"allow_http": True},
    )  # fmt: skip
    return BucketAnchor(f"s3://{name}/noria", store)


def sealer(noria: Noria, anchor: BucketAnchor) -> audit.Audit:
    return audit.Audit(noria.app.db, noria.app.ops, noria.app.blobs, noria.config.home, [anchor])


def test_a_bucket_keeps_checkpoints_that_cannot_be_removed(noria: Noria, s3: str, caplog: pytest.LogCaptureFixture) -> None:
    name = f"locked-{time.time_ns()}"
    anchor = bucket(s3, name, locks=True)
    made = sealer(noria, anchor)
    people(noria, 2)
    checkpoint = made.seal()
    assert checkpoint is not None
    assert anchor.notes() == [parse_note(checkpoint.note)]
    key = f"{checkpoint.size:020d}.txt"
    assert anchor.retention(key).startswith("COMPLIANCE until "), "the store does not say that it locks"
    assert "locks nothing" not in caplog.text

    address = f"{s3}/{name}/noria/{key}"
    version = httpx.get(address).headers["x-amz-version-id"]
    refused = httpx.delete(f"{address}?versionId={version}")
    assert refused.status_code == 403, refused.text
    assert httpx.get(f"{address}?versionId={version}").text == checkpoint.note
    anchor.say(checkpoint.note)  # said again: nothing is written over what is there
    assert httpx.get(address).headers["x-amz-version-id"] == version
    assert made.verify(noria.system()).is_intact


def test_a_bucket_that_locks_nothing_is_said(noria: Noria, s3: str, caplog: pytest.LogCaptureFixture) -> None:
    anchor = bucket(s3, f"open-{time.time_ns()}", locks=False)
    people(noria, 1)
    checkpoint = sealer(noria, anchor).seal()
    assert checkpoint is not None and anchor.notes() == [parse_note(checkpoint.note)]
    assert caplog.text.count("locks nothing") == 1


def test_another_history_is_found_by_the_bucket(noria: Noria, s3: str) -> None:
    anchor = bucket(s3, f"other-{time.time_ns()}", locks=False)
    made = sealer(noria, anchor)
    people(noria, 1)
    checkpoint = made.seal()
    assert checkpoint is not None
    other = checkpoint.note.split("\n")
    other[2] = "A" * 43 + "="
    import obstore

    obstore.put(anchor._store, f"{checkpoint.size:020d}.txt", "\n".join(other).encode())
    report = made.verify(noria.system())
    assert not report.is_intact and "two histories" in report.faults[0].message
