"""Multipart uploads and links, through the door: who may, what is refused, and what is left behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from noria.kernel import crash
from noria.tracking.transfers import OPEN_MAX, PARTS_MAX, UPLOAD_S
from tests.conftest import Noria

FILES = "/api/2.0/mlflow-artifacts"


@pytest.fixture
def root(noria: Noria) -> str:
    """The artifacts of a run, as a path of the proxy."""
    experiment = noria.app.tracking.create_experiment(noria.op(), "e")
    run = noria.app.tracking.create_run(noria.op(), experiment.id)
    return f"{experiment.id}/{run.id}/artifacts"


def begin(http: httpx.Client, root: str, name: str = "big.bin", parts: Any = 2) -> httpx.Response:
    return http.post(f"{FILES}/mpu/create/{root}", json={"path": f"/tmp/here/{name}", "num_parts": parts})


def send(http: httpx.Client, begun: dict[str, Any], *parts: bytes) -> list[dict[str, Any]]:
    """Send parts as the client does, without its credentials; gives what it says to complete."""
    sent = []
    for credential, data in zip(begun["credentials"], parts, strict=False):
        answer = http.put(credential["url"], content=data, headers={**credential["headers"], "authorization": ""})
        assert answer.status_code == 200, answer.text
        sent.append({"part_number": credential["part_number"], "etag": answer.headers["etag"], "url": credential["url"]})
    return sent


def finish(http: httpx.Client, root: str, begun: dict[str, Any], parts: Any, verb: str = "complete") -> httpx.Response:
    body = {"path": "/tmp/here/big.bin", "upload_id": begun["upload_id"], "parts": parts}
    return http.post(f"{FILES}/mpu/{verb}/{root}", json=body)


def left(noria: Noria) -> list[str]:
    return list(noria.app.blobs.keys("uploads"))


def test_parts_become_one_file_and_nothing_is_left(noria: Noria, root: str) -> None:
    begun = begin(noria.http, f"{root}/sub").json()
    assert [c["part_number"] for c in begun["credentials"]] == [1, 2]
    parts = send(noria.http, begun, b"first " * 1000, b"second")
    send(noria.http, begun, b"FIRST ")  # sent again: the last one counts, so its tag is the one to name
    assert finish(noria.http, f"{root}/sub", begun, parts).status_code == 409
    parts[0] = send(noria.http, begun, b"first " * 1000)[0]
    for _ in range(2):  # a request that is repeated changes nothing
        assert finish(noria.http, f"{root}/sub", begun, list(reversed(parts))).json() == {}
    assert noria.http.get(f"{FILES}/artifacts/{root}/sub/big.bin").content == b"first " * 1000 + b"second"
    assert left(noria) == []
    late = noria.http.put(begun["credentials"][0]["url"], content=b"x", headers=begun["credentials"][0]["headers"])
    assert (late.status_code, late.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")


class Overtaken:
    """A blob store that lets somebody else act just before the parts of an upload are looked at for the first time."""

    def __init__(self, store: Any, act: Callable[[], Any]) -> None:
        self._store, self._act, self._is_first = store, act, True

    def named(self, prefix: str) -> Any:
        if self._is_first:
            self._is_first = False
            self._act()
        return self._store.named(prefix)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def test_an_end_that_is_overtaken_by_the_same_end_says_so_too(
    noria: Noria, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = begin(noria.http, root).json()
    parts = send(noria.http, begun, b"first", b"second")
    faster: list[httpx.Response] = []
    overtaken = Overtaken(noria.app.blobs, lambda: faster.append(finish(noria.http, root, begun, parts)))
    monkeypatch.setattr(noria.app.transfers, "_blobs", overtaken)
    slower = finish(noria.http, root, begun, parts)
    assert [faster[0].status_code, slower.status_code] == [200, 200], slower.text
    assert noria.http.get(f"{FILES}/artifacts/{root}/big.bin").content == b"firstsecond"


def test_the_same_end_sent_many_times_at_once_makes_one_file(noria: Noria, root: str) -> None:
    for turn in range(5):
        begun = begin(noria.http, root, f"f{turn}").json()
        parts = send(noria.http, begun, b"first" * 50_000, b"second")
        body = {"path": f"f{turn}", "upload_id": begun["upload_id"], "parts": parts}
        request = noria.http.build_request("POST", f"{FILES}/mpu/complete/{root}", json=body)
        answers = noria.at_once([request] * 6)
        assert [a.status_code for a in answers] == [200] * 6, [a.text for a in answers]
        assert noria.http.get(f"{FILES}/artifacts/{root}/f{turn}").content == b"first" * 50_000 + b"second"
    assert left(noria) == []


def test_a_file_of_many_parts_comes_in_order(noria: Noria, root: str) -> None:
    data = [bytes([n]) * (n % 7) for n in range(25)]
    begun = begin(noria.http, root, parts=25).json()
    assert finish(noria.http, root, begun, send(noria.http, begun, *data)).status_code == 200
    assert noria.http.get(f"{FILES}/artifacts/{root}/big.bin").content == b"".join(data)


def test_the_secret_opens_one_upload_and_is_needed(noria: Noria, root: str) -> None:
    one, two = begin(noria.http, root).json(), begin(noria.http, root, "other.bin").json()
    for headers in ({}, {"x-noria-transfer": "guess"}, two["credentials"][0]["headers"]):
        answer = noria.http.put(one["credentials"][0]["url"], content=b"x", headers=headers)
        assert answer.status_code == 404
    assert left(noria) == []


def test_who_may_not_write_may_not_begin_finish_or_abort(noria: Noria, root: str) -> None:
    reader, writer = noria.as_("reader", "viewer"), noria.as_("writer", "contributor")
    assert begin(reader, root).status_code == 403
    begun = begin(writer, root).json()
    parts = send(reader, begun, b"a", b"b")  # a part needs the secret, and nothing else
    assert finish(reader, root, begun, parts).status_code == 403
    assert finish(reader, root, begun, parts, "abort").status_code == 403
    assert finish(writer, root, begun, parts).status_code == 200


def test_what_cannot_be_is_refused(noria: Noria, root: str) -> None:
    for parts in (0, -1, PARTS_MAX + 1, "x"):
        assert begin(noria.http, root, parts=parts).status_code == 400
    assert begin(noria.http, "nowhere/at/artifacts").status_code == 404
    assert begin(noria.http, root, "..").status_code == 400
    assert noria.http.post(f"{FILES}/mpu/create/{root}", json={}).status_code == 400
    assert noria.http.post(f"{FILES}/mpu/create/{root}", content=b"{").status_code == 400
    begun = begin(noria.http, root).json()
    secret = begun["credentials"][0]["headers"]
    assert noria.http.put(begun["credentials"][0]["url"][:-1] + "3", content=b"x", headers=secret).status_code == 400
    parts = send(noria.http, begun, b"one")
    assert finish(noria.http, root, begun, parts).status_code == 400  # the second is missing
    assert finish(noria.http, root, begun, []).status_code == 400
    assert finish(noria.http, f"{root}/elsewhere", begun, parts).status_code == 404
    assert finish(noria.http, root, {"upload_id": "f" * 32}, parts).status_code == 404


def test_a_file_above_the_limit_is_refused(noria: Noria, root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noria.app.transfers, "_limit_bytes", 10)
    begun = begin(noria.http, root).json()
    first = begun["credentials"][0]
    assert noria.http.put(first["url"], content=b"x" * 11, headers=first["headers"]).status_code == 413
    parts = send(noria.http, begun, b"x" * 6, b"x" * 6)
    assert finish(noria.http, root, begun, parts).status_code == 413


def test_a_request_that_is_no_file_is_not_read_without_end(noria: Noria, root: str) -> None:
    for verb in ("create", "complete", "abort"):
        answer = noria.http.post(f"{FILES}/mpu/{verb}/{root}", content=b" " * (9 << 20))
        assert (answer.status_code, answer.json()["error_code"]) == (413, "REQUEST_LIMIT_EXCEEDED"), verb
    begun = begin(noria.http, root, parts=PARTS_MAX).json()
    parts = [{"part_number": c["part_number"], "etag": "e" * 64, "url": c["url"]} for c in begun["credentials"]]
    answer = finish(noria.http, root, begun, parts)
    assert answer.status_code == 400 and "10000 are missing" in answer.json()["message"], (
        "the longest request there is, is read"
    )


def test_too_many_uploads_at_once_are_refused(noria: Noria, root: str) -> None:
    for _ in range(OPEN_MAX):
        noria.app.transfers.create(noria.op(), f"mlflow-artifacts:/{root}/x", 1)
    answer = begin(noria.http, root)
    assert (answer.status_code, answer.json()["error_code"]) == (429, "REQUEST_LIMIT_EXCEEDED")


def test_an_aborted_upload_leaves_nothing(noria: Noria, root: str) -> None:
    begun = begin(noria.http, root).json()
    parts = send(noria.http, begun, b"one", b"two")
    assert finish(noria.http, root, begun, parts, "abort").json() == {}
    assert left(noria) == []
    assert finish(noria.http, root, begun, parts).status_code == 404
    assert noria.http.get(f"{FILES}/artifacts", params={"path": root}).json()["files"] == []


def test_an_upload_that_took_too_long_is_swept(noria: Noria, root: str) -> None:
    begun = begin(noria.http, root).json()
    parts = send(noria.http, begun, b"one", b"two")
    noria.app.transfers.reconcile()
    assert len(left(noria)) == 2, "it may still be finished"
    noria.clock.advance(UPLOAD_S + 1)
    assert finish(noria.http, root, begun, parts).status_code == 404
    noria.app.transfers.reconcile()
    assert left(noria) == []


def test_a_crash_after_a_part_leaves_what_the_sweep_removes(noria: Noria, root: str, tmp_path: Path) -> None:
    begun = begin(noria.http, root, parts=1).json()
    part = tmp_path / "part"
    part.write_bytes(b"one")
    crash.arm("part.stored")
    with pytest.raises(crash.Crashed):
        noria.app.transfers.put_part(begun["upload_id"], begun["credentials"][0]["headers"]["x-noria-transfer"], 1, part)
    noria.app.blobs.put_at(f"uploads/{'f' * 32}/00001", b"nobody's")
    noria.app.transfers.reconcile()
    assert [key.split("/")[1] for key in left(noria)] == [begun["upload_id"]]
    noria.clock.advance(UPLOAD_S + 1)
    noria.app.transfers.reconcile()
    assert left(noria) == []


def test_a_crash_after_the_file_is_made_is_mended_by_asking_again(noria: Noria, root: str) -> None:
    begun = begin(noria.http, root, parts=1).json()
    parts = send(noria.http, begun, b"one")
    crash.arm("parts.joined")
    with pytest.raises(crash.Crashed):
        uri = f"mlflow-artifacts:/{root}/big.bin"
        noria.app.transfers.complete(noria.op(), begun["upload_id"], uri, {1: parts[0]["etag"]})
    assert finish(noria.http, root, begun, parts).status_code == 200
    assert noria.http.get(f"{FILES}/artifacts/{root}/big.bin").content == b"one"
    assert left(noria) == []


def test_a_link_gives_a_file_or_a_range_of_it(noria: Noria, root: str) -> None:
    noria.http.put(f"{FILES}/artifacts/{root}/a.txt", content=b"0123456789")
    link = noria.http.get(f"{FILES}/presigned/{root}/a.txt").json()
    assert link["file_size"] == 10
    whole = noria.http.get(link["url"], headers=link["headers"])
    assert (whole.status_code, whole.content, whole.headers["accept-ranges"]) == (200, b"0123456789", "bytes")
    for asked, got in (("bytes=2-4", b"234"), ("bytes=8-", b"89"), ("bytes=-3", b"789"), ("bytes=5-99", b"56789")):
        part = noria.http.get(link["url"], headers={**link["headers"], "range": asked})
        assert (part.status_code, part.content) == (206, got)
        assert part.headers["content-range"].endswith("/10")
    beyond = noria.http.get(link["url"], headers={**link["headers"], "range": "bytes=10-11"})
    assert beyond.status_code == 400
    assert noria.http.get(link["url"]).status_code == 404
    assert noria.as_("nobody").get(f"{FILES}/presigned/{root}/a.txt").status_code in (403, 404)
    assert noria.http.get(f"{FILES}/presigned/{root}/none").status_code == 404
    noria.clock.advance(901)
    assert noria.http.get(link["url"], headers=link["headers"]).status_code == 404


def test_addresses_are_those_the_client_asked(noria: Noria, root: str) -> None:
    begun = noria.http.post(
        f"{FILES}/mpu/create/{root}", json={"path": "x", "num_parts": 1}, headers={"x-forwarded-proto": "https"}
    ).json()
    host = noria.config.control_url.removeprefix("http://")
    assert begun["credentials"][0]["url"].startswith(f"https://{host}{FILES}/mpu/parts/")
    assert begun["credentials"][0]["headers"]["x-noria-transfer"] not in begun["credentials"][0]["url"]


def test_links_to_proxied_storage_are_refused_as_mlflow_does(noria: Noria, root: str) -> None:
    run = root.split("/")[1]
    for verb in ("upload", "download"):
        path = f"/api/2.0/mlflow/artifacts/presigned-{verb}-url"
        for body, status in (({"run_id": run, "path": "a"}, 400), ({"run_id": "f" * 32, "path": "a"}, 404), ({}, 400)):
            answer = noria.http.post(path, json=body)
            assert answer.status_code == status, answer.text
