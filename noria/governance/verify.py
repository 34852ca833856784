#!/usr/bin/env python3
"""Verify an exported audit log of Noria: this one file, the standard library, no server and no network.

    python verify.py events.jsonl checkpoint.txt --pub audit.pub

What is checked, and what it means:
  - `events.jsonl` has one fact a line. A line's exact bytes, without the newline, are one leaf of a Merkle tree (RFC 6962):
    leaf = SHA-256(0x00 ‖ line), node = SHA-256(0x01 ‖ left ‖ right).
  - `checkpoint.txt` is a signed note (c2sp.org/signed-note, c2sp.org/tlog-checkpoint): origin, size, root, signature.
  - If the signature is good and the lines give the signed root, then these are the facts, all of them, in this order.
  - If not, the first bad one is named. `hashes.txt` (one leaf hash a line), when it lies beside the export, gives the exact
    place: its own root is compared with the signed one, so it is believed only when the signature covers it. Without it,
    numbering and the older signed checkpoints in `checkpoints.jsonl` narrow the place down.
  - Of a personal value a fact holds `personal:sha256:` and SHA-256(salt ‖ value). `personal.jsonl`, when it lies beside the export,
    has salt and value of those that were not erased; each is compared.

Ed25519 verification follows the Python reference code of RFC 8032, section 6 (points in extended homogeneous coordinates).
Exit code: 0 intact, 1 not intact, 2 the input cannot be read.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

CLOCK_BACK_MS = 3_600_000
"""How far a fact may lie before the one it follows. A fact carries the time its operation began, so a long one lags."""


# --- the tree (RFC 6962, section 2.1) ---------------------------------------------------------------------------------


def leaf_hash(data: bytes) -> bytes:
    """The hash of a leaf."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Tree:
    """A growing tree, kept as the roots of its perfect subtrees, largest first: log2(size) hashes."""

    def __init__(self, size: int = 0, peaks: Iterable[bytes] = ()) -> None:
        self.size = size
        self.peaks = list(peaks)

    def append(self, leaf: bytes) -> list[tuple[int, int, bytes]]:
        """Add a leaf hash; returns the perfect nodes it completed as (level, index, hash), the leaf first."""
        level, index, node = 0, self.size, leaf
        made = [(0, index, leaf)]
        while index & 1:
            node = node_hash(self.peaks.pop(), node)
            level, index = level + 1, index >> 1
            made.append((level, index, node))
        self.peaks.append(node)
        self.size += 1
        return made

    def root(self) -> bytes:
        """The root hash; of the empty tree, the hash of nothing."""
        if not self.peaks:
            return hashlib.sha256(b"").digest()
        root = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            root = node_hash(peak, root)
        return root


def verify_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """Does `path` prove that `leaf` (a hash) is number `index` of `size` in the tree with this root?  RFC 9162, 2.1.3.2."""
    if not 0 <= index < size:
        return False
    at, last, node = index, size - 1, leaf
    for part in path:
        if last == 0:
            return False
        if at & 1 or at == last:
            node = node_hash(part, node)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            node = node_hash(node, part)
        at, last = at >> 1, last >> 1
    return last == 0 and node == root


def verify_consistency(first: int, second: int, path: Sequence[bytes], first_root: bytes, second_root: bytes) -> bool:
    """Does `path` prove that the tree of `second` leaves only added to the one of `first` leaves?  RFC 9162, 2.1.4.2."""
    if not 0 < first <= second:
        return False
    if first == second:
        return not path and first_root == second_root
    parts = list(path)
    if first & (first - 1) == 0:
        parts.insert(0, first_root)
    if not parts:
        return False
    at, last = first - 1, second - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    old = new = parts[0]
    for part in parts[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            old, new = node_hash(part, old), node_hash(part, new)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            new = node_hash(new, part)
        at, last = at >> 1, last >> 1
    return last == 0 and old == first_root and new == second_root


# --- Ed25519 (RFC 8032, section 6) ------------------------------------------------------------------------------------

_P = 2**255 - 19
_Q = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, _P - 2, _P) % _P
_ROOT_OF_MINUS_1 = pow(2, (_P - 1) // 4, _P)
_Point = tuple[int, int, int, int]


def _add(p: _Point, q: _Point) -> _Point:
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % _P, (p[1] + p[0]) * (q[1] + q[0]) % _P
    c, d = 2 * p[3] * q[3] * _D % _P, 2 * p[2] * q[2] % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % _P, g * h % _P, f * g % _P, e * h % _P)


def _times(s: int, p: _Point) -> _Point:
    q: _Point = (0, 1, 1, 0)
    while s > 0:
        if s & 1:
            q = _add(q, p)
        p = _add(p, p)
        s >>= 1
    return q


def _is_same(p: _Point, q: _Point) -> bool:
    return (p[0] * q[2] - q[0] * p[2]) % _P == 0 and (p[1] * q[2] - q[1] * p[2]) % _P == 0


def _x_of(y: int, sign: int) -> int | None:
    if y >= _P:
        return None
    x2 = (y * y - 1) * pow(_D * y * y + 1, _P - 2, _P) % _P
    if x2 == 0:
        return None if sign else 0
    x = pow(x2, (_P + 3) // 8, _P)
    if (x * x - x2) % _P != 0:
        x = x * _ROOT_OF_MINUS_1 % _P
    if (x * x - x2) % _P != 0:
        return None
    return _P - x if (x & 1) != sign else x


_BASE_Y = 4 * pow(5, _P - 2, _P) % _P
_BASE_X = _x_of(_BASE_Y, 0) or 0
_BASE: _Point = (_BASE_X, _BASE_Y, 1, _BASE_X * _BASE_Y % _P)


def _point(data: bytes) -> _Point | None:
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & (1 << 255) - 1
    x = _x_of(y, sign)
    return None if x is None else (x, y, 1, x * y % _P)


def ed25519_verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Is `signature` (64 bytes) one of `message` by the owner of `public` (32 bytes)?"""
    if len(public) != 32 or len(signature) != 64:
        return False
    a, r = _point(public), _point(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if a is None or r is None or s >= _Q:
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % _Q
    return _is_same(_times(s, _BASE), _add(r, _times(h, a)))


# --- signed notes (c2sp.org/signed-note) ------------------------------------------------------------------------------


class Unreadable(ValueError):
    """The input is not in the expected form."""


class Key(NamedTuple):
    """A public key: `<name>+<8 hex digits>+<base64 of 0x01 ‖ key>`."""

    name: str
    id: bytes
    public: bytes

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{base64.b64encode(bytes([1]) + self.public).decode()}"


class Note(NamedTuple):
    """A checkpoint: what was signed, and the signatures as (name, key id, signature)."""

    text: str
    origin: str
    size: int
    root: bytes
    signatures: list[tuple[str, bytes, bytes]]


def key_id(name: str, public: bytes) -> bytes:
    """The first four bytes of SHA-256(name ‖ newline ‖ 0x01 ‖ key)."""
    return hashlib.sha256(name.encode() + b"\n\x01" + public).digest()[:4]


def parse_key(text: str) -> Key:
    """Read a public key. Raises Unreadable."""
    name, _, rest = text.strip().partition("+")
    hex_id, _, encoded = rest.partition("+")
    try:
        ident, data = bytes.fromhex(hex_id), base64.b64decode(encoded, validate=True)
    except (ValueError, binascii.Error) as cause:
        raise Unreadable("the public key cannot be read; it looks like name+0123abcd+base64") from cause
    if not name or len(data) != 33 or data[0] != 1 or key_id(name, data[1:]) != ident:
        raise Unreadable("the public key is damaged: its id does not belong to its bytes")
    return Key(name, ident, data[1:])


def parse_keys(text: str) -> list[Key]:
    """Read public keys, one a line: the one that signs now first, then those it took the place of. Raises Unreadable."""
    return [parse_key(line) for line in text.splitlines() if line.strip()] or [parse_key(text)]


def parse_note(text: str) -> Note:
    """Read a signed checkpoint. Raises Unreadable."""
    body, blank, rest = text.partition("\n\n")
    lines = body.split("\n")
    if not blank or len(lines) < 3 or not lines[1].isdigit():
        raise Unreadable("the checkpoint cannot be read; it has an origin, a size, a root, an empty line and a signature")
    try:
        root = base64.b64decode(lines[2], validate=True)
        signatures = []
        for line in rest.splitlines():
            mark, name, encoded = line.split(" ")
            data = base64.b64decode(encoded, validate=True)
            if mark != "—" or len(data) < 5:
                raise ValueError(line)
            signatures.append((name, data[:4], data[4:]))
    except (ValueError, binascii.Error) as cause:
        raise Unreadable("the checkpoint's root or a signature cannot be read") from cause
    return Note(body + "\n", lines[0], int(lines[1]), root, signatures)


def is_signed(note: Note, key: Key) -> bool:
    """Does `note` carry a good signature by `key`?"""
    return any(
        name == key.name and ident == key.id and ed25519_verify(key.public, note.text.encode(), signature)
        for name, ident, signature in note.signatures
    )


# --- the log ----------------------------------------------------------------------------------------------------------


class Fault(NamedTuple):
    """Something wrong. `at` is the index of the first bad leaf; the fact with number `seq` has index `seq - 1`."""

    kind: str  # signature, key, edited, removed, inserted, moved, cut, extra, numbering, changed, clock, personal, erased
    at: int | None
    message: str


class Result(NamedTuple):
    """What verification found. Warnings do not make a log less intact: they are for a person to look at."""

    is_intact: bool
    size: int
    root: str
    faults: list[Fault]
    warnings: list[Fault]


def verify_log(
    leaves: Iterable[bytes],
    note: Note,
    keys: Sequence[Key],
    *,
    hashes: Sequence[bytes] | None = None,
    checkpoints: Sequence[Note] = (),
    personal: Iterable[tuple[int, str, str, str]] | None = None,
    clock_back_ms: int = CLOCK_BACK_MS,
) -> Result:
    """Compare facts with the checkpoint that was signed over them, and name the first bad one.

    `leaves`: the lines, in order. `keys`: those one trusts, the newest first. `hashes`: the leaf hashes as they were sealed.
    `checkpoints`: older ones, used to narrow down a change that `hashes` cannot place, and to follow a key that was replaced.
    `personal`: values beside the facts as (fact, field, salt, value), of which the facts hold only hashes; None: not looked at.
    """
    faults: list[Fault] = []
    warnings: list[Fault] = []
    rotations, commitments = list[Rotation](), dict[tuple[int, str], str]()
    tree, got, numbering, roots = Tree(), list[bytes](), None, {c.size: c.root for c in checkpoints}
    good_upto, bad_upto, latest_ms = 0, None, 0
    for index, leaf in enumerate(leaves):
        got.append(leaf_hash(leaf))
        if index < note.size:
            tree.append(got[-1])
            if (expected := roots.get(tree.size)) is not None and bad_upto is None:
                good_upto, bad_upto = (tree.size, None) if tree.root() == expected else (good_upto, tree.size)
            if personal is not None and COMMITMENT in leaf:
                commitments |= _commitments(leaf)
            if ROTATED in leaf and (rotation := _rotation(leaf, index)):
                rotations.append(rotation)
        seq, at_ms = _numbers(leaf)
        if numbering is None and seq != index + 1:
            numbering = Fault("numbering", index, f"Line {index + 1} holds fact {seq}; fact {index + 1} was expected.")
        if at_ms is not None:
            if at_ms < latest_ms - clock_back_ms:
                text = f"The clock went back by {(latest_ms - at_ms) / 1000:.0f} s at fact {index + 1}."
                warnings.append(Fault("clock", index, text))
            latest_ms = max(latest_ms, at_ms)
    beside = _compare_personal(personal or (), commitments)
    warnings += [f for f in beside if f.kind == "erased"]
    is_root_right = len(got) >= note.size and tree.root() == note.root
    signing = _judge_signature(note, keys, rotations, [c for c in checkpoints if c.size <= good_upto])
    (faults if signing and signing.kind == "signature" else warnings).extend([signing] if signing else [])
    if not is_root_right or numbering:
        faults.append(_place(got, note, hashes, numbering, (good_upto, bad_upto)))
    elif len(got) > note.size:
        faults.append(Fault("extra", note.size, f"Facts after number {note.size} are not covered by the checkpoint."))
    faults += [f for f in beside if f.kind == "personal"]
    return Result(not faults, note.size, tree.root().hex(), faults, warnings)


COMMITMENT = b"personal:sha256:"


def _commitments(leaf: bytes) -> dict[tuple[int, str], str]:
    """The hashes of personal values in a fact, by (fact, field)."""
    try:
        fact = json.loads(leaf)
        seq, data, prefix = int(fact["seq"]), json.loads(fact["data"]), COMMITMENT.decode()
        return {(seq, k): v for k, v in data.items() if isinstance(v, str) and v.startswith(prefix)}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _compare_personal(values: Iterable[tuple[int, str, str, str]], commitments: dict[tuple[int, str], str]) -> list[Fault]:
    """The values that are not those that were committed to; and how many were erased."""
    faults = []
    for seq, field, salt, value in values:
        wanted = commitments.pop((seq, field), "")
        try:
            said: str | None = COMMITMENT.decode() + hashlib.sha256(bytes.fromhex(salt) + value.encode()).hexdigest()
        except ValueError:
            said = None  # a salt that is no hex is none that was written here
        if wanted != said:
            faults.append(
                Fault("personal", seq - 1, f"The value of {field} beside fact {seq} is not the one that was said.")
            )
    if commitments:
        first = min(commitments)[0]
        faults.append(Fault("erased", first - 1, f"Personal values erased: {len(commitments)}, the first at fact {first}."))
    return faults


class Rotation(NamedTuple):
    """A fact that one key took the place of another. `is_lost`: the old one could not sign that any more."""

    at: int
    old: str
    new: str
    is_lost: bool


ROTATED = b'"kind":"key.rotated"'


def _rotation(leaf: bytes, index: int) -> Rotation | None:
    """The change of the log's key that a leaf tells of; None when it is of another key."""
    try:
        fact = json.loads(leaf)
        data = json.loads(fact["data"])
        if fact["kind"] != "key.rotated" or fact["subject"] != "key:audit":
            return None
        parse_key(data["old"]), parse_key(data["new"])
        return Rotation(index, data["old"], data["new"], bool(data["lost"]))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None  # no fact that was written here; the root tells


def _judge_signature(
    note: Note, keys: Sequence[Key], rotations: list[Rotation], checkpoints: Sequence[Note]
) -> Fault | None:
    """What is wrong with who signed `note`: a fault, something to look at, or None.

    The key that has to sign a checkpoint is the one that the log itself names for that size. It is trusted when it was given, or when
    a trusted one handed over to it: some checkpoint after the change is signed by both. Of several given keys each may hand over
    to the one before it only, so that an old key that leaked cannot hand over to a stranger's.
    """
    given = [str(key) for key in keys]
    trusted, active = set(given), None
    for rotation in rotations:
        active = rotation.new
        old, new = parse_key(rotation.old), parse_key(rotation.new)
        place = given.index(rotation.old) if rotation.old in given else 0
        is_expected = place == 0 or given[place - 1] == rotation.new
        both = [c for c in [note, *checkpoints] if c.size > rotation.at and is_signed(c, old) and is_signed(c, new)]
        if rotation.old in trusted and is_expected and both:
            trusted.add(rotation.new)
    if active is None:
        signer = next((key for key in keys if is_signed(note, key)), None)
        if signer is None:
            names = " or ".join(f"{key.name}+{key.id.hex()}" for key in keys)
            return Fault("signature", None, f"The checkpoint is not signed by the key {names}.")
        if signer != keys[0]:
            return Fault(
                "key", note.size, f"The checkpoint is signed by {signer.name}+{signer.id.hex()}, which was replaced since."
            )
        return None
    wanted = parse_key(active)
    if not is_signed(note, wanted):
        return Fault(
            "signature", None, f"The checkpoint is not signed by {wanted.name}+{wanted.id.hex()}, the key of its time."
        )
    if active not in trusted:
        return Fault(
            "signature", None, f"The key {wanted.name}+{wanted.id.hex()} signed, and no key that you gave handed over to it."
        )
    lost = next((r for r in rotations if r.is_lost), None)
    return Fault("key", lost.at, f"The key was lost and replaced at fact {lost.at + 1}.") if lost else None


def _numbers(leaf: bytes) -> tuple[object, int | None]:
    """The `seq` and the time of a line; None where it has none."""
    try:
        found = json.loads(leaf)
        seq, at_ms = found.get("seq"), found.get("at_ms")
    except (ValueError, AttributeError, RecursionError):
        return None, None
    return seq, at_ms if isinstance(at_ms, int) else None


def _place(
    got: list[bytes], note: Note, hashes: Sequence[bytes] | None, numbering: Fault | None, between: tuple[int, int | None]
) -> Fault:
    """The first bad fact, as exactly as can be proven."""
    if hashes is not None and _root_of(hashes[: note.size]) == note.root and len(hashes) >= note.size:
        return _diagnose(got, hashes, note.size)
    if numbering is not None:
        return numbering
    if len(got) < note.size:
        return Fault("cut", len(got), f"The log ends after fact {len(got)}; {note.size} were signed.")
    low, high = between[0], between[1] or note.size
    return Fault("changed", low, f"A fact between {low + 1} and {high} is not what was signed.")


def _root_of(hashes: Sequence[bytes]) -> bytes:
    tree = Tree()
    for leaf in hashes:
        tree.append(leaf)
    return tree.root()


def _diagnose(got: list[bytes], hashes: Sequence[bytes], size: int) -> Fault:
    """Compare with hashes that the signature covers: exact, and it can tell what was done."""
    first = next((i for i, (a, b) in enumerate(zip(got, hashes[:size], strict=False)) if a != b), min(len(got), size))
    number = first + 1
    if first >= len(got):
        return Fault("cut", first, f"The log ends after fact {len(got)}; {size} were signed.")
    if first >= size:
        return Fault("extra", size, f"Facts after number {size} are not covered by the checkpoint.")
    if first + 1 < size and got[first] == hashes[first + 1] and (first + 1 >= len(got) or got[first + 1] != hashes[first]):
        return Fault("removed", first, f"Fact {number} was removed: the one after it stands in its place.")
    if first + 1 < len(got) and got[first + 1] == hashes[first] and (first + 1 >= size or got[first] != hashes[first + 1]):
        return Fault("inserted", first, f"Something was inserted as number {number}: the signed fact comes after it.")
    try:
        was = hashes.index(got[first])
    except ValueError:
        return Fault("edited", first, f"Fact {number} was edited after it was sealed.")
    return Fault("moved", first, f"Facts were reordered: what was signed as number {was + 1} stands as number {number}.")


# --- the command ------------------------------------------------------------------------------------------------------


def read_lines(path: Path) -> Iterator[bytes]:
    """The lines of a file without their newlines; only `\\n` ends a line."""
    with path.open("rb") as file:
        for line in file:
            yield line.removesuffix(b"\n")


def read_hashes(path: Path) -> list[bytes]:
    """A file of leaf hashes, one in hex a line. Raises Unreadable."""
    try:
        return [bytes.fromhex(line.decode("ascii")) for line in read_lines(path)]
    except ValueError as cause:
        raise Unreadable(f"{path} is not a list of hashes") from cause


def read_checkpoints(path: Path) -> list[Note]:
    """A file with one `{"note": …}` a line. Raises Unreadable."""
    try:
        return [parse_note(json.loads(line)["note"]) for line in read_lines(path) if line]
    except (ValueError, KeyError, TypeError) as cause:
        raise Unreadable(f"{path} is not a list of checkpoints") from cause


def read_personal(path: Path) -> Iterator[tuple[int, str, str, str]]:
    """A file with the personal values beside facts, one a line. Raises Unreadable."""
    try:
        for line in read_lines(path):
            found = json.loads(line)
            bytes.fromhex(found["salt"])
            yield int(found["seq"]), str(found["field"]), found["salt"], str(found["value"])
    except (ValueError, KeyError, TypeError) as cause:
        raise Unreadable(f"{path} is not a list of personal values") from cause


def verify_files(
    events: Path, checkpoint: Path, pub: Path, *, hashes: Path | None = None, checkpoints: Path | None = None
) -> Result:
    """Verify an export; `hashes.txt`, `checkpoints.jsonl` and `personal.jsonl` beside `events` are used when they exist."""
    keys, note = parse_keys(pub.read_text()), parse_note(checkpoint.read_text())
    hashes = hashes or _beside(events, "hashes.txt")
    checkpoints = checkpoints or _beside(events, "checkpoints.jsonl")
    older = [
        c for c in (read_checkpoints(checkpoints) if checkpoints else []) if c.size <= note.size and c.origin == note.origin
    ]
    personal = _beside(events, "personal.jsonl")
    return verify_log(
        read_lines(events), note, keys, hashes=read_hashes(hashes) if hashes else None, checkpoints=older,
        personal=read_personal(personal) if personal else None,
    )  # fmt: skip


def _beside(path: Path, name: str) -> Path | None:
    found = path.parent / name
    return found if found.is_file() else None


def report(result: Result) -> str:
    """The result in words."""
    lines = []
    for fault in result.faults:
        lines.append(f"BAD     {fault.message}" + (f"  [index {fault.at}]" if fault.at is not None else ""))
    lines += [f"NOTE    {warning.message}  [index {warning.at}]" for warning in result.warnings]
    if result.is_intact:
        lines.append(f"INTACT  {result.size} facts give the signed root {result.root}.")
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description="Verify an exported audit log of Noria.")
    parser.add_argument("events", type=Path, help="events.jsonl")
    parser.add_argument("checkpoint", type=Path, help="checkpoint.txt")
    parser.add_argument("--pub", type=Path, required=True, help="the public key, from a place you trust")
    parser.add_argument("--hashes", type=Path, help="hashes.txt; found by itself beside the events")
    parser.add_argument("--checkpoints", type=Path, help="checkpoints.jsonl; found by itself beside the events")
    args = parser.parse_args(argv)
    try:
        result = verify_files(args.events, args.checkpoint, args.pub, hashes=args.hashes, checkpoints=args.checkpoints)
    except (OSError, Unreadable, UnicodeDecodeError) as error:
        sys.stderr.write(f"Cannot verify: {error}.\n")
        return 2
    sys.stdout.write(report(result))
    return 0 if result.is_intact else 1


if __name__ == "__main__":
    raise SystemExit(main())
