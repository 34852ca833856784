"""Versions of data, from commit to checkout, through the door."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from blake3 import blake3

from noria.client.datasets import Dataset, dataset
from noria.datasets.model import FileEntry
from noria.kernel.errors import Conflict, Forbidden, Invalid, NotFound
from noria.kernel.ids import Ref
from tests.conftest import Noria

Noise = Callable[..., bytes]


def folder(tmp_path: Path, **files: bytes) -> Path:
    root = tmp_path / "source"
    for name, content in files.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def packs(noria: Noria) -> list[Path]:
    return list((Path(noria.config.blobs_url) / "packs").rglob("*.pack"))


def stored_bytes(noria: Noria) -> int:
    return sum(p.stat().st_size for p in packs(noria))


def test_a_folder_is_committed_and_checked_out_again(data: Dataset, tmp_path: Path, noise: Noise) -> None:
    source = folder(tmp_path, readme=b"hello", train__a=b"a" * 10, train__big=noise(3_000_000), empty=b"")
    (source / "readme").chmod(0o755)
    made = data.commit(source, message="first", alias="train")
    assert (made.number, made.is_new, made.info.files_count) == (1, True, 4)
    assert [f.path for f in made.files()] == ["empty", "readme", "train/a", "train/big"]
    out = data.version("train").checkout(tmp_path / "out")
    for file in source.rglob("*"):
        if file.is_file():
            copy = out / file.relative_to(source)
            assert copy.read_bytes() == file.read_bytes()
            assert copy.stat().st_mode & 0o777 == (0o755 if file.name == "readme" else 0o644)


def test_a_file_id_is_the_plain_hash_of_its_bytes(data: Dataset, noise: Noise) -> None:
    big = noise(2_000_000)
    made = data.commit({"small.txt": b"small", "big.bin": big})
    assert {f.path: f.digest for f in made.files()} == {
        "small.txt": blake3(b"small").hexdigest(),
        "big.bin": blake3(big).hexdigest(),
    }


def test_the_same_content_is_the_same_version(noria: Noria, data: Dataset) -> None:
    first = data.commit({"a": b"1", "b": b"2"}, message="one")
    again = data.commit({"b": b"2", "a": b"1"}, message="two")
    assert (again.id, again.is_new) == (first.id, False)
    changed = data.commit({"a": b"1"})
    back = data.commit({"a": b"1", "b": b"2"})
    assert (changed.number, back.number, back.is_new) == (2, 3, True)
    assert back.info.root_digest == first.info.root_digest
    assert back.info.parents == [changed.id]
    committed = noria.facts("dataset_version.committed")
    assert [e.data["number"] for e in committed] == [1, 2, 3]
    assert [e.kind for e in noria.facts()][:2] == ["dataset.created", "dataset_version.committed"]


def test_two_datasets_with_the_same_content_have_the_same_root(data: Dataset, noise: Noise) -> None:
    content = {"a": noise(1_000_000, 3)}
    other = dataset("other", api=data._api)
    assert data.commit(content).info.root_digest == other.commit(content).info.root_digest


def test_only_missing_chunks_are_sent(data: Dataset, noria: Noria, noise: Noise) -> None:
    content = noise(8_000_000, 5)
    data.commit({"a.bin": content})
    before = stored_bytes(noria)
    edited = content[:4_000_000] + b"an edit in the middle" + content[4_000_000:]
    made = data.commit({"a.bin": edited})
    grown = stored_bytes(noria) - before
    assert made.read("a.bin") == edited
    assert grown < 2_500_000, "two chunks and the recipe, not the file"


def test_a_selector_is_a_number_an_alias_an_id_or_latest(data: Dataset, noria: Noria) -> None:
    one = data.commit({"a": b"1"}, alias="train")
    two = data.commit({"a": b"2"})
    for selector, wanted in [
        (1, one), ("1", one), ("v1", one), ("@v1", one), ("train", one), (one.id, one),
        ("latest", two), ("", two), (two.id, two),
    ]:  # fmt: skip
        assert data.version(selector).id == wanted.id, selector
    service, op = noria.app.datasets, noria.op()
    for handle in ("flights", "flights@latest", "dataset:flights@v2", f"dataset_version:{two.id}"):
        assert service.version(op, handle).id == two.id
    for selector in ("3", "nope", "0" * 32, "v0"):
        with pytest.raises(NotFound, match="no version"):
            data.version(selector)


def test_a_version_of_another_dataset_is_not_found_by_id(data: Dataset) -> None:
    other = dataset("other", api=data._api).commit({"a": b"1"})
    data.commit({"a": b"2"})
    with pytest.raises(NotFound):
        data.version(other.id)


def test_a_commit_on_a_parent_that_moved_is_refused(data: Dataset) -> None:
    one = data.commit({"a": b"1"})
    two = data.commit({"a": b"2"}, parent=one)
    with pytest.raises(Conflict, match="moved since"):
        data.commit({"a": b"3"}, parent=one)
    assert data.commit({"a": b"2"}, parent=one).id == two.id, "a retry of the commit that won"
    assert data.commit({"a": b"3"}, parent=two).number == 3


def test_an_alias_moves_by_compare_and_set(data: Dataset, noria: Noria) -> None:
    data.commit({"a": b"1"}, alias="train")
    data.commit({"a": b"2"})
    data.move_alias("train", 2, expect=1)
    with pytest.raises(Conflict, match="moved since"):
        data.move_alias("train", 1, expect=1)
    data.remove_alias("train")
    with pytest.raises(NotFound):
        data.version("train")
    data.move_alias("train", 1, expect=0)
    assert data.info().aliases[0].generation == 4, "a generation never comes twice"
    moved = [(e.data["number"], e.data["was"]) for e in noria.facts("dataset_alias.moved")]
    assert moved == [(1, None), (2, 1), (1, None)]
    data.move_alias("train", 1)
    assert len(noria.facts("dataset_alias.moved")) == 3, "pointing it where it points says nothing"


@pytest.mark.parametrize("alias", ["latest", "3", "v3", "0" * 32, "", "a/b", "-x", "a b", "é"])
def test_an_alias_that_reads_as_something_else_is_refused(noria: Noria, data: Dataset, alias: str) -> None:
    data.commit({"a": b"1"})
    with pytest.raises(Invalid):
        from noria.datasets.model import AliasMove

        noria.app.datasets.move_alias(noria.op(), "flights", alias, AliasMove(selector="1"))


def test_a_version_that_something_needs_cannot_be_deleted(data: Dataset, noria: Noria) -> None:
    one, two = data.commit({"a": b"1"}, alias="train"), data.commit({"a": b"2"})
    service = noria.app.datasets
    with pytest.raises(Conflict, match="called train"):
        service.delete_version(noria.op(), "flights@1")
    with noria.app.db.write(noria.system()) as tx:
        tx.link(Ref("model_version", "m1"), "trained_on", Ref("dataset_version", two.id), protects=True)
    refused = noria.http.delete("/api/v1/datasets/flights/versions/2")
    assert refused.status_code == 409
    assert "model_version:m1" in refused.json()["error"]["message"]
    data.remove_alias("train")
    assert noria.http.delete("/api/v1/datasets/flights/versions/1").status_code == 204
    with pytest.raises(NotFound):
        data.version(one.id)
    assert data.commit({"a": b"3"}).number == 3
    assert [v.number for v in data.versions()] == [3, 2]


def test_after_deleting_the_latest_the_one_before_is_latest(data: Dataset, noria: Noria) -> None:
    one, two = data.commit({"a": b"1"}), data.commit({"a": b"2"})
    noria.app.datasets.delete_version(noria.op(), "flights@2")
    assert data.version().id == one.id
    assert data.commit({"a": b"2"}).number == 3, "a number is never used again"
    assert two.number == 2


def test_bytes_that_are_missing_or_wrong_are_refused(noria: Noria, noise: Noise) -> None:
    service, op, blobs = noria.app.datasets, noria.op(), noria.app.blobs
    big = noise(600_000)
    parts = [blobs.put(big[:300_000]), blobs.put(big[300_000:])]
    from noria.datasets.model import Chunk

    chunks = [Chunk(p.digest, p.size_bytes) for p in parts]

    def commit(**change: object) -> None:
        fields = {"path": "a", "size_bytes": 600_000, "digest": blake3(big).hexdigest(), "chunks": chunks, **change}
        service.commit(op, "flights", [FileEntry(**fields)])  # type: ignore[arg-type]

    for change, says in [
        ({"chunks": []}, "are not stored"),
        ({"digest": "a" * 64}, "hash to"),
        ({"digest": "A" * 64}, "64 lower-case"),
        ({"size_bytes": 1}, "add up"),
        ({"chunks": chunks[::-1]}, "hash to"),
        ({"chunks": [chunks[0], Chunk("b" * 64, 300_000)]}, "not stored"),
        ({"chunks": [chunks[0], Chunk(chunks[1].digest, 300_001)], "size_bytes": 600_001}, "is said to have"),
        ({"chunks": [Chunk(chunks[0].digest, -1), chunks[1]], "size_bytes": 299_999}, "are allowed"),
        ({"mode": 0o777}, "mode"),
    ]:
        with pytest.raises(Invalid, match=says):
            commit(**change)
    assert noria.facts("dataset.created") == []
    commit()
    with pytest.raises(Invalid, match="is said to have"):
        commit(path="b", size_bytes=5, chunks=[])
    small = blobs.put(b"x")
    with pytest.raises(Invalid, match="is said to have"):
        service.commit(op, "flights", [FileEntry(path="s", size_bytes=9, digest=small.digest)])


def test_a_big_file_that_a_client_did_not_cut_is_fine(noria: Noria, noise: Noise) -> None:
    big = noise(20_000_000)
    info = noria.app.blobs.put(big)
    entry = FileEntry(path="a.bin", size_bytes=info.size_bytes, digest=info.digest)
    version = noria.app.datasets.commit(noria.op(), "flights", [entry])
    assert b"".join(noria.app.datasets.open(noria.op(), version, "a.bin")) == big
    assert (
        b"".join(noria.app.datasets.open(noria.op(), version, "a.bin", 17_000_000, 17_000_009)) == big[17_000_000:17_000_009]
    )


def test_a_file_is_read_in_parts(data: Dataset, noria: Noria, noise: Noise) -> None:
    content = noise(3_000_000, 9)
    made = data.commit({"dir/a.bin": content})
    with made.open("dir/a.bin") as file:
        file.seek(1_234_567)
        assert file.read(1000) == content[1_234_567:1_235_567]
        file.seek(-10, 2)
        assert file.read() == content[-10:]
    url = "/api/v1/datasets/flights/versions/1/content?path=dir/a.bin"
    for header, part in [
        ("bytes=0-9", content[:10]), ("bytes=2999990-", content[-10:]), ("bytes=-5", content[-5:]),
        ("bytes=2999999-9999999", content[-1:]),
    ]:  # fmt: skip
        answer = noria.http.get(url, headers={"range": header})
        assert (answer.status_code, answer.content) == (206, part), header
    assert answer.headers["content-range"] == "bytes 2999999-2999999/3000000"
    assert noria.http.get(url, headers={"range": "bytes=3000000-"}).status_code == 416
    whole = noria.http.get(url, headers={"range": "pages=1-2"})
    assert (whole.status_code, whole.content) == (200, content)
    assert noria.http.get(url + "&start=9&end=3").status_code == 400
    assert noria.http.get(url + "&start=3000001").status_code == 400
    assert noria.http.get(url.replace("a.bin", "b.bin")).status_code == 404


def test_damage_is_found_by_verify_and_by_an_ordinary_read(data: Dataset, noria: Noria, noise: Noise) -> None:
    made = data.commit({"a.bin": noise(1_000_000, 2), "b.txt": b"fine"})
    assert noria.http.post("/api/v1/datasets/flights/versions/1/verify").json() == {
        "files_count": 2, "size_bytes": 1_000_004, "damaged": [], "next": None,
    }  # fmt: skip
    stored = max(packs(noria), key=lambda p: p.stat().st_size)
    flipped = bytearray(stored.read_bytes())
    flipped[100] ^= 1
    stored.write_bytes(flipped)
    damaged = noria.http.post("/api/v1/datasets/flights/versions/1/verify").json()["damaged"]
    assert [d["path"] for d in damaged] == ["a.bin"]
    with pytest.raises(Exception, match=r"damaged|broke"):
        made.read("a.bin")
    stored.unlink()
    damaged = noria.http.post("/api/v1/datasets/flights/versions/1/verify").json()["damaged"]
    assert all("is missing" in d["problem"] for d in damaged) and damaged


def test_verify_goes_on_where_it_stopped(data: Dataset, noria: Noria, monkeypatch: pytest.MonkeyPatch) -> None:
    data.commit({f"{i}.txt": b"x" * 10 for i in range(5)})
    monkeypatch.setattr("noria.datasets.service.VERIFY_BYTES", 20)
    after, seen = "", 0
    while after is not None:
        part = noria.http.post(f"/api/v1/datasets/flights/versions/1/verify?after={after}").json()
        seen, after = seen + part["files_count"], part["next"]
    assert seen == 5


def test_rights_are_asked_for_the_dataset(noria: Noria, data: Dataset) -> None:
    data.commit({"a": b"1"})
    reader, stranger = noria.as_("reader", "viewer"), noria.as_("stranger", "predictor")
    assert reader.get("/api/v1/datasets/flights").status_code == 200
    for url in ("/api/v1/datasets/flights", "/api/v1/datasets/nothing", "/api/v1/datasets/flights/versions/1/files"):
        assert stranger.get(url).status_code == 403, url
    assert stranger.get("/api/v1/datasets").status_code == 403
    assert reader.post("/api/v1/datasets/flights/versions", json={"files": []}).status_code == 403
    assert reader.delete("/api/v1/datasets/flights/versions/1").status_code == 403
    auditor = noria.as_("auditor", "auditor")
    assert auditor.get("/api/v1/datasets/flights/versions/1").status_code == 200
    assert auditor.get("/api/v1/datasets/flights/versions/1/content?path=a").status_code == 403, (
        "contents are not for auditors"
    )


def test_a_role_on_one_dataset_shows_only_that(noria: Noria, data: Dataset) -> None:
    from noria.access.model import Grant

    data.commit({"a": b"1"})
    dataset("secret", api=data._api).commit({"a": b"2"})
    bob = noria.as_("bob")
    noria.app.access.grant(noria.system(), Grant(principal="bob", role="viewer", scope="dataset:flights"))
    assert [d["name"] for d in bob.get("/api/v1/datasets").json()["items"]] == ["flights"]
    assert bob.get("/api/v1/datasets/flights/versions/1/content?path=a").content == b"1"
    assert bob.get("/api/v1/datasets/secret").status_code == 403


def test_lists_are_paged(noria: Noria, data: Dataset) -> None:
    for i in range(5):
        data.commit({f"{n}": str(i).encode() for n in range(3)})
        dataset(f"d{i}", api=data._api).commit({"a": b"1"})
    api = data._api
    assert [d["name"] for d in api.items("/datasets", limit=2)] == ["d0", "d1", "d2", "d3", "d4", "flights"]
    assert [v["number"] for v in api.items("/datasets/flights/versions", limit=2)] == [5, 4, 3, 2, 1]
    assert [f["path"] for f in api.items("/datasets/flights/versions/5/files", limit=2)] == ["0", "1", "2"]
    assert noria.http.get("/api/v1/datasets?page=zzz").status_code == 400
    assert noria.http.get("/api/v1/datasets?limit=0").status_code == 400


def test_a_long_list_of_files_goes_as_a_blob(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("noria.client.datasets.MANIFEST_INLINE_BYTES", 100)
    made = data.commit({f"{i}.txt": b"x" for i in range(50)})
    assert made.info.files_count == 50


def test_what_cannot_be_committed_is_said(noria: Noria, data: Dataset, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    for source, says in [(tmp_path / "none", "no files"), (tmp_path / "nope", "no file or folder"), (object(), "cannot be")]:
        with pytest.raises(Invalid, match=says):
            data.commit(source)
    linked = folder(tmp_path, a=b"1")
    (linked / "loop").symlink_to(linked)
    with pytest.raises(Invalid, match="link to a folder"):
        data.commit(linked)
    for name in ("blobs", "a/b", "", "a@b"):
        with pytest.raises(Invalid):
            noria.app.datasets.commit(noria.op(), name, [])
    with pytest.raises(Invalid, match="no file"):
        noria.app.datasets.commit(noria.op(), "flights", [])
    bad = noria.http.post("/api/v1/datasets/flights/versions", json={"files": [{"path": "a"}]})
    assert bad.status_code == 400
    with pytest.raises(Invalid, match="not stored"):
        data._api.post("/datasets/flights/versions", {"manifest": "0" * 64})


def test_blobs_travel_in_packs(data: Dataset, noria: Noria, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("noria.client.datasets.PACK_BYTES", 64)
    content = {f"{i:03}": bytes([i]) * i for i in range(60)}
    made = data.commit(content)
    assert {f.path: made.read(f.path) for f in made.files()} == content
    for body in (b"\x00", b"\x00\x00\x00\x05abc", b"\xff\xff\xff\xff"):
        refused = noria.http.post("/api/v1/datasets/blobs", content=body)
        assert refused.status_code == 400, body
    assert noria.http.post("/api/v1/datasets/blobs", content=b"").json() == {"digests": []}


def test_a_server_that_takes_small_requests_only_gets_single_blobs(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    from noria.kernel.errors import TooMuch

    real = data._api.request

    def refuse_packs(method: str, url: str, **options: object) -> object:
        if url.endswith("/datasets/blobs"):
            raise TooMuch("too large")
        return real(method, url, **options)

    monkeypatch.setattr(data._api, "request", refuse_packs)
    assert data.commit({"a": b"1", "b": b"2"}).read("b") == b"2"


def test_a_file_that_changes_while_it_is_read_is_noticed(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from noria.client.datasets import _Upload

    file = tmp_path / "growing.log"
    file.write_bytes(b"before")
    real = _Upload._missing

    def change(self: _Upload, digests: list[str]) -> list[str]:
        if digests:
            file.write_bytes(b"after!")
        return real(self, digests)

    monkeypatch.setattr(_Upload, "_missing", change)
    with pytest.raises(Conflict, match="changed while it was read"):
        data.commit(file)


@pytest.mark.parametrize("name", ["my data", "données", "100%", "a%2Fb", "a.b-c_d", "?x=1&y#z"])
def test_a_name_that_needs_quoting_is_a_name(data: Dataset, name: str) -> None:
    other = dataset(name, api=data._api)
    made = other.commit({"dir é/100%.txt": b"x"}, alias="train")
    assert other.version("train").read("dir é/100%.txt") == b"x"
    assert [d["name"] for d in data._api.items("/datasets")] == [name]
    assert made.handle == f"{name}@1"
    other.remove_alias("train")


def test_a_path_out_of_the_folder_is_refused_at_the_door(noria: Noria) -> None:
    info = noria.app.blobs.put(b"x")
    for path in ("../x", "/x", "a/%2e%2e/x", "..\\x", "a\u2025"):
        entry = {"path": path, "size_bytes": 1, "digest": info.digest}
        refused = noria.http.post("/api/v1/datasets/flights/versions", json={"files": [entry]})
        is_fine = path == "a\u2025"  # dots within a name lead nowhere
        assert refused.status_code == (200 if is_fine else 400), path
    assert noria.http.get("/api/v1/datasets/flights/versions/1/content?path=../x").status_code == 404


def test_a_version_deleted_before_its_profile_is_no_failure(data: Dataset, noria: Noria) -> None:
    data.commit({"t.csv": b"a\n1\n"})
    noria.app.datasets.delete_version(noria.op(), "flights@1")
    noria.settle()
    assert noria.facts("job.failed") == []
    with pytest.raises(NotFound, match="no version"):
        data.version()


def test_a_lost_manifest_is_said(data: Dataset, noria: Noria) -> None:
    made = data.commit({"a": b"1"})
    (Path(noria.config.blobs_url) / "trees" / made.root_digest[:2] / made.root_digest).unlink()
    noria.app.datasets._repository.forget()
    assert noria.http.get("/api/v1/datasets/flights/versions/1/files").status_code == 503


def test_checkout_is_all_or_nothing(data: Dataset, noria: Noria, tmp_path: Path) -> None:
    made = data.commit({"a": b"1", "sub/b": b"2"})
    target = tmp_path / "out"
    target.mkdir()
    (target / "mine").write_text("keep")
    with pytest.raises(Conflict, match="not empty"):
        made.checkout(target)
    made.checkout(target, overwrite=True)
    assert sorted(p.name for p in target.rglob("*") if p.is_file()) == ["a", "b", "mine"]
    for pack in packs(noria):
        pack.unlink()
    with pytest.raises(Exception, match="is missing"):
        made.checkout(tmp_path / "broken")
    assert sorted(p.name for p in tmp_path.iterdir() if "broken" in p.name) == []


def test_forbidden_says_who_may(noria: Noria) -> None:
    from noria.kernel.op import Actor

    op = noria.app.ops.mint(Actor(kind="service", id="nobody-known", name="x"))
    with pytest.raises(Forbidden):
        noria.app.datasets.commit(op, "flights", [])


def test_a_table_of_several_chunks_is_committed_and_counted(data: Dataset, tmp_path: Path) -> None:
    import numpy
    import pyarrow
    import pyarrow.parquet

    rng = numpy.random.default_rng(7)
    table = pyarrow.table({"x": rng.normal(size=120_000), "y": rng.normal(size=120_000)})
    pyarrow.parquet.write_table(table, tmp_path / "big.parquet")
    assert (tmp_path / "big.parquet").stat().st_size > 1_000_000
    assert data.commit(tmp_path / "big.parquet").info.rows_count == 120_000
    assert data.version("latest").table().equals(table)
