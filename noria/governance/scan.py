"""Look through one file of a model without running any of it: what format is it, and would reading it run code?

Containers are opened (zip, tar, gzip, bz2, xz, zlib, .npy, .npz, torch's and joblib's files), pickles are walked (pickles.py).
Invariant: what cannot be followed is never called clean. An unknown format is `unscanned`; an archive that two readers may read
differently, or that unpacks to more than there is room for, is `suspicious`.

    python -m noria.governance.scan FILE NAME     prints the result as JSON; large files are scanned in such a process
"""

from __future__ import annotations

import bz2
import io
import logging
import lzma
import mmap
import re
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from noria.governance.allowed import is_allowed
from noria.governance.pickles import FINDINGS_MAX, OutOfBudget, ScanFinding, Walk

DEPTH_MAX = 4
MEMBERS_MAX = 20_000
TEXT_BYTES = 1 << 16
CHUNK_BYTES = 1 << 20
HEADER_BYTES_MAX = 16 << 20
SECOND_OPINION_BYTES = 64 << 20
TORCH_MAGIC = 0x1950A86A20F9469CFC6C  # the first of five pickles in files of torch before 1.6
SAFE_FORMATS = frozenset({"safetensors", "onnx", "json", "ubjson", "npy", "npz", "text", "yaml", "skops", "data", "keras"})
_IDENTIFIER = re.compile(r"[A-Za-z_][\w.]*\Z")
_PICKLE_NAMES = re.compile(r"\.(pkl|pickle|joblib|dill|p|pt|pth|bin|ckpt)\Z", re.IGNORECASE)
_DATA_MAGIC = (b"PAR1", b"ARROW1", b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"%PDF", b"CBM1")

Status = Literal["clean", "suspicious", "unscanned"]


class Budget(Struct):
    """What one scan may take; it counts down."""

    steps: int = 2_000_000_000
    unpacked_bytes: int = 16 << 30
    is_final: bool = True  # a bomb to the last scan; to a quick one only a reason to leave it to that


class FileScan(Struct, frozen=True, kw_only=True):
    """What one file is. `formats` are its own and those of what it contains."""

    path: str
    status: Status
    format: str
    findings: list[ScanFinding] = []
    why: str = ""  # when it could not be scanned


class Look:
    """One look through one file."""

    def __init__(self, path: str, budget: Budget, *, is_pickle: bool = False) -> None:
        self.path, self.budget = path, budget
        self.is_pickle = is_pickle or bool(_PICKLE_NAMES.search(path))
        self.findings: list[ScanFinding] = []
        self.why = ""
        self.imports: set[str] = set()

    def find(self, reason: str, file: str = "", *, name: str = "") -> None:
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(ScanFinding(file=file or self.path, reason=reason, name=name))

    def _is_pickle(self, name: str) -> bool:
        return self.is_pickle if name == self.path else bool(_PICKLE_NAMES.search(name))

    def result(self, format: str) -> FileScan:
        status: Status = "suspicious" if self.findings else "unscanned" if self.why else "clean"
        return FileScan(path=self.path, status=status, format=format, findings=self.findings[:FINDINGS_MAX], why=self.why)

    def look(self, stream: Any, size: int, name: str, depth: int = 0) -> str:
        """Look through `stream`; returns its format. Raises OutOfBudget."""
        if depth > DEPTH_MAX:
            self.find(f"archives within archives, more than {DEPTH_MAX} deep", name)
            return "archive"
        stream.seek(0)
        head = stream.read(512)
        stream.seek(0)
        if not head:
            return "data"
        if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
            return self._zip(stream, name, depth)
        if head[0] == 0x80 and not is_safetensors(stream, size):
            return self._pickles(stream, size, name)
        if head.startswith(b"\x93NUMPY"):
            return self._npy(stream, size, name)
        for format, magic, unpack in _COMPRESSED:
            if head.startswith(magic):
                return self._compressed(stream, name, depth, format, unpack)
        if head[257:262] == b"ustar":
            return self._tar(stream, name, depth)
        if head.startswith(b"\x89HDF\r\n\x1a\n"):
            return self._hdf5(stream, name)
        return self._plain(stream, size, name, head)

    def _plain(self, stream: Any, size: int, name: str, head: bytes) -> str:
        if is_safetensors(stream, size):
            return "safetensors"
        if name.lower().endswith(".onnx") and head[0] == 0x08:
            return "onnx"
        if head.startswith(_DATA_MAGIC):
            return "data"
        format = self._text(stream, name, head)
        found = Walk(name, stream, size, steps=min(self.budget.steps, 1_000_000))
        stream.seek(0)
        try:
            found.run()
        except OutOfBudget:
            if not format:
                raise
        is_whole = found.first_value is not None and stream.tell() == size
        is_broken = any(f.reason.startswith("the stream is broken") for f in found.findings)
        if self._is_pickle(name) and (format not in ("json", "ubjson")):
            return self._pickles(stream, size, name)
        if found.imports and not is_broken and (is_whole or not format):
            return self._pickles(stream, size, name)  # a pickle of the first protocols under another name
        if size >= 22 and zipfile.is_zipfile(stream):
            self.find("an archive behind something else: readers differ in what they see", name)
        if not format:
            self.why = f"the format of {name} is not known"
            return "unknown"
        return format

    def _text(self, stream: Any, name: str, head: bytes) -> str:
        """The format of a text, or "": it is none."""
        if head[:1] in b"{[" and b"\x00" in head:
            return "ubjson" if head[:2] in (b"{L", b"{i", b"{U", b"{l", b"{I") else ""
        stream.seek(0)
        text = stream.read(TEXT_BYTES)
        try:
            text.decode()
        except UnicodeDecodeError as error:
            if error.start < len(text) - 4 or len(text) < TEXT_BYTES:
                return ""
        if b"\x00" in text:
            return ""
        lower = name.lower()
        if lower.endswith((".py", ".pyc", ".sh")):
            self.find("code that may run when the model is loaded", name)
            return "code"
        if text.lstrip()[:1] in (b"{", b"["):
            return "json"
        return "yaml" if lower.endswith((".yaml", ".yml", "mlmodel")) else "text"

    # --- pickles ----------------------------------------------------------------------------------------------------

    def _pickles(self, stream: Any, size: int, name: str, *, is_torch: bool = False, start: int = 0) -> str:
        stream.seek(start)
        count, limit = 0, sys.maxsize
        while stream.tell() < size and count < limit:
            at = stream.tell()
            walk = self._walk(stream, size, name, is_torch=is_torch or limit == 5)
            if walk.arrays_count:
                end = stream.tell()
                stream.seek(at)
                self._walk_plainly(stream, size, name)
                stream.seek(end)
            if any(f.reason.startswith("the stream is broken") for f in walk.findings):
                if count:
                    self.find("bytes after the end of the pickle", name)
                break
            count += 1
            if count == 1 and walk.first_value == "torch":
                limit = 5
        self._ask_another(stream, size, name, start)
        return "torch" if is_torch or limit == 5 else "pickle"

    def _walk(self, stream: Any, size: int, name: str, *, is_torch: bool) -> Walk:
        at = stream.tell()
        head = stream.read(16)
        stream.seek(at)
        walk = Walk(name, stream, size, steps=self.budget.steps, is_torch=is_torch)
        try:
            walk.run()
        finally:
            self.budget.steps = max(0, walk.steps)
            self.findings += walk.findings[: max(0, FINDINGS_MAX - len(self.findings))]
            self.imports |= walk.imports
        if TORCH_MAGIC.to_bytes(10, "little") in head:
            walk.first_value = "torch"
        return walk

    def _walk_plainly(self, stream: Any, size: int, name: str) -> None:
        """Again as a reader that knows nothing of joblib's arrays, to which their bytes are opcodes."""
        walk = Walk(name, stream, size, steps=self.budget.steps, reads_plainly=True)
        walk.run()
        self.budget.steps = max(0, walk.steps)
        known = {f.name for f in self.findings}
        # Random bytes are opcodes too; what they import is no name of anything.
        self.findings += [f for f in walk.findings if (f.name == "?" or _IDENTIFIER.match(f.name)) and f.name not in known]

    def _ask_another(self, stream: Any, size: int, name: str, start: int) -> None:
        """What picklescan says, where it is installed: its list of what is bad may know a name that ours lets through."""
        if size - start > SECOND_OPINION_BYTES or self.findings:
            return
        try:
            from picklescan.scanner import SafetyLevel, scan_pickle_bytes
        except ImportError:
            return
        logging.getLogger("picklescan").setLevel(logging.CRITICAL)  # of joblib's arrays it says, at length, that it cannot
        stream.seek(start)
        for found in scan_pickle_bytes(io.BytesIO(stream.read(size - start)), name).globals:
            if found.safety == SafetyLevel.Dangerous and f"{found.module}.{found.name}" in self.imports:
                label = f"{found.module}.{found.name}"
                self.find(f"imports {label}, which picklescan calls dangerous", name, name=label)

    def _npy(self, stream: Any, size: int, name: str) -> str:
        import numpy as np

        try:
            version = np.lib.format.read_magic(stream)
            if version == (1, 0):
                dtype = np.lib.format.read_array_header_1_0(stream)[2]
            elif version == (2, 0):
                dtype = np.lib.format.read_array_header_2_0(stream)[2]
            else:
                self.why = f"{name} is of a version of .npy that is not known"
                return "npy"
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError) as error:
            self.find(f"its header cannot be read: {str(error)[:100]}", name)
            return "npy"
        if dtype.hasobject:
            self._pickles(stream, size, name, start=stream.tell())
            return "npy with objects"
        return "npy"

    # --- containers -------------------------------------------------------------------------------------------------

    def _zip(self, stream: Any, name: str, depth: int) -> str:
        try:
            with zipfile.ZipFile(stream) as archive:
                members = archive.infolist()
                names = [m.filename for m in members]
                if len(members) > MEMBERS_MAX or len(set(names)) != len(names):
                    self.find("an archive with too many files, or with two of one name", name)
                    return "zip"
                root = next((n.removesuffix("data.pkl") for n in names if n == "data.pkl" or n.endswith("/data.pkl")), None)
                for member in members:
                    self._member(archive, member, name, depth, root)
        except (
            zipfile.BadZipFile,
            NotImplementedError,
            RuntimeError,
            EOFError,
            zlib.error,
            lzma.LZMAError,
            OSError,
        ) as error:
            self.find(f"a broken archive, which readers may read differently: {str(error)[:150]}", name)
            return "zip"
        if root is not None:
            return "torch"
        if "schema.json" in names:
            return "skops"
        if "config.json" in names and any(n.endswith(".weights.h5") for n in names):
            return "keras"
        is_arrays = bool(names) and all(n.endswith(".npy") for n in names)
        return "npz" if is_arrays else "zip"

    def _member(
        self, archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str, depth: int, torch_root: str | None
    ) -> None:
        if member.is_dir():
            return
        inner = f"{name}:{member.filename}"
        if member.flag_bits & 1:
            self.find("an encrypted file in an archive", inner)
            return
        with archive.open(member) as file, self._unpacked(iter(lambda: file.read(CHUNK_BYTES), b""), inner) as spool:
            size = spool.seek(0, io.SEEK_END)
            spool.seek(0)
            if torch_root is not None and member.filename.startswith(f"{torch_root}data/"):
                return  # the bytes of a tensor: torch reads them as numbers, whatever they are
            if torch_root is not None and member.filename.endswith(".pkl"):
                self._pickles(spool, size, inner, is_torch=True)
                return
            is_config = member.filename in ("config.json", "metadata.json")
            if is_config and re.search(rb'"class_name"\s*:\s*"Lambda"', spool.read(HEADER_BYTES_MAX)):
                self.find("a Lambda layer, which holds Python code", inner)
            self.look(spool, size, inner, depth + 1)

    def _tar(self, stream: Any, name: str, depth: int) -> str:
        count = 0
        try:
            with tarfile.open(fileobj=stream, mode="r:") as archive:
                for member in archive:
                    count += 1
                    if count > MEMBERS_MAX:
                        self.find("an archive with too many files", name)
                        break
                    inner = f"{name}:{member.name}"
                    if (
                        not (member.isreg() or member.isdir())
                        or member.name.startswith("/")
                        or ".." in member.name.split("/")
                    ):
                        self.find("a link, a device or a path that leaves its folder, in an archive", inner)
                    elif member.isreg() and (file := archive.extractfile(member)) is not None:
                        with self._unpacked(iter(lambda file=file: file.read(CHUNK_BYTES), b""), inner) as spool:  # type: ignore[misc]
                            self.look(spool, spool.seek(0, io.SEEK_END), inner, depth + 1)
        except (tarfile.TarError, EOFError, ValueError, OSError) as error:
            self.find(f"a broken archive, which readers may read differently: {str(error)[:150]}", name)
        return "tar"

    def _compressed(
        self, stream: Any, name: str, depth: int, format: str, unpack: Callable[[Any], Iterator[bytes]] | None
    ) -> str:
        if unpack is None:
            self.why = f"{name} is compressed with {format}, which is not opened here"
            return format
        try:
            with self._unpacked(unpack(stream), name) as spool:
                self.look(spool, spool.seek(0, io.SEEK_END), name, depth + 1)
        except (zlib.error, lzma.LZMAError, EOFError, OSError, ValueError) as error:
            if format == "zlib" and not self._is_pickle(name):
                self.why = f"the format of {name} is not known"
                return "unknown"
            self.find(f"broken compression: {str(error)[:150]}", name)
        return format

    def _unpacked(self, chunks: Iterator[bytes], name: str) -> Any:
        """What `chunks` give, in a file that goes when it is closed. Raises OutOfBudget; a bomb is a finding, and ends early."""
        spool = tempfile.SpooledTemporaryFile(max_size=8 << 20)  # noqa: SIM115 – given to the caller, who closes it
        for chunk in chunks:
            self.budget.unpacked_bytes -= len(chunk)
            if self.budget.unpacked_bytes < 0:
                spool.close()
                if not self.budget.is_final:
                    raise OutOfBudget
                self.find("unpacks to more than there is room for: a bomb", name)
                raise EOFError("a bomb")
            spool.write(chunk)
        return spool

    def _hdf5(self, stream: Any, name: str) -> str:
        tail = b""
        for chunk in iter(lambda: stream.read(CHUNK_BYTES), b""):
            if re.search(rb'"class_name"\s*:\s*"Lambda"', tail + chunk):
                self.find("a Lambda layer, which holds Python code", name)
                break
            tail = chunk[-64:]
        return "hdf5"


def is_safetensors(stream: Any, size: int) -> bool:
    """A length, a JSON header of that length, and exactly the bytes that it lists."""
    stream.seek(0)
    head = stream.read(9)
    length = int.from_bytes(head[:8], "little")
    if len(head) < 9 or head[8:9] != b"{" or not 2 <= length <= min(HEADER_BYTES_MAX - 1, size - 8):
        return False
    stream.seek(8)
    return _is_header(stream.read(length), size - 8 - length)


def _is_header(text: bytes, data_bytes: int) -> bool:
    try:
        header = msgspec.json.decode(text, type=dict[str, dict[str, Any]])
        ends = [int(t["data_offsets"][1]) for name, t in header.items() if name != "__metadata__"]
    except (msgspec.DecodeError, msgspec.ValidationError, KeyError, IndexError, TypeError, ValueError, RecursionError):
        return False
    return max(ends, default=0) == data_bytes


def _inflate(stream: Any, bits: int) -> Iterator[bytes]:
    """zlib and gzip in bounded pieces, whatever the ratio; gzip's members one after the other."""
    decoder = zlib.decompressobj(bits)
    data = stream.read(CHUNK_BYTES)
    while data:
        piece = decoder.decompress(data, CHUNK_BYTES)
        if piece:
            yield piece
        data = decoder.unconsumed_tail
        if decoder.eof:
            data = decoder.unused_data or stream.read(CHUNK_BYTES)
            if not data.strip(b"\x00"):
                return
            decoder = zlib.decompressobj(bits)
        elif not data:
            data = stream.read(CHUNK_BYTES)
    if not decoder.eof:
        raise EOFError("it ends too early")


def _bunzip(stream: Any) -> Iterator[bytes]:
    with bz2.BZ2File(stream) as file:
        yield from iter(lambda: file.read(CHUNK_BYTES), b"")


def _unlzma(stream: Any) -> Iterator[bytes]:
    with lzma.LZMAFile(stream) as file:
        yield from iter(lambda: file.read(CHUNK_BYTES), b"")


_COMPRESSED: tuple[tuple[str, bytes | tuple[bytes, ...], Callable[[Any], Iterator[bytes]] | None], ...] = (
    ("gzip", b"\x1f\x8b", lambda s: _inflate(s, 31)),
    ("zlib", (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda"), lambda s: _inflate(s, 15)),
    ("bz2", b"BZh", _bunzip),
    ("xz", b"\xfd7zXZ\x00", _unlzma),
    ("lzma", b"\x5d\x00\x00", _unlzma),
    ("lz4", b"\x04\x22\x4d\x18", None),
    ("zstd", b"\x28\xb5\x2f\xfd", None),
)


class _Mapped(mmap.mmap):
    """A file as memory, of which no more can be read than there is; zipfile asks whether it can seek."""

    def seekable(self) -> bool:
        return True


def scan_file(file: Path, path: str, budget: Budget, *, is_pickle: bool = False) -> FileScan:
    """Look through one file, which the model calls `path`. Raises OutOfBudget."""
    if file.stat().st_size == 0:
        return FileScan(path=path, status="clean", format="data")
    with file.open("rb") as opened, _Mapped(opened.fileno(), 0, access=mmap.ACCESS_READ) as stream:
        look = Look(path, budget, is_pickle=is_pickle)
        return look.result(look.look(stream, len(stream), path))


def flavor_findings(flavors: dict[str, Any]) -> list[ScanFinding]:
    """What the description of a model asks of whoever loads it that its files do not show."""
    found: list[ScanFinding] = []
    python = flavors.get("python_function")
    loader = python.get("loader_module") if isinstance(python, dict) else None
    if isinstance(loader, str) and not loader.startswith("mlflow."):
        found.append(ScanFinding(file="MLmodel", reason=f"is loaded by code of its own: {loader[:200]}", name=loader[:200]))
    for flavor in flavors.values():
        trusted = flavor.get("skops_trusted_types") if isinstance(flavor, dict) else None
        for name in trusted if isinstance(trusted, list) else []:
            module, _, last = str(name).rpartition(".")
            if not is_allowed(module, last):
                label = str(name)[:200]
                found.append(ScanFinding(file="MLmodel", reason=f"asks skops to trust {label}", name=label))
    return found[:FINDINGS_MAX]


def pickled_paths(flavors: dict[str, Any]) -> set[str]:
    """The files that the description says are pickles, whatever they are called."""
    keys = ("pickled_model", "python_model", "data")
    return {
        value for flavor in flavors.values() if isinstance(flavor, dict) for key in keys
        if isinstance(value := flavor.get(key), str) and flavor.get("serialization_format") != "skops"
    }  # fmt: skip


def main() -> None:
    """Scan one file with all the time it needs, and little memory."""
    import resource

    resource.setrlimit(resource.RLIMIT_DATA, (4 << 30, 4 << 30))
    resource.setrlimit(resource.RLIMIT_CPU, (1_800, 1_800))
    file, path, is_pickle = sys.argv[1:4]
    sys.stdout.buffer.write(msgspec.json.encode(scan_file(Path(file), path, Budget(), is_pickle=is_pickle == "1")))


if __name__ == "__main__":
    main()
