"""A transfer: an upload in parts that is under way, or a link to one file."""

from __future__ import annotations

from msgspec import Struct


class Transfer(Struct, frozen=True, kw_only=True):
    """One row. `kind`: upload or link; `state`: open or done; `parts` of an upload; `digest` and `size_bytes` of a link."""

    id: str
    kind: str
    state: str
    secret_sha256: str
    workspace: str
    uri: str
    digest: str
    size_bytes: int
    parts: int
    actor: str
    created_at_ms: int
    expires_at_ms: int
