"""The routes of the keys that sign, and of what the log forgets."""

from __future__ import annotations

from noria.governance.forgetting import Forget, Forgetting, Forgotten
from noria.governance.key_rotation import KeyChange, KeyInfo, Keys
from noria.http.route import Routes, get, post
from noria.kernel.op import Op
from noria.kernel.paging import Page


def routes(keys: Keys, forgetting: Forgetting) -> Routes:
    @get("/api/v1/keys", action="audit.read")
    def list_keys(op: Op) -> Page[KeyInfo]:
        """The keys that sign here: their public halves, the one of now first. Private ones never leave the home."""
        return Page(keys.keys(op))

    @post("/api/v1/keys/{name:str}/rotate", action="system.admin")
    def rotate_key(op: Op, name: str, data: KeyChange) -> KeyInfo:
        """Let a new key sign from now on; what the old one signed stays verifiable."""
        return keys.rotate(op, name, data)

    @post("/api/v1/audit/forget", action="system.admin")
    def forget_value(op: Op, data: Forget) -> Forgotten:
        """Take personal values away that lie beside the log and hold this word; the log still verifies."""
        return forgetting.forget(op, data)

    return [list_keys, rotate_key, forget_value]
