"""The routes of identities and trusts: who elsewhere is who here."""

from __future__ import annotations

from noria.access.model import NewIdentity, ProviderInfo, Trust, TrustWish
from noria.access.oidc import not_set
from noria.access.service import Access
from noria.http.route import Routes, delete, get, post, put
from noria.kernel.op import Op
from noria.kernel.paging import Page


def routes(access: Access) -> Routes:
    @post("/api/v1/identities", action="access.write", status_code=204)
    def link_identity(op: Op, data: NewIdentity) -> None:
        """Let somebody known to the identity provider sign in as an account that is there."""
        op.require("access.write")
        if access.oidc is None:
            raise not_set()
        access.identities.link(op, access.oidc.issuer, data.principal, data.subject)

    @get("/api/v1/identity-provider", action="access.read")
    def read_identity_provider(op: Op) -> ProviderInfo:
        """The provider that people sign in with; an empty issuer when there is none."""
        op.require("access.read")
        return access.provider()

    @get("/api/v1/trusts", action="access.read")
    def list_trusts(op: Op) -> Page[Trust]:
        """Whose tokens stand for which service account."""
        return Page(access.oauth.trusts(op))

    @put("/api/v1/trusts/{name:str}", action="access.write")
    def set_trust(op: Op, name: str, data: TrustWish) -> Trust:
        """Say whose tokens stand for which service account."""
        return access.oauth.set_trust(op, name, data)

    @delete("/api/v1/trusts/{name:str}", action="access.write")
    def remove_trust(op: Op, name: str) -> None:
        """Exchange tokens of a trust no more."""
        access.oauth.remove_trust(op, name)

    return [link_identity, read_identity_provider, list_trusts, set_trust, remove_trust]
