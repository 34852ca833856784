"""The event log: facts in the past tense, written by the transaction that made them true.

Invariant: `seq` is dense and in commit order, so a reader that has seen `n` has seen everything before `n`.
Readers keep a durable cursor and are told again after a crash: at least once, in order, so they must be idempotent.
Waking is a hint; polling is the guarantee.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterable
from typing import Any, Protocol

from msgspec import Struct

from noria.kernel.db import Database, Read
from noria.kernel.errors import Invalid
from noria.kernel.facts import FACTS
from noria.kernel.personal import shown

log = logging.getLogger("noria.events")

EVENTS_PER_BATCH = 500  # What a subscriber reads at once; keeps one pass short.
POLL_S = 1.0  # How long a missed wake-up may delay a fact.
KEEP_S = 1.0  # How much of what a subscriber was told a crash may have it told again.
# Fields of a fact that name another thing it is about.
_NAMED = {
    "model": "model", "endpoint": "endpoint", "dataset": "dataset", "monitor": "monitor", "pipeline": "pipeline",
    "experiment": "experiment", "experiment_id": "experiment", "run": "run", "run_id": "run", "loop": "loop", "alert": "alert",
}  # fmt: skip


class Event(Struct, frozen=True, kw_only=True):
    """One fact. `cause` is the `seq` of the fact that led here."""

    __when_read__ = staticmethod(shown)  # whoever reads facts sees the personal values that were not erased

    seq: int
    at_ms: int
    kind: str
    subject: str
    actor: str
    op_id: str
    cause: int | None
    workspace: str
    data: dict[str, Any]


_COLUMNS = "seq, at_ms, kind, subject, actor, op_id, cause, workspace, data"


def events_after(
    tx: Read, seq: int, *, limit: int = EVENTS_PER_BATCH, kinds: Iterable[str] | None = None, subjects: Iterable[str] = (),
    actor: str = "",
) -> list[Event]:  # fmt: skip
    """Facts later than `seq`, oldest first; of `kinds`, about `subjects` and by `actor` only, if given."""
    where, args = _narrowed(kinds, subjects, actor)
    return tx.all(
        Event,
        f"select {_COLUMNS} from event where seq > :seq{where} order by seq limit :limit",
        seq=seq,
        limit=limit,
        **args,
    )


def events_before(
    tx: Read,
    seq: int | None,
    *,
    limit: int,
    kinds: Iterable[str] | None = None,
    subjects: Iterable[str] = (),
    actor: str = "",
) -> list[Event]:
    """Facts earlier than `seq` (None: the latest), newest first, narrowed in the same way."""
    where, args = _narrowed(kinds, subjects, actor)
    if seq is not None:
        where, args["before"] = f"{where} and seq < :before", seq
    return tx.all(
        Event, f"select {_COLUMNS} from event where 1 = 1{where} order by seq desc limit :limit", limit=limit, **args
    )


def _narrowed(kinds: Iterable[str] | None, subjects: Iterable[str], actor: str) -> tuple[str, dict[str, Any]]:
    where, args = "", dict[str, Any]()
    for clause, name, value in (
        ("kind in :kinds", "kinds", None if kinds is None else sorted(kinds)),
        ("subject in :subjects", "subjects", sorted(subjects) or None),
        ("actor = :actor", "actor", actor or None),
    ):
        if value is not None:
            where, args[name] = f"{where} and {clause}", value
    return where, args


def event_at(tx: Read, seq: int) -> Event | None:
    return tx.one(Event, f"select {_COLUMNS} from event where seq = :seq", seq=seq)


def first_about(tx: Read, subjects: list[str]) -> list[Event]:
    """The first fact about each thing: how it came to be, and who did it."""
    return tx.all(
        Event,
        f"""select {_COLUMNS} from event where seq in (select min(seq) from event where subject in :subjects group by subject)
             order by seq""",
        subjects=subjects,
    )


def things_of(event: Event) -> list[str]:
    """The other things that a fact names: the model of a version, the endpoint of an alert."""
    named = [f"{kind}:{event.data[field]}" for field, kind in _NAMED.items() if isinstance(event.data.get(field), str)]
    return [ref for ref in dict.fromkeys(named) if not ref.endswith(":") and ref != event.subject]


def facts_about(tx: Read, refs: Collection[str], *, limit: int, look_at: int) -> list[Event]:
    """The newest facts about these things, or that name one of them, among the last `look_at` facts; newest first."""
    wanted, found, before, seen = frozenset(refs), list[Event](), None, 0
    while len(found) < limit and seen < look_at:
        page = events_before(tx, before, limit=min(1000, look_at - seen))
        found += [event for event in page if not wanted.isdisjoint((event.subject, *things_of(event)))]
        if len(page) < 1000:
            break
        before, seen = page[-1].seq, seen + len(page)
    return found[:limit]


def last_seq(tx: Read) -> int:
    """The seq of the latest fact; 0 when there is none."""
    return int(tx.scalar("select coalesce(max(seq), 0) from event"))


def cause_chain(tx: Read, seq: int, *, limit: int = 100) -> list[Event]:
    """The walk from a fact back to what led to it, oldest first."""
    chain: list[Event] = []
    at: int | None = seq
    while at is not None and len(chain) < limit:
        found = event_at(tx, at)
        if found is None:
            break
        chain.append(found)
        at = found.cause
    return chain[::-1]


class Subscriber(Protocol):
    """Reads the facts of its interest after its own cursor."""

    name: str

    def interest(self, tx: Read) -> frozenset[str]:
        """The kinds it wants to hear of, as things stand in `tx`."""
        ...

    def handle(self, event: Event) -> None: ...


class Reconciler(Protocol):
    """Looks at wanted and actual, moves one step; safe to run twice. Woken by facts, and every `every_s` regardless."""

    name: str
    every_s: float
    wake_on: frozenset[str]

    def reconcile(self) -> None: ...


class Pump:
    """Carries facts to subscribers and turns to reconcilers, one thread each, until stopped.

    A subscriber that raises is told the same fact again, later and later, up to once a minute: order is kept, nothing is
    skipped, and the log says so each time.
    """

    def __init__(self, db: Database, subscribers: list[Subscriber], reconcilers: list[Reconciler]) -> None:
        names = [s.name for s in subscribers] + [r.name for r in reconcilers]
        assert len(names) == len(set(names)), f"two subscribers share a name: {names}"
        self._db = db
        self._subscribers = subscribers
        self._reconcilers = reconcilers
        self._cursors: dict[str, int] = {}
        self._unkept_since_s: dict[str, float] = {}  # cursors that moved and are not written down yet
        self._interests: dict[str, frozenset[str]] = {}
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        for subscriber in self._subscribers:
            self._spawn(f"pump-{subscriber.name}", self._follow, subscriber)
        for reconciler in self._reconcilers:
            self._spawn(f"reconcile-{reconciler.name}", self._turn, reconciler)

    def stop(self, timeout_s: float = 10.0) -> None:
        self._stop.set()
        self._db.wakeups.signal()
        for thread in self._threads:
            thread.join(timeout_s)
        self._threads.clear()

    def drain(self, *, rounds: int = 50) -> None:
        """For tests: carry facts and run reconcilers in this thread until nothing new happens."""
        for _ in range(rounds):
            signals = self._db.wakeups.count
            with self._db.read() as tx:
                before = last_seq(tx)
            for subscriber in self._subscribers:
                # Whoever has read all that there was is asked again only if there is more by now.
                has_read_all = self._cursors.get(subscriber.name, -1) >= before
                while (not has_read_all or self._db.wakeups.count != signals) and self.carry(subscriber):
                    pass
                self._keep(subscriber.name)
            for reconciler in self._reconcilers:
                reconciler.reconcile()
            with self._db.read() as tx:
                if last_seq(tx) == before:
                    return
        raise AssertionError("facts keep causing facts; a subscriber does not settle")

    def carry(self, subscriber: Subscriber) -> int:
        """One batch for one subscriber; returns how many facts its cursor passed."""
        with self._db.read() as tx:
            cursor = self._cursor(tx, subscriber.name)
            kinds = self._interests[subscriber.name] = subscriber.interest(tx)
            upto = last_seq(tx)
            batch = events_after(tx, cursor, kinds=kinds) if upto > cursor else []
        if upto <= cursor:
            return 0
        handled = cursor
        try:
            for event in batch:
                subscriber.handle(event)
                handled = event.seq
            if len(batch) < EVENTS_PER_BATCH:
                handled = max(upto, handled)
        except Exception:
            self._cursors[subscriber.name] = handled
            self._unkept_since_s.setdefault(subscriber.name, 0.0)
            self._keep(subscriber.name)
            raise
        # Facts of no interest are passed in memory only: passing them again is free.
        self._cursors[subscriber.name] = handled
        if batch:
            self._unkept_since_s.setdefault(subscriber.name, self._db.clock.monotonic_s())
        return handled - cursor

    def _cursor(self, tx: Read, name: str) -> int:
        if name not in self._cursors:
            found = tx.scalar("select seq from event_cursor where name = :name", name=name)
            self._cursors[name] = int(found or 0)
        return self._cursors[name]

    def _keep(self, name: str) -> None:
        """Write down how far `name` has read, if that is not known yet."""
        if self._unkept_since_s.pop(name, None) is None:
            return
        with self._db.system_write() as tx:
            tx.run(
                """insert into event_cursor (name, seq) values (:name, :seq)
                   on conflict (name) do update set seq = excluded.seq where event_cursor.seq < excluded.seq""",
                name=name, seq=self._cursors[name],
            )  # fmt: skip

    def _keep_if_due(self, name: str) -> None:
        """A cursor is written down KEEP_S after it moved: each time would cost more than most facts are worth to it."""
        since_s = self._unkept_since_s.get(name)
        if since_s is not None and self._db.clock.monotonic_s() - since_s >= KEEP_S:
            self._keep(name)

    def _spawn(self, name: str, target: Callable[[Any], None], arg: object) -> None:
        thread = threading.Thread(target=target, args=(arg,), name=name, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _follow(self, subscriber: Subscriber) -> None:
        wait_s, seen = 0.0, -1
        while not self._stop.is_set():
            try:
                while self.carry(subscriber) and not self._stop.is_set():
                    self._keep_if_due(subscriber.name)
                self._keep_if_due(subscriber.name)
                wait_s = 0.0
            except Exception:
                wait_s = min(60.0, wait_s * 2 or 0.5)
                log.exception("subscriber %s failed; telling it again in %.1f s", subscriber.name, wait_s)
                self._stop.wait(wait_s)
                continue
            seen = self._db.wakeups.wait(seen, POLL_S, self._interests.get(subscriber.name))
        try:
            self._keep(subscriber.name)
        except Exception:
            log.exception("the cursor of %s was not written down; it is told again what it heard last", subscriber.name)

    def _turn(self, reconciler: Reconciler) -> None:
        seen, cursor = -1, None
        while not self._stop.is_set():
            try:
                if cursor is None:
                    with self._db.read() as tx:
                        cursor = last_seq(tx)
                reconciler.reconcile()
            except Exception:
                log.exception("reconciler %s failed; it runs again in %.1f s", reconciler.name, reconciler.every_s)
            cursor, seen = self._wait_for_turn(reconciler, cursor, seen)

    def _wait_for_turn(self, reconciler: Reconciler, cursor: int | None, seen: int) -> tuple[int | None, int]:
        """Sleep until a fact of interest or until `every_s` have passed."""
        until_s = self._db.clock.monotonic_s() + reconciler.every_s
        while (left_s := until_s - self._db.clock.monotonic_s()) > 0 and not self._stop.is_set():
            if not reconciler.wake_on or cursor is None:
                self._stop.wait(min(POLL_S, left_s))
                continue
            seen = self._db.wakeups.wait(seen, min(POLL_S, left_s), reconciler.wake_on)
            try:
                with self._db.read() as tx:
                    upto = last_seq(tx)
                    woken = upto > cursor and bool(events_after(tx, cursor, limit=1, kinds=reconciler.wake_on))
            except Exception:
                log.exception("reconciler %s could not look for facts", reconciler.name)
                continue
            cursor = max(upto, cursor)
            if woken:
                break
        return cursor, seen


def parse_kinds(text: str) -> list[str]:
    """`a.b,c.d` as declared kinds. Raises Invalid for one that does not exist."""
    kinds = [k.strip() for k in text.split(",") if k.strip()]
    for kind in kinds:
        if kind not in FACTS:
            raise Invalid(f"There is no event kind {kind!r}.", where="kinds", hint="docs/reference/events.md lists them.")
    return kinds
