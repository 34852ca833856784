"""Uploads: whole or not at all, under the name that the sender gave their bytes."""

from __future__ import annotations

import pytest
from blake3 import blake3

from tests.conftest import Noria


@pytest.mark.parametrize("size", [0, 10, (1 << 20) + 1, 3 << 20])
def test_bytes_are_stored_under_their_digest(noria: Noria, size: int) -> None:
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    digest = blake3(data).hexdigest()
    answer = noria.http.put(f"/api/v1/blobs/{digest}", content=data)
    assert answer.status_code == 201, answer.text
    assert answer.json() == {"digest": digest, "size_bytes": size}
    assert noria.http.get(f"/api/v1/blobs/{digest}").content == data


@pytest.mark.parametrize("size", [10, 3 << 20])
def test_bytes_that_are_not_what_their_name_says_leave_nothing(noria: Noria, size: int) -> None:
    data = b"y" * size
    answer = noria.http.put(f"/api/v1/blobs/{blake3(b'other').hexdigest()}", content=data)
    assert answer.status_code == 400
    assert answer.json()["error"]["where"] == "digest"
    assert not noria.app.blobs.has(blake3(data).hexdigest())
