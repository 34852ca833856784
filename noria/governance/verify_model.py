"""Verify a model against what was signed when it was registered. Standard library only (and verify.py beside it).

    python verify_model.py FOLDER provenance.json --pub models.pub

`provenance.json` is a DSSE envelope with an in-toto Statement v1 whose predicate is SLSA provenance v1; its subjects are the files
of the model. Exit code 0: every file is there, is the one that was signed, and there is no other.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

try:
    from noria.governance.verify import Key, Unreadable, ed25519_verify, parse_keys
except ImportError:  # a copy of the two files, without Noria
    from verify import Key, Unreadable, ed25519_verify, parse_keys  # type: ignore[import-not-found,no-redef]

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
READ_BYTES = 1 << 20


def pae(payload_type: str, payload: bytes) -> bytes:
    """What is signed: DSSE's pre-authentication encoding."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def read_statement(envelope: dict[str, Any], keys: Sequence[Key]) -> dict[str, Any]:
    """The statement in an envelope that one of `keys` signed. Raises Unreadable."""
    try:
        payload = base64.b64decode(envelope["payload"], validate=True)
        signatures = [base64.b64decode(s["sig"], validate=True) for s in envelope["signatures"]]
        kind = envelope["payloadType"]
    except (KeyError, TypeError, ValueError, binascii.Error) as cause:
        raise Unreadable("the envelope cannot be read; it has payload, payloadType and signatures") from cause
    signed = [(key, s) for key in keys for s in signatures if ed25519_verify(key.public, pae(kind, payload), s)]
    if kind != PAYLOAD_TYPE or not signed:
        raise Unreadable("the envelope is not signed by this key, or was changed since")
    try:
        statement = json.loads(payload)
        subjects = {s["name"]: s["digest"]["sha256"] for s in statement["subject"]}
    except (KeyError, TypeError, ValueError) as cause:
        raise Unreadable("the statement cannot be read") from cause
    if statement.get("_type") != STATEMENT_TYPE or not subjects:
        raise Unreadable("the envelope holds no in-toto Statement v1 with files")
    return dict(statement)


def compare(statement: dict[str, Any], found: dict[str, str]) -> list[str]:
    """What differs between the signed files and those `found` (path → SHA-256), as sentences."""
    return differences({s["name"]: s["digest"]["sha256"] for s in statement["subject"]}, found)


def differences(signed: dict[str, str], found: dict[str, str]) -> list[str]:
    """The same, of the signed files themselves."""
    faults = [f"{path} is missing" for path in sorted(signed.keys() - found.keys())]
    faults += [f"{path} was not signed" for path in sorted(found.keys() - signed.keys())]
    return faults + [f"{path} was changed" for path in sorted(signed.keys() & found.keys()) if signed[path] != found[path]]


def hashes(folder: Path) -> dict[str, str]:
    """Path → SHA-256 of every file below `folder`; a link is no file, and has a digest that nothing has."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = "a link"
        elif path.is_file():
            hasher = hashlib.sha256()
            with path.open("rb") as file:
                for chunk in iter(lambda file=file: file.read(READ_BYTES), b""):  # type: ignore[misc]
                    hasher.update(chunk)
            found[name] = hasher.hexdigest()
    return found


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("envelope", type=Path)
    parser.add_argument("--pub", type=Path, required=True, help="the public key, from a place you trust")
    args = parser.parse_args(argv)
    try:
        statement = read_statement(json.loads(args.envelope.read_text()), parse_keys(args.pub.read_text()))
    except (OSError, ValueError) as error:
        sys.stdout.write(f"Not verified: {error}.\n")
        return 2
    faults = compare(statement, hashes(args.folder))
    said = [f"Not verified: {fault}." for fault in faults]
    said = said or [f"Verified: {len(statement['subject'])} files are those that were signed."]
    sys.stdout.write("\n".join(said) + "\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
