"""The files of a model signed as OpenSSF's model signing does it: a sigstore bundle with a key (EC P-256), which the official tool
`model_signing verify key` verifies, and so does this. Pure.

The statement's predicate lists every file with its SHA-256; its one subject is the digest over those, in the order of their paths.
Every file is signed; the tool and this leave out nothing but the signature itself, when it lies in the folder.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from typing import Any

from noria.governance.keys import EcSigner, hint_of
from noria.governance.verify import Unreadable
from noria.governance.verify_model import PAYLOAD_TYPE, STATEMENT_TYPE, pae

PREDICATE_TYPE = "https://model_signing/signature/v1.0"
MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"


def statement(name: str, sha256: dict[str, str]) -> dict[str, Any]:
    """What is signed about the files `sha256` (path → digest) of the model that its verifier calls `name`."""
    resources = [{"name": path, "algorithm": "sha256", "digest": digest} for path, digest in sorted(sha256.items())]
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": root_of(resources)}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": []},
            "resources": resources,
        },
    }


def root_of(resources: list[dict[str, Any]]) -> str:
    """The digest over the digests, in the order in which they are listed."""
    hasher = hashlib.sha256()
    for resource in resources:
        hasher.update(bytes.fromhex(resource["digest"]))
    return hasher.hexdigest()


def bundle(made: dict[str, Any], signer: EcSigner) -> dict[str, Any]:
    """The statement in a signed bundle."""
    payload = json.dumps(made, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    signature = base64.b64encode(signer.sign(pae(PAYLOAD_TYPE, payload))).decode()
    return {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": signer.hint}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(), "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": signature, "keyid": ""}],
        },
    }  # fmt: skip


def read_bundle(signed: dict[str, Any], public: list[str]) -> dict[str, str]:
    """The files (path → SHA-256) in a bundle that one of the keys `public` (PEM) signed. Raises Unreadable."""
    try:
        envelope, hint = signed["dsseEnvelope"], signed["verificationMaterial"]["publicKey"]["hint"]
        payload = base64.b64decode(envelope["payload"], validate=True)
        signature = base64.b64decode(envelope["signatures"][0]["sig"], validate=True)
        is_known = signed["mediaType"] == MEDIA_TYPE and envelope["payloadType"] == PAYLOAD_TYPE
    except (KeyError, IndexError, TypeError, ValueError, binascii.Error) as cause:
        raise Unreadable("the signature cannot be read; it is a sigstore bundle (v0.3) with a public key") from cause
    key = next((pem for pem in public if hint_of(pem) == hint), None)
    if not is_known or key is None or not _is_signed(key, signature, pae(PAYLOAD_TYPE, payload)):
        raise Unreadable("the files are not signed by this key, or the signature was changed since")
    try:
        made = json.loads(payload)
        resources = made["predicate"]["resources"]
        files = {str(r["name"]): str(r["digest"]) for r in resources if r["algorithm"] == "sha256"}
        is_whole = len(files) == len(resources) and made["subject"][0]["digest"]["sha256"] == root_of(resources)
    except (KeyError, IndexError, TypeError, ValueError) as cause:
        raise Unreadable("the signed statement cannot be read") from cause
    if made.get("_type") != STATEMENT_TYPE or made.get("predicateType") != PREDICATE_TYPE or not is_whole:
        raise Unreadable("the signed statement is no model signature of version 1.0")
    return files


def _is_signed(pem: str, signature: bytes, message: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(pem.encode())
        if not isinstance(key, EllipticCurvePublicKey):
            return False
        key.verify(signature, message, ECDSA(SHA256()))
    except (ValueError, InvalidSignature):
        return False
    return True
