"""The recorder: what models answered, and what turned out to be true, on disk before it is acknowledged.

    workers, gateway ──blocks──▶ journal (append, fsync, ack) ──every 2 s or 10,000 rows──▶ segments ──▶ control plane

Blocks are appended to a journal as they came and acknowledged once it is on disk: truth at once, inferences every 250 ms. A full
or old journal is sealed: its blocks become one Arrow segment per revision, are written beside it, and the journal goes. Segments
stay on disk until the control plane has registered them.

Invariant: after a crash at any point, each acknowledged block is in exactly one segment. A journal that was being sealed is sealed
again to the same bytes, hence the same digest, which registers once; `marks.json` remembers the last seq of each source, so a
block that is sent again is dropped.

A worker runs a model's code, so what it says is looked at: its connection is bound to its revision by the node's first frame, and a block
of another, or one that is not whole, ends the connection. What still cannot be sealed is put aside, in `refused`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import selectors
import signal
import socket
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import httpx
import msgspec
from blake3 import blake3
from msgspec import Struct

from noria.config import Config, load_config
from noria.kernel.clock import SystemClock
from noria.kernel.errors import Invalid
from noria.kernel.processes import die_with_parent
from noria.logs import set_up_logging
from noria.serving.frames import BOUND_MARK, Block, Bound, Unpacker, Written, pack, recorder_socket
from noria.serving.model import SegmentInfo
from noria.serving.recording import Policies, recorded

log = logging.getLogger("noria.recorder")

SEAL_ROWS = 10_000
LINGER_S = (
    0.004  # between two looks at the sockets, which hold what comes meanwhile: a wake-up per block costs the workers a fifth
)
SYNC_S = 0.25  # how long an inference may wait for its fsync; nobody waits for the acknowledgement
READ_BYTES = 1 << 20
UPLOAD_RETRY_MAX_S = 30.0
SOURCES_KEPT = 1_000
_CRC = 4
_BOUND = bytes([BOUND_MARK])
_PER_ROW = ("ids", "at_ms", "event_at_ms", "keys", "roles", "latency_ms", "status")

_block = msgspec.msgpack.Decoder(Block).decode
_bound = msgspec.msgpack.Decoder(Bound).decode


class Peer:
    """A connected worker or gateway."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.frames = Unpacker()
        self.unsynced: dict[str, int] = {}  # source → seq to acknowledge after the next fsync
        self.bound: Bound | None = None  # a worker's; None: the gateway's
        self.has_spoken = False

    def require_own(self, block: Block) -> None:
        """Raises Invalid for a record of something else than this connection was made for."""
        if self.bound is None:
            return
        if block.kind != "inference" or (block.endpoint, block.revision_id) != (self.bound.endpoint, self.bound.revision_id):
            raise Invalid(
                f"A worker of {self.bound.endpoint} (revision {self.bound.revision_id[:8]}) brings {block.kind[:20]} "
                f"of {block.endpoint[:100]} (revision {block.revision_id[:8]})."
            )


class Journal:
    """The file that blocks are appended to. A torn tail is cut when it is read again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.blocks: list[tuple[Block, bytes]] = []
        self.rows = 0
        self._file: IO[bytes] = path.open("ab", buffering=0)

    def append(self, block: Block, head: bytes, body: bytes) -> None:
        frame = b"".join((len(head).to_bytes(4, "little"), len(body).to_bytes(4, "little"), head, body))
        self._file.write(frame + zlib.crc32(frame).to_bytes(_CRC, "little"))
        self.blocks.append((block, body))
        self.rows += block.rows

    def sync(self) -> None:
        os.fdatasync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def read_journal(path: Path) -> Iterator[tuple[Block, bytes]]:
    """The whole blocks of a journal; what a crash tore off at its end was never acknowledged."""
    data, at = path.read_bytes(), 0
    while at + 8 <= len(data):
        head = int.from_bytes(data[at : at + 4], "little")
        body = int.from_bytes(data[at + 4 : at + 8], "little")
        end = at + 8 + head + body
        if end + _CRC > len(data) or zlib.crc32(data[at:end]) != int.from_bytes(data[end : end + _CRC], "little"):
            log.warning("the journal %s is torn at byte %d; what follows was never acknowledged", path.name, at)
            return
        yield _block(data[at + 8 : at + 8 + head]), data[at + 8 + head : end]
        at = end + _CRC


class Marks(Struct):
    """The highest seq that was written, per source."""

    seqs: dict[str, int] = {}

    def is_new(self, block: Block) -> bool:
        return block.seq > self.seqs.get(block.source, 0)

    def note(self, block: Block) -> None:
        self.seqs.pop(block.source, None)
        self.seqs[block.source] = block.seq
        if len(self.seqs) > SOURCES_KEPT:
            self.seqs.pop(next(iter(self.seqs)))


class Sealer:
    """A thread that turns journals into segments and hands segments to the control plane."""

    def __init__(self, folder: Path, config: Config) -> None:
        self._folder = folder
        self._config = config
        self._queue: queue.Queue[tuple[Journal | None, dict[str, int]]] = queue.Queue()
        self._stop = threading.Event()
        self._clock = SystemClock()
        self._thread = threading.Thread(target=self._run, name="sealer", daemon=True)
        self._uploads = threading.Thread(target=self._upload_all, name="uploads", daemon=True)
        self._fresh = threading.Event()

    def start(self) -> None:
        self._thread.start()
        self._uploads.start()

    def seal(self, journal: Journal, marks: dict[str, int]) -> None:
        """Take a closed journal; `marks` are those after its last block."""
        self._queue.put((journal, marks))

    def stop(self) -> None:
        """Seal what was handed over, try one more upload, end."""
        self._queue.put((None, {}))
        self._thread.join(10.0)
        self._stop.set()
        self._fresh.set()
        self._uploads.join(5.0)

    def _run(self) -> None:
        while True:
            journal, marks = self._queue.get()
            if journal is None:
                return
            while not self._stop.is_set():
                try:
                    self._seal(journal, marks)
                    break
                except (OSError, MemoryError):
                    log.exception("the journal %s cannot be sealed; trying again in 5 s", journal.path.name)
                    self._stop.wait(5.0)

    def _seal(self, journal: Journal, marks: dict[str, int]) -> None:
        for i, group in enumerate(_groups(journal.blocks)):
            self._write(f"{journal.path.stem}-{i:03d}", group)
        _write_durably(self._folder / "marks.json", msgspec.json.encode(Marks(marks)))
        journal.path.unlink()
        self._fresh.set()

    def _write(self, name: str, blocks: list[tuple[Block, bytes]]) -> None:
        """A segment of the blocks; around one that breaks it, several, and that one is put aside. The same each time."""
        try:
            write_segment(self._folder / "sealed", name, blocks, self._clock.now_ms())
        except (OSError, MemoryError):  # not the blocks' fault
            raise
        except Exception as error:  # pyarrow has many kinds
            if len(blocks) > 1:
                half = len(blocks) // 2
                self._write(f"{name}a", blocks[:half])
                self._write(f"{name}b", blocks[half:])
                return
            block, body = blocks[0]
            aside = self._folder / "refused"
            aside.mkdir(exist_ok=True)
            log.error("a block of %s cannot be sealed (%s); it is kept in %s", block.endpoint, error, aside, exc_info=error)
            _write_durably(aside / f"{name}.block", pack(block, body))

    def _upload_all(self) -> None:
        wait_s = 0.5
        token = self._config.internal_token.reveal() or self._config.token.reveal()
        headers = {"authorization": f"Bearer {token}"}
        url = self._config.url or self._config.control_url
        with httpx.Client(base_url=url, headers=headers, timeout=30.0) as control:
            while True:
                stopping = self._stop.is_set()
                try:
                    for note in sorted((self._folder / "sealed").glob("*.json")):
                        self._upload(control, note)
                    wait_s = 0.5
                except (httpx.HTTPError, OSError) as error:
                    if wait_s < 2:
                        log.warning("segments wait on disk; the control plane does not take them: %s", error)
                    wait_s = min(UPLOAD_RETRY_MAX_S, wait_s * 2)
                    if not stopping:
                        self._stop.wait(wait_s)
                if stopping:
                    return
                self._fresh.wait(self._config.seal_s)
                self._fresh.clear()

    def _upload(self, control: httpx.Client, note: Path) -> None:
        """Hand one segment over: the bytes, then the row; then forget it here."""
        file, info = note.with_suffix(".arrow"), msgspec.json.decode(note.read_bytes(), type=SegmentInfo)
        stored = control.put(
            f"/api/v1/blobs/{info.digest}", content=file.read_bytes(), headers={"content-type": "application/octet-stream"}
        )
        stored.raise_for_status()
        registered = control.post("/api/v1/serving/segments", content=msgspec.json.encode(info))
        if 400 <= registered.status_code < 500 and registered.status_code not in (401, 403, 429):
            refused = self._folder / "refused"
            refused.mkdir(exist_ok=True)
            log.error("the control plane refuses %s: %s; it is kept in %s", note.stem, registered.text[:300], refused)
            file.rename(refused / file.name)
            note.rename(refused / note.name)
            return
        registered.raise_for_status()
        file.unlink()
        note.unlink()


def require_whole(block: Block, body: bytes) -> None:
    """Raises Invalid for a block whose lists and bytes are not those of its rows; what else may be wrong, sealing finds."""
    if block.kind == "truth":
        return
    wrong = [name for name in _PER_ROW if len(getattr(block, name)) != block.rows]
    if any(rows < 0 or width < 0 for _, rows, width in block.layout):
        wrong.append("layout")
    elif sum(rows * width * 8 for _, rows, width in block.layout) > len(body):
        wrong.append("body")
    if block.kind != "inference" or wrong:
        raise Invalid(
            f"A block of {block.rows} rows and {len(body)} bytes is not whole: {', '.join(wrong) or block.kind[:20]}."
        )


def _groups(blocks: list[tuple[Block, bytes]]) -> list[list[tuple[Block, bytes]]]:
    """Blocks by revision and form (inferences) or endpoint (truth), in the order of their first block."""
    from noria.serving.segments import form_of

    groups: dict[Any, list[tuple[Block, bytes]]] = {}
    for block, body in blocks:
        groups.setdefault(form_of(block), []).append((block, body))
    return list(groups.values())


def write_segment(folder: Path, name: str, blocks: list[tuple[Block, bytes]], at_ms: int) -> SegmentInfo:
    """Write the blocks as `name`.arrow with its description beside it; the description comes last and makes it count."""
    from noria.serving import segments

    first = blocks[0][0]
    is_truth = first.kind == "truth"
    table = segments.truth_table(blocks) if is_truth else segments.inference_table(blocks)
    times = table.column("at_ms" if is_truth else "event_at_ms").to_numpy()
    data = segments.to_bytes(table)
    info = SegmentInfo(
        endpoint=first.endpoint, kind="truth" if is_truth else "inference", revision_id=first.revision_id,
        digest=blake3(data).hexdigest(), rows=table.num_rows, size_bytes=len(data), event_from_ms=int(times.min()),
        event_to_ms=int(times.max()), at_ms=at_ms,
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    _write_durably(folder / f"{name}.arrow", data)
    _write_durably(folder / f"{name}.json", msgspec.json.encode(info))
    return info


def _write_durably(path: Path, data: bytes) -> None:
    temporary = path.with_suffix(path.suffix + ".tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class Recorder:
    """The loop: read, append, sync, acknowledge."""

    def __init__(self, config: Config) -> None:
        self._folder = config.home / "serving" / "records"
        (self._folder / "sealed").mkdir(parents=True, exist_ok=True)
        self._clock = SystemClock()
        self._config = config
        self._sealer = Sealer(self._folder, config)
        self._marks = self._read_marks()
        self._policies = Policies(config.home, self._clock)
        self._number = 0
        self._journal: Journal | None = None
        self._opened_s = 0.0
        self._synced_s = 0.0
        self._peers: dict[socket.socket, Peer] = {}
        self._selector = selectors.DefaultSelector()
        self._stopping = False
        self._listener = _listen(recorder_socket(config.home))
        self._selector.register(self._listener, selectors.EVENT_READ)

    def run(self) -> None:
        self._recover()
        self._sealer.start()
        while not self._stopping:
            self._turn()
        self._sync()
        self._rotate()
        self._sealer.stop()

    def ask_to_stop(self, *_: object) -> None:
        self._stopping = True

    def _turn(self) -> None:
        wants_sync = False
        for key, _ in self._selector.select(self._wait_s()):
            if key.fileobj is self._listener:
                self._accept()
            else:
                wants_sync |= self._read(self._peers[key.fileobj])  # type: ignore[index]
        now_s = self._clock.monotonic_s()
        if self._journal is not None:
            if not wants_sync:
                self._clock.sleep(LINGER_S)
            if wants_sync or now_s - self._synced_s >= SYNC_S:
                self._sync()
            if self._journal.rows >= SEAL_ROWS or now_s - self._opened_s >= self._config.seal_s:
                self._sync()
                self._rotate()

    def _wait_s(self) -> float:
        if self._journal is None:
            return 0.5
        now_s = self._clock.monotonic_s()
        waits = [self._opened_s + self._config.seal_s - now_s]
        if any(p.unsynced for p in self._peers.values()):
            waits.append(self._synced_s + SYNC_S - now_s)
        return max(0.0, min(waits))

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        connection.setblocking(False)
        self._peers[connection] = Peer(connection)
        self._selector.register(connection, selectors.EVENT_READ)

    def _read(self, peer: Peer) -> bool:
        """Append what a peer sent; True when somebody waits for the fsync (truth)."""
        try:
            data = peer.connection.recv(READ_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self._drop(peer)
            return False
        waits = False
        try:
            for head, body in peer.frames.feed(data):
                waits |= self._append(peer, head, body)
        except OSError:  # of the journal
            raise
        except Exception as error:  # a model's code may send anything
            is_known = isinstance(error, msgspec.DecodeError | Invalid)
            log.warning(
                "a peer sends what is no record of its own, and its connection is closed: %s", error,
                exc_info=None if is_known else error,
            )  # fmt: skip
            self._drop(peer)
        return waits

    def _append(self, peer: Peer, head: bytes, body: bytes) -> bool:
        is_first, peer.has_spoken = not peer.has_spoken, True
        if is_first and head[:1] == _BOUND:
            peer.bound = _bound(head)
            return False
        block = _block(head)
        peer.require_own(block)
        require_whole(block, body)
        if self._marks.is_new(block):
            self._write(block, head, body)
            self._marks.note(block)
        peer.unsynced[block.source] = block.seq
        return block.kind == "truth"

    def _write(self, block: Block, head: bytes, body: bytes) -> None:
        """What the endpoint's policy lets through, to the journal."""
        policy = self._policies.of(block.endpoint)
        if policy is not None:
            found = recorded(block, body, policy)
            if found is None:
                return
            block, body = found
            head = msgspec.msgpack.encode(block)
        if self._journal is None:
            self._open_journal()
        assert self._journal is not None
        self._journal.append(block, head, body)

    def _sync(self) -> None:
        """Everything read so far to the disk, then tell those who sent it."""
        self._synced_s = self._clock.monotonic_s()
        if self._journal is not None:
            self._journal.sync()
        for peer in list(self._peers.values()):
            if not peer.unsynced:
                continue
            told = b"".join(pack(Written(source, seq)) for source, seq in peer.unsynced.items())
            peer.unsynced.clear()
            try:
                peer.connection.sendall(told)
            except (BrokenPipeError, ConnectionResetError):
                pass  # it died; what it sent before is still to be read, and the end of its stream lets it go
            except OSError:
                self._drop(peer)

    def _drop(self, peer: Peer) -> None:
        self._selector.unregister(peer.connection)
        self._peers.pop(peer.connection, None)
        peer.connection.close()

    def _open_journal(self) -> None:
        self._number += 1
        self._journal = Journal(self._folder / f"{self._number:012d}.journal")
        self._opened_s = self._clock.monotonic_s()

    def _rotate(self) -> None:
        """Close the journal and hand it to the sealer."""
        if self._journal is None:
            return
        journal, self._journal = self._journal, None
        journal.close()
        self._sealer.seal(journal, dict(self._marks.seqs))

    def _read_marks(self) -> Marks:
        path = self._folder / "marks.json"
        return msgspec.json.decode(path.read_bytes(), type=Marks) if path.is_file() else Marks()

    def _recover(self) -> None:
        """Seal the journals that a crash left; their blocks count as written."""
        left = sorted(self._folder.glob("*.journal"))
        known = [int(p.name.split(".")[0].split("-")[0]) for p in [*left, *(self._folder / "sealed").iterdir()]]
        self._number = max(known, default=0)
        for path in left:
            blocks = list(read_journal(path))
            journal = Journal(path)
            journal.blocks = blocks
            journal.rows = sum(b.rows for b, _ in blocks)
            journal.sync()
            journal.close()
            for block, _ in blocks:
                self._marks.note(block)
            log.info("recovered %d rows of %s", journal.rows, path.name)
            self._sealer.seal(journal, dict(self._marks.seqs))


def _listen(path: Path) -> socket.socket:
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen(64)
    listener.setblocking(False)
    return listener


def main() -> None:
    die_with_parent()
    config = load_config()
    set_up_logging("recorder", config.log_level)
    import noria.serving.segments  # noqa: F401  # pyarrow takes a second to import: before the first block, not at it

    recorder = Recorder(config)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, recorder.ask_to_stop)
    recorder.run()


if __name__ == "__main__":
    main()
