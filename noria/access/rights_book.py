"""Rights of principals, kept in memory until something changed (`authz_epoch`, looked at once a second) or expired (at once)."""

from __future__ import annotations

from noria.access import rights_store
from noria.access.model import LOCAL_ADMIN
from noria.access.policy import kinds_of
from noria.access.rights import ALL_RIGHTS, NO_LIMIT, Limit, Rights
from noria.kernel.clock import Clock
from noria.kernel.db import Database

RIGHTS_CACHE_S = 1.0  # how long another server process may still use rights that were just taken away
CACHED_MAX = 10_000


class RightsBook:
    """Rights of principals, as of now, from memory where they are known."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db, self._clock = db, clock
        self._restricted: tuple[float, int, dict[str, list[str]]] | None = None  # (looked at, epoch, labels by ref)
        self._kept: dict[tuple[str, Limit], tuple[float, int, Rights]] = {}  # (looked at, epoch, rights)

    def of(self, principal_id: str, limit: Limit = NO_LIMIT) -> Rights:
        """The rights of an active principal within `limit`; of anybody else none."""
        key = (principal_id, limit)
        found = self._kept.get(key)
        if found and self._is_fresh(found):
            return found[2]
        now_s, now_ms = self._clock.monotonic_s(), self._clock.now_ms()
        with self._db.read() as tx:
            epoch = rights_store.epoch(tx)
            if found and found[1] == epoch and (found[2].until_ms is None or now_ms < found[2].until_ms):
                rights = found[2]
            else:
                rights = ALL_RIGHTS if principal_id == LOCAL_ADMIN else rights_store.rights(tx, principal_id, now_ms)
                if limit != NO_LIMIT:
                    rights = rights.narrowed(limit, rights_store.reach(tx, limit.scopes))
        if len(self._kept) >= CACHED_MAX:
            self._kept.clear()
        self._kept[key] = (now_s, epoch, rights)
        return rights

    def knows(self, principal_id: str, limit: Limit) -> bool:
        """Are they in memory, so that asking costs no query?"""
        found = self._kept.get((principal_id, limit))
        return found is not None and self._is_fresh(found)

    def _is_fresh(self, found: tuple[float, int, Rights]) -> bool:
        until_ms = found[2].until_ms
        is_recent = self._clock.monotonic_s() - found[0] < RIGHTS_CACHE_S
        return is_recent and (until_ms is None or self._clock.now_ms() < until_ms)

    def visible(self, rights: Rights, action: str, workspace: str) -> list[str] | None:
        """The refs on which `rights` allow `action`, sorted; None: everywhere."""
        if rights.allow(action, None):
            return None
        found = {ref for ref, actions in rights.on.items() if action in actions}
        if action in rights.everywhere:  # everywhere but what is hidden
            with self._db.read() as tx:
                found |= rights_store.all_things(tx, kinds_of(action), workspace) - rights.hidden
        return sorted(found)

    def labels_of(self, ref: str) -> list[str]:
        """The restricting labels that `ref` carries, itself or by what it lies in."""
        return self._labels().get(ref, [])

    def restricted(self) -> frozenset[str]:
        """Everything that carries one."""
        return frozenset(self._labels())

    def _labels(self) -> dict[str, list[str]]:
        now_s, found = self._clock.monotonic_s(), self._restricted
        if found is None or now_s - found[0] >= RIGHTS_CACHE_S:
            with self._db.read() as tx:
                epoch = rights_store.epoch(tx)
                labels = found[2] if found and found[1] == epoch else rights_store.restricted(tx)
            found = self._restricted = (now_s, epoch, labels)
        return found[2]

    def forget(self) -> None:
        self._kept.clear()
        self._restricted = None
