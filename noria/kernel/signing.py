"""Signatures of messages between servers, as Standard Webhooks (standardwebhooks.com) has them: HMAC-SHA256 over
`id.timestamp.body`, with a secret that is `whsec_` and base64."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets

from noria.kernel.errors import Invalid

SECRET_PREFIX = "whsec_"  # noqa: S105
TOLERANCE_S = 300  # how old or early a message may be


def new_secret() -> str:
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def check_secret(secret: str) -> str:
    """`secret` if it is `whsec_` and base64 of 24 to 64 bytes; else Invalid."""
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (ValueError, binascii.Error):
        key = b""
    if not secret.startswith(SECRET_PREFIX) or not 24 <= len(key) <= 64:
        raise Invalid(
            "A secret is whsec_ and the base64 of 24 to 64 bytes.", where="secret", hint="Leave it out; one is made."
        )
    return secret


def sign(secret: str, message_id: str, timestamp_s: int, body: bytes) -> str:
    """The `webhook-signature` header. Raises Invalid."""
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    except ValueError as cause:
        raise Invalid("The secret cannot sign: it is not whsec_ and base64.", where="secret") from cause
    signed = f"{message_id}.{timestamp_s}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def is_signed(secret: str, message_id: str, timestamp: str, signatures: str, body: bytes, *, now_s: int) -> bool:
    """Is one of `signatures` (separated by spaces) that of this message, and is it of now?"""
    if not timestamp.isascii() or not timestamp.isdigit() or abs(now_s - int(timestamp[:12])) > TOLERANCE_S:
        return False
    wanted = sign(secret, message_id, int(timestamp), body)
    return any(hmac.compare_digest(wanted.encode(), one.encode("utf-8", "replace")) for one in signatures.split()[:10])


def is_signed_plainly(secret: str, signature: str, body: bytes) -> bool:
    """Is `signature` GitHub's (`sha256=` and the hex HMAC of the body, keyed with the text of the secret)?"""
    wanted = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(wanted.encode(), signature.encode("utf-8", "replace"))
