"""What every blob store must do. Subclass it, give `store`, and run it with pytest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from blake3 import blake3

from noria.kernel.blobs import BlobInfo, BlobStore, Spool
from noria.kernel.errors import Invalid, NotFound


class BlobContract:
    """The contract; `store` is a fixture that gives an empty store."""

    def test_bytes_come_back(self, store: BlobStore) -> None:
        for data in (b"", b"x", b"noria" * 1_000_000):
            info = store.put(data)
            assert info.size_bytes == len(data)
            assert store.get(info.digest) == data
            assert b"".join(store.open(info.digest)) == data

    def test_the_same_bytes_have_the_same_name(self, store: BlobStore, tmp_path: Path) -> None:
        data = b"0123456789" * 600_000
        path = tmp_path / "file"
        path.write_bytes(data)
        chunks = (data[i : i + 70_000] for i in range(0, len(data), 70_000))
        assert store.put(data) == store.put(chunks) == store.put(path)
        assert len(list(store.list())) == 1

    def test_a_spool_is_taken_and_stays_the_callers(self, store: BlobStore, tmp_path: Path) -> None:
        data, path = b"spooled" * 700_000, tmp_path / "spool"
        path.write_bytes(data)
        spool = Spool(path, BlobInfo(blake3(data).hexdigest(), len(data)))
        assert store.put(spool) == store.put(spool) == store.put(data) == spool.info
        assert path.read_bytes() == data
        path.unlink()
        assert store.get(spool.info.digest) == data and [i.digest for i in store.list()] == [spool.info.digest]

    def test_a_range_is_a_slice(self, store: BlobStore) -> None:
        data = bytes(range(256)) * 40_000
        digest = store.put(data).digest
        for start, end in ((0, 1), (5, 5), (100, 5_000_001), (len(data) - 1, len(data)), (7, None)):
            assert b"".join(store.open(digest, start, end)) == data[start:end]
        assert b"".join(store.open(digest, 0, len(data) + 10)) == data

    def test_a_range_past_the_end_is_refused(self, store: BlobStore) -> None:
        digest = store.put(b"abc").digest
        _raises(Invalid, lambda: store.open(digest, 4, 5))

    def test_what_is_not_there_is_not_found(self, store: BlobStore) -> None:
        missing = "0" * 64
        assert not store.has(missing)
        _raises(NotFound, lambda: store.get(missing))
        _raises(NotFound, lambda: store.size(missing))
        store.delete(missing)

    def test_a_name_is_a_digest_and_nothing_else(self, store: BlobStore) -> None:
        for name in ("", "../etc/passwd", "A" * 64, "0" * 63, "0" * 63 + "/", "%2e%2e"):
            _raises(Invalid, lambda name=name: store.get(name))

    def test_deleted_bytes_are_gone(self, store: BlobStore) -> None:
        digest = store.put(b"abc").digest
        store.delete(digest)
        assert not store.has(digest)

    def test_what_is_put_aside_is_gone_until_it_is_stored_again(self, store: BlobStore) -> None:
        digest = store.put(b"abc").digest
        store.quarantine(digest)
        store.quarantine(digest)
        assert store.is_quarantined(digest) and not store.has(digest) and not list(store.list())
        _raises(NotFound, lambda: store.get(digest))
        assert store.put(b"abc").digest == digest and store.get(digest) == b"abc"

    def test_named_objects_come_back_sorted(self, store: BlobStore) -> None:
        for key in ("checkpoints/b.txt", "checkpoints/a.txt", "other/c.txt"):
            store.put_at(key, key.encode())
        assert list(store.keys("checkpoints")) == ["checkpoints/a.txt", "checkpoints/b.txt"]
        assert store.get_at("other/c.txt") == b"other/c.txt"

    def test_named_objects_are_streamed_and_removed(self, store: BlobStore, tmp_path: Path) -> None:
        path = tmp_path / "part"
        path.write_bytes(b"0123456789" * 600_000)
        store.put_at("parts/x/00001", path)
        store.put_at("parts/x/00002", b"")
        assert b"".join(store.open_at("parts/x/00001")) == path.read_bytes()
        assert b"".join(store.open_at("parts/x/00002")) == b""
        assert [(item.key, item.size_bytes) for item in store.named("parts/x")] == [
            ("parts/x/00001", 6_000_000), ("parts/x/00002", 0),
        ]  # fmt: skip
        store.delete_at("parts/x/00001")
        store.delete_at("parts/x/00001")
        assert list(store.keys("parts")) == ["parts/x/00002"]
        _raises(NotFound, lambda: store.open_at("parts/x/00001"))


def _raises(kind: type[Exception], call: Any) -> None:
    try:
        call()
    except kind:
        return
    raise AssertionError(f"{kind.__name__} was expected")
