"""The routes of secrets: written, listed by name, deleted. None gives a value."""

from __future__ import annotations

from noria.access.vault import Rotated, SecretInfo, SecretWish, Vault
from noria.http.route import Routes, delete, get, post, put
from noria.kernel.op import Op
from noria.kernel.paging import Page


def routes(vault: Vault) -> Routes:
    @get("/api/v1/secrets", action="secret.read")
    def list_secrets(op: Op, project: str | None = None) -> Page[SecretInfo]:
        """Names of secrets, of one project or of all that one may know of; never a value."""
        return Page(vault.secrets(op, project))

    @put("/api/v1/secrets/{name:str}", action="secret.write")
    def set_secret(op: Op, name: str, data: SecretWish, project: str = "") -> SecretInfo:
        """Keep a value under a name, in place of the one before; it is never shown again."""
        return vault.set(op, project, name, data)

    @delete("/api/v1/secrets/{name:str}", action="secret.write")
    def delete_secret(op: Op, name: str, project: str = "") -> None:
        """Delete a secret; what asks for it fails from now on, and says so."""
        vault.delete(op, project, name)

    @post("/api/v1/secrets/rotate-key", action="system.admin")
    def rotate_secrets_key(op: Op) -> Rotated:
        """Put everything sealed under a new master key, and remove the old one."""
        return vault.rotate(op)

    return [list_secrets, set_secret, delete_secret, rotate_secrets_key]
