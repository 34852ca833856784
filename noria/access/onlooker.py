"""The rights of whoever looks through somebody's eyes without being them: what that person may read of descriptions, less everything
that carries a restricting label. No contents, no facts, no writing: clearances and secrets are not handed on.
"""

from __future__ import annotations

from noria.access.rights import Rights
from noria.access.service import Access
from noria.kernel.ids import Ref
from noria.kernel.op import Actor, Op

SEEN = frozenset(
    {"report.read", "experiment.read", "run.read", "dataset.read", "model.read", "endpoint.read", "monitor.read"}
)


class Onlooker:
    """An Authorizer of the kernel's."""

    watched: frozenset[str] = frozenset()

    def __init__(self, access: Access) -> None:
        self._access = access

    def allows(self, actor: Actor, workspace: str, action: str, on: Ref | None) -> bool:
        return self._rights(actor).allow(action, on)

    def visible(self, actor: Actor, workspace: str, action: str) -> list[str] | None:
        return self._access.book.visible(self._rights(actor), action, workspace)

    def note_read(self, op: Op, action: str, on: Ref) -> None:
        """Nothing is watched: what would be is not shown."""

    def _rights(self, actor: Actor) -> Rights:
        theirs, labelled = self._access.rights_of(actor), self._access.book.restricted()
        on = {ref: actions & SEEN for ref, actions in theirs.on.items() if ref not in labelled}
        return Rights(theirs.everywhere & SEEN, on, theirs.hidden | labelled, until_ms=theirs.until_ms)
