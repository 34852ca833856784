"""A small world for the scheduler: virtual time, two servers on one database, workers, and everything that goes wrong.

The servers are the real service on real SQLite; only time, the network and the workers are made up. A history is made from a
seed: pipelines with maps, conditions and queues, and a plan of troubles (a worker dies, stalls and returns, a server crashes in any
of its transactions, a clock jumps, a run is cancelled or paused). Meanwhile requests and answers are lost, and requests arrive
twice or late. Then all is well again, and every run has to end. What must be true is looked at after each call; `Broken` says what
was not, with the seed.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from noria.access.service import Access
from noria.app import App, build
from noria.config import load_config
from noria.governance.policies import Policies
from noria.governance.questions import Questions
from noria.kernel.clock import Clock
from noria.kernel.crash import Crashed
from noria.kernel.db import Database, Write
from noria.kernel.errors import Conflict
from noria.kernel.op import Actor, Op, Ops
from noria.pipelines.elsewhere import Elsewhere
from noria.pipelines.model.conditions import Compare
from noria.pipelines.model.elsewhere import Handing
from noria.pipelines.model.places import Place
from noria.pipelines.model.queues import QueueRule
from noria.pipelines.model.sources import FromStep, FromValue
from noria.pipelines.model.spec import CodeInfo, PipelineSpec, StepSpec
from noria.pipelines.model.values import Json
from noria.pipelines.model.work import Assignment, Beat, Claim, Finish, Held, Hello
from noria.pipelines.service import Pipelines
from noria.pipelines.transitions import Transitions
from noria.pipelines.work import Work

T = TypeVar("T")
LEASE_S = 3.0
CHAOS_S = 25.0  # then everything is healed
PATIENCE_S = 150.0  # after which every run has ended
ENDED = ("succeeded", "failed", "cancelled")
STEP_OVER = (*ENDED, "skipped")
QUEUES = ("default", "scarce", "rare")  # of the scarce one a single step runs at once; one worker serves all three
CLUSTER = "cluster"  # the executor of every other worker: what it runs there outlives it
LOOK_EVERY_MS = 1000  # a server looks for silent workers
JUMPS_S = (-3600.0, -7.0, 7.0, 3600.0)


class Broken(AssertionError):
    """Something that must always be true was not."""


class NoAnswer(Exception):
    """The request, the answer or the server was lost; nobody can say which."""


class Trouble(msgspec.Struct, frozen=True):
    """Something that happens at a time."""

    at_s: float
    kind: str
    who: int = 0
    amount: float = 0.0


class Plan(msgspec.Struct, frozen=True):
    """All that a history is made of; the seed decides the rest."""

    seed: int
    graphs: list[dict[str, list[str]]]
    options: list[dict[str, dict[str, Any]]]
    workers: int
    faults: float  # how often a request meets one
    troubles: list[Trouble]


def plan(seed: int, *, is_stormy: bool = False) -> Plan:
    """The history of a seed; a stormy one has as many troubles as there can be."""
    rng = random.Random(seed)
    graphs, options = [], []
    for _ in range(rng.choice([1, 1, 2])):
        names = [f"s{i}" for i in range(rng.randint(1, 6))]
        graphs.append({n: [p for p in names[:i] if rng.random() < 0.4] for i, n in enumerate(names)})
        options.append(
            {n: {"retries": rng.choice([0, 0, 1, 3]), "retry_delay_s": rng.choice([0.0, 0.5, 4.0]),
                 "cache_s": rng.choice([None, None, 0.0, 10.0]), "queue": rng.choice(["default"] * 4 + list(QUEUES)),
                 **_shape(rng, graphs[-1][n])} for n in names}
        )  # fmt: skip
    kinds = ["submit", "submit", "cancel", "resume", "pause", "unpause", "worker dies", "worker dies", "worker stalls", "server crashes",
             "clock jumps", "worker leaves"]  # fmt: skip
    troubles = [Trouble(0.1 + i, "submit", i) for i in range(len(graphs))]
    for _ in range(14 if is_stormy else rng.randint(0, 12)):
        kind = rng.choice(kinds)
        amount = rng.choice(JUMPS_S) if kind == "clock jumps" else rng.uniform(0.3, 3 * LEASE_S)
        troubles.append(Trouble(round(rng.uniform(0.5, CHAOS_S), 3), kind, rng.randrange(8), round(amount, 3)))
    workers, faults = rng.randint(1, 3), rng.choice([0.0, 0.05, 0.2])
    return Plan(seed, graphs, options, 3 if is_stormy else workers, 0.2 if is_stormy else faults, troubles)


def _shape(rng: random.Random, parents: list[str]) -> dict[str, Any]:
    """What is decided while a run goes on: a map over a list, or a condition, which holds or does not."""
    chance = rng.random()
    if chance < 0.12:
        items = FromValue(list(range(rng.randint(0, 3))))
        return {"kind": "map", "each": ["items"], "items": items, "keep_going": rng.random() < 0.3, "cache_s": None}
    if chance < 0.25 and parents:
        holds = rng.random() < 0.5
        return {"when": [Compare(FromStep(rng.choice(parents)), "!=" if holds else "==", FromValue("never"))]}
    return {}


# --- the servers ----------------------------------------------------------------------------------------------------------


class VirtualClock:
    """The machine's clock: what it shows may jump, what it measures does not."""

    def __init__(self) -> None:
        self.elapsed_ms = 0
        self.shown_ms = 1_750_000_000_000

    def now_ms(self) -> int:
        return self.shown_ms

    def monotonic_s(self) -> float:
        return self.elapsed_ms / 1000

    def sleep(self, seconds: float) -> None:
        self.pass_ms(int(seconds * 1000))

    def pass_ms(self, ms: int) -> None:
        self.elapsed_ms += ms
        self.shown_ms += ms


class MortalDatabase(Database):
    """A database whose process may die just before or just after one of its commits."""

    def __init__(self, url: str, *, clock: Clock) -> None:
        super().__init__(url, clock=clock)
        self.dies_in: int | None = None  # commits until then
        self.dies_after = False

    @contextmanager
    def _transaction(self, op: Op | None, shared: bool) -> Iterator[Write]:
        is_last = False
        if self.dies_in is not None:
            is_last, self.dies_in = self.dies_in == 0, self.dies_in - 1
        with super()._transaction(op, shared) as tx:
            yield tx
            if is_last and not self.dies_after:
                raise Crashed("before its commit")
        if is_last:
            raise Crashed("after its commit")


class Server:
    """A control plane: what it keeps in memory goes when it crashes."""

    kind: type[Work] = Work
    rules: type[Transitions] = Transitions

    def __init__(self, app: App, clock: VirtualClock) -> None:
        self._app, self._clock = app, clock
        self.db = MortalDatabase(app.db.url, clock=clock)
        self.is_up = False
        self.start()

    def start(self) -> None:
        self.db.dies_in = None
        access = Access(self.db, clock=self._clock, is_loopback=True)
        self.ops = Ops(self._clock, access, Policies(self.db))
        transitions = self.rules(Questions())
        self.pipelines = Pipelines(self.db, self.ops, self._app.blobs, transitions, lease_s=LEASE_S)
        self.work = self.kind(self.db, self.ops, self._app.ticks, access, self.pipelines, transitions)
        self.elsewhere = Elsewhere(self.db, self.ops, access, self._app.blobs, self.pipelines, self.work)
        self.is_up = True

    def op(self) -> Op:
        return self.ops.mint(Actor(kind="system", id="internal", name="internal"))

    def owner(self) -> Op:
        return self.ops.mint(Actor(kind="user", id="local", name="local admin"))


class Site:
    """The database and its two servers; histories are played on it one after the other."""

    def __init__(self, folder: Path, database_url: str) -> None:
        self.clock = VirtualClock()
        config = load_config({}, home=str(folder / "home"), database=database_url, lease_s=LEASE_S)
        self.app = build(config, clock=self.clock)
        self.archive = self.app.blobs.put(b"code").digest
        self.servers = [Server(self.app, self.clock), Server(self.app, self.clock)]
        self.app.queues.set(self.app.ops.system("test"), "scarce", QueueRule(quota=1))
        self.played = 0

    def clear(self) -> None:
        """End whatever a history that broke left undone."""
        for server in self.servers:
            server.db.dies_in = None
        with self.app.db.system_write() as tx:
            tx.run("update step_run set state = 'cancelled' where state in ('waiting', 'ready', 'running')")
            tx.run("update pipeline_run set state = 'cancelled' where state in ('queued', 'running', 'cancelling')")

    def close(self) -> None:
        for server in self.servers:
            server.db.close()
        self.app.db.close()


# --- the workers ----------------------------------------------------------------------------------------------------------


class Tried:
    """A try that a worker is busy with."""

    def __init__(self, given: Assignment, until_ms: int) -> None:
        self.given, self.until_ms = given, until_ms
        self.done: Finish | None = None  # once it ended; said until somebody answers


class Worker:
    """Does what worker.py does, as far as the server can see."""

    def __init__(self, world: World, number: int) -> None:
        self.world, self.number, self.name = world, number, f"w{number}-{world.plan.seed}"
        self.lives = 0
        self.stalled_until_ms = 0
        self.adopts = CLUSTER if (number + world.plan.seed) % 2 else ""
        self.queues = list(QUEUES) if number == 0 else sorted(world.rng.sample(QUEUES, world.rng.randint(1, 2)))
        self.be_born()

    def be_born(self) -> None:
        self.lives += 1
        self.id = f"{self.name}-{self.lives}"
        self.is_alive, self.has_said_hello = True, False
        self.held: dict[tuple[str, int], Tried] = {}
        self.beat_at_ms, self.wishes = 0, 0
        self.wish: Claim | None = None  # a claim that nobody answered yet

    def turn(self) -> None:
        """What it does every now and then."""
        world = self.world
        if not self.is_alive or world.now_ms < self.stalled_until_ms:
            return
        try:
            if not self.has_said_hello:
                self.hello()
            if world.now_ms >= self.beat_at_ms:
                self.beat()
            for key, work in list(self.held.items()):
                if world.now_ms >= work.until_ms:
                    self.finish(key, work)
            if len(self.held) < 2:
                self.claim()
        except NoAnswer:
            return

    def hello(self) -> None:
        """It holds from here on what an earlier life of it handed on."""
        hello = Hello(worker=self.id, name=self.name, queues=self.queues, adopts=self.adopts)
        welcome = self.world.ask(lambda s: s.work.hello(s.op(), hello))
        self.has_said_hello = True
        for given in welcome.adopted:
            self.held[given.step_run_id, given.attempt] = Tried(given, self.world.now_ms + 900)
            self.world.say(f"{self.id} goes on with {given.step}")

    def claim(self) -> None:
        """Ask for a step; a wish without an answer is said again under its key."""
        if self.wish is None:
            self.wish = self.new_claim()
        wish = self.wish
        given = self.world.hand(lambda s: s.work.claim(s.op(), wish).assignment, wish)
        self.wish = None
        self.take(given)

    def new_claim(self) -> Claim:
        self.wishes += 1
        return Claim(worker=self.id, key=f"{self.id}-{self.wishes}")

    def take(self, given: Assignment | None) -> None:
        if given is None or (given.step_run_id, given.attempt) in self.held:
            return
        duration_ms = self.world.rng.choice([0, 200, 900, 4000])
        self.held[given.step_run_id, given.attempt] = Tried(given, self.world.now_ms + duration_ms)
        self.world.known.add((given.step_run_id, given.attempt))
        if self.adopts:
            handing = Handing(
                worker=self.id, step_run_id=given.step_run_id, attempt=given.attempt, place=Place(executor=self.adopts)
            )  # fmt: skip
            with suppress(Conflict):  # taken away meanwhile, as a beat will say
                self.world.ask(lambda s: s.elsewhere.hand_on(s.op(), handing))

    def beat(self) -> None:
        world = self.world
        self.beat_at_ms = world.now_ms + int(LEASE_S * 250)
        held = [Held(step_run_id=step, attempt=attempt) for step, attempt in self.held]
        orders = world.ask(lambda s: s.work.beat(s.op(), Beat(worker=self.id, held=held)))
        for key in self.held:
            world.heard_ms[key] = world.now_ms
        for each in orders.lost:
            self.held.pop((each.step_run_id, each.attempt), None)
        for each in orders.cancel:
            if (work := self.held.get((each.step_run_id, each.attempt))) and work.done is None:
                work.done = self._finish(work.given, "cancelled")
                work.until_ms = world.now_ms

    def finish(self, key: tuple[str, int], work: Tried) -> None:
        world, given = self.world, work.given
        if work.done is None:
            outcome = world.rng.choice(["succeeded"] * 7 + ["failed", "timed_out", "lost"])
            work.done = self._finish(given, outcome)
        done = work.done
        if done.outcome == "lost":
            world.excused.add(key)
        given = None
        try:
            given = world.hand(lambda s: s.work.finish(s.op(), done).assignment, done.next)
        except Conflict:
            world.refused(done)
        else:
            world.acknowledged(done)
        self.held.pop(key, None)
        self.take(given)

    def _finish(self, given: Assignment, outcome: Any) -> Finish:
        value = Json(f"{given.step} by {self.id} in {given.attempt}") if outcome == "succeeded" else None
        return Finish(
            worker=self.id, step_run_id=given.step_run_id, attempt=given.attempt, outcome=outcome, outputs=value,
            error="" if value else outcome, text=f"{given.step}\n", next=self.new_claim() if self.world.rng.random() < 0.7 else None,
        )  # fmt: skip

    def die(self) -> None:
        self.is_alive, self.held = False, {}

    def leave(self) -> None:
        """Say goodbye, as at SIGTERM; the answer does not matter."""
        held = [Held(step_run_id=step, attempt=attempt) for step, attempt in self.held]
        self.world.excused |= set(self.held)
        self.die()
        try:
            self.world.ask(lambda s: s.work.goodbye(s.op(), Beat(worker=self.id, held=held)))
        except NoAnswer:
            return


# --- the world ------------------------------------------------------------------------------------------------------------


def _items(options: dict[str, Any]) -> dict[str, FromValue]:
    """What a map goes through."""
    return {"items": options["items"]} if "items" in options else {}


class World:
    """One history, played."""

    def __init__(self, site: Site, played: Plan) -> None:
        self.site, self.plan = site, played
        self.rng = random.Random(played.seed ^ 0x5EED)
        self.clock = site.clock
        self._began_ms = self.clock.elapsed_ms
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._number = 0
        self.log: list[str] = []
        self.runs: list[str] = []
        self.is_healed = False
        self.jumps_ms: list[int] = []  # when the clock was set
        self.handed: dict[tuple[str, int], Claim] = {}  # (step run, attempt) → the claim for which it was given
        self.known: set[tuple[str, int]] = set()  # those of which the worker was told
        self.heard_ms: dict[tuple[str, int], int] = {}  # when its worker was last heard of
        self.excused: set[tuple[str, int]] = set()  # those given up by their worker
        self.committed: dict[str, Any] = {}  # step run → what it returned, for ever
        self.acks: dict[str, Any] = {}
        with site.app.db.read() as tx:
            self._seq = int(tx.scalar("select coalesce(max(seq), 0) from event"))
        site.played += 1
        self.names = [f"p{played.seed}-{site.played}-{i}" for i in range(len(played.graphs))]
        for server in site.servers:
            server.start()
        for name, graph, options in zip(self.names, played.graphs, played.options, strict=True):
            steps = [
                StepSpec(
                    name=step,
                    function=f"p:{step}",
                    code_digest=step,
                    inputs={p: FromStep(p) for p in parents} | _items(options[step]),
                    **{k: v for k, v in options[step].items() if k != "items"},
                )
                for step, parents in graph.items()
            ]
            spec = PipelineSpec(
                name=name,
                entry="p",
                code=CodeInfo(archive_digest=site.archive),
                steps=steps,
                outputs={"r": FromStep(steps[-1].name)},
            )
            site.servers[0].pipelines.register(site.servers[0].owner(), spec)
        self.workers = [Worker(self, i) for i in range(played.workers)]

    @property
    def now_ms(self) -> int:
        """Since the history began; never goes back."""
        return self.clock.elapsed_ms - self._began_ms

    def at(self, ms: int, call: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._queue, (max(ms, self.now_ms), self._number, call))

    def play(self) -> None:
        """From the beginning to the end of every run."""
        for trouble in self.plan.troubles:
            self.at(int(trouble.at_s * 1000), lambda t=trouble: self.meet(t))
        for i, server in enumerate(self.site.servers):
            self.at(i * 500, lambda s=server: self._sweep(s))
        for i, worker in enumerate(self.workers):
            self.at(i * 37, lambda w=worker: self._turn(w))
        while self._queue:
            at_ms, _, call = heapq.heappop(self._queue)
            if not self.is_healed and at_ms >= CHAOS_S * 1000:
                self.heal()
            self.clock.pass_ms(at_ms - self.now_ms)
            call()
            if self.is_healed and self.over():
                break
            if self.now_ms > (CHAOS_S + PATIENCE_S) * 1000:
                raise Broken(f"stuck: {self.states()}")
        self.look_back()

    def say(self, text: str) -> None:
        self.log.append(f"{self.now_ms / 1000:8.3f}  {text}")

    # --- what happens -----------------------------------------------------------------------------------------------------

    def _sweep(self, server: Server) -> None:
        self.at(self.now_ms + LOOK_EVERY_MS, lambda: self._sweep(server))
        if server.is_up:
            with suppress(NoAnswer):
                self._within(server, lambda s: s.work.reconcile())

    def _turn(self, worker: Worker) -> None:
        self.at(self.now_ms + self.rng.randint(150, 600), lambda: self._turn(worker))
        worker.turn()

    def meet(self, trouble: Trouble) -> None:
        self.say(f"{trouble.kind} {trouble.who} {trouble.amount:g}")
        worker = self.workers[trouble.who % len(self.workers)]
        later_ms = self.now_ms + int(trouble.amount * 1000)
        try:
            if trouble.kind == "submit":
                self.submit(self.names[trouble.who % len(self.names)])
            elif trouble.kind == "cancel" and self.runs:
                run = self.runs[trouble.who % len(self.runs)]
                self.ask(lambda s: s.pipelines.cancel(s.owner(), run))
            elif trouble.kind == "resume" and self.runs:
                run = self.runs[trouble.who % len(self.runs)]
                self.ask(lambda s: s.pipelines.resume(s.owner(), run))
            elif trouble.kind in ("pause", "unpause") and self.runs:
                run, what = self.runs[trouble.who % len(self.runs)], trouble.kind
                self.ask(lambda s: getattr(s.pipelines.control, what)(s.owner(), run))
            elif trouble.kind in ("worker dies", "worker leaves"):
                worker.die() if trouble.kind == "worker dies" else worker.leave()
                self.at(later_ms, worker.be_born)
            elif trouble.kind == "worker stalls":
                worker.stalled_until_ms = later_ms
            elif trouble.kind == "server crashes":
                server = self.site.servers[trouble.who % 2]
                if trouble.who % 3:  # in one of the next transactions; else now, between two
                    server.db.dies_in, server.db.dies_after = trouble.who % 3, bool(trouble.who & 4)
                else:
                    self.crash(server, later_ms)
            elif trouble.kind == "clock jumps":
                self.clock.shown_ms += int(trouble.amount * 1000)
                self.jumps_ms.append(self.now_ms)
        except (NoAnswer, Conflict) as answer:
            self.say(f"  {type(answer).__name__}")

    def submit(self, name: str) -> None:
        unique = f"{name}-{len(self.runs)}-{self.now_ms}"
        for _ in range(20):  # asked again until there is an answer: the key makes it one run
            try:
                run = self.ask(lambda s: s.pipelines.submit(s.owner(), name, {}, unique=unique))
            except NoAnswer:
                self.clock.pass_ms(50)
                for server in self.site.servers:
                    server.is_up or server.start()
                continue
            self.runs.append(run.id)
            return
        raise Broken("nobody answers a submit")

    def crash(self, server: Server, back_at_ms: int) -> None:
        self.say(f"server {self.site.servers.index(server)} crashed")
        server.is_up = False
        self.at(back_at_ms, server.start)

    def heal(self) -> None:
        self.say("healed")
        self.is_healed = True
        for server in self.site.servers:
            server.db.dies_in = None
            server.is_up or server.start()
        for worker in self.workers:
            worker.stalled_until_ms = 0
            worker.is_alive or worker.be_born()
        for run in self.runs:
            with suppress(Conflict):
                self.ask(lambda s, r=run: s.pipelines.control.unpause(s.owner(), r))

    # --- the network --------------------------------------------------------------------------------------------------------

    def ask(self, request: Callable[[Server], T]) -> T:
        """Send a request to a server. Raises NoAnswer, or what the server refuses with."""
        server = self.rng.choice(self.site.servers)
        chance = 1.0 if self.is_healed else self.rng.random()
        if not server.is_up or chance < self.plan.faults / 2:
            raise NoAnswer
        answer = self._within(server, request)
        if chance < self.plan.faults:
            raise NoAnswer
        return answer

    def _within(self, server: Server, request: Callable[[Server], T]) -> T:
        try:
            return request(server)
        except Crashed as death:
            self.say(f"server {self.site.servers.index(server)} died {death}")
            server.is_up, server.db.dies_in = False, None
            self.at(self.now_ms + self.rng.randint(100, 5000), server.start)
            raise NoAnswer from death
        finally:
            self.look()

    def hand(self, request: Callable[[Server], Assignment | None], claim: Claim | None) -> Assignment | None:
        """A request in whose answer there may be a step."""

        def noted(server: Server) -> Assignment | None:
            given = request(server)
            if given is not None and claim is not None:
                key = (given.step_run_id, given.attempt)
                if self.handed.setdefault(key, claim) != claim:
                    raise Broken(
                        f"{given.step} was handed out twice as attempt {given.attempt}: {self.handed[key]}, {claim}"
                    )
                self.heard_ms.setdefault(key, self.now_ms)
                self._check_inputs(given, claim)
            return given

        self.repeat_later(noted)
        return self.ask(noted)

    def repeat_later(self, request: Callable[[Server], Any]) -> None:
        """Now and then the network delivers a request a second time, up to three leases later."""
        if self.is_healed or self.rng.random() >= self.plan.faults / 4:
            return

        def again() -> None:
            server = self.rng.choice(self.site.servers)
            if server.is_up:
                try:
                    self._within(server, request)
                except (Conflict, NoAnswer):
                    return

        self.at(self.now_ms + self.rng.randint(10, int(LEASE_S * 3000)), again)

    # --- what must be true --------------------------------------------------------------------------------------------------

    def acknowledged(self, done: Finish) -> None:
        if done.outcome == "succeeded":
            self.acks[done.step_run_id] = done.outputs

    def refused(self, done: Finish) -> None:
        kept = self.committed.get(done.step_run_id)
        if kept is not None and kept == done.outputs:
            raise Broken(f"a result was refused and yet kept: {done}")

    def _check_inputs(self, given: Assignment, claim: Claim) -> None:
        rows = {row["name"]: row for row in self._steps(given.run_id)}
        here = rows[given.step]
        worker = next((w for w in self.workers if w.id == claim.worker), None)
        if worker is not None and here["queue"] not in worker.queues:
            raise Broken(f"{given.step} of {here['queue']} went to a worker of {worker.queues}")
        for name, value in given.inputs.items():
            if name == "items":
                if value != Json(here["item"]):
                    raise Broken(f"{given.step} was given the item {value}")
            elif rows[name]["state"] != "succeeded" or self._returned(rows[name], rows) != value:
                raise Broken(f"{given.step} was given {value} of {name}, which is {rows[name]}")

    def _returned(self, row: dict[str, Any], rows: dict[str, dict[str, Any]]) -> Any:
        """What a step returned; a map, the list of what its elements did."""
        if row["kind"] != "map":
            return self._value(row)
        elements = [each for each in rows.values() if each["parent_id"] == row["id"]]
        return Json([self._value(each).value if each["state"] == "succeeded" else None for each in elements])

    def _steps(self, run_id: str) -> list[dict[str, Any]]:
        with self.site.app.db.read() as tx:
            return tx.rows(
                """select id, name, state, waits, attempt, failures, worker, lease_until_ms, outputs, cached_from, kind, parent_id,
                          item, queue
                     from step_run where run_id = :run order by position, item""",
                run=run_id,
            )  # fmt: skip

    @staticmethod
    def _value(row: dict[str, Any]) -> Any:
        return None if row["outputs"] is None else msgspec.json.decode(row["outputs"], type=Json)

    def _graph(self, run: dict[str, Any]) -> tuple[dict[str, list[str]], dict[str, dict[str, Any]]]:
        i = self.names.index(run["pipeline"])
        return self.plan.graphs[i], self.plan.options[i]

    def look(self) -> None:
        """Rows agree with each other, and with what was true before."""
        if not self.runs:
            return
        with self.site.app.db.read() as tx:
            runs = tx.rows(
                "select id, pipeline, state, remaining, is_paused from pipeline_run where id in :ids", ids=self.runs
            )
            scarce = tx.scalar("select count(*) from step_run where state = 'running' and queue = 'scarce' and worker <> ''")
            tries = tx.rows(
                """select a.step_run_id, a.number, a.worker, a.state from attempt a join step_run s on s.id = a.step_run_id
                    where s.run_id in :ids""",
                ids=self.runs,
            )  # fmt: skip
        if scarce > 1:
            raise Broken(f"{scarce} steps of the queue run that has a quota of one")
        by_step: dict[str, list[dict[str, Any]]] = {}
        for row in tries:
            by_step.setdefault(row["step_run_id"], []).append(row)
        for run in runs:
            graph, options = self._graph(run)
            steps = {row["name"]: row for row in self._steps(run["id"])}
            open_ = [row for row in steps.values() if row["state"] not in STEP_OVER]
            if run["remaining"] != len(open_):
                raise Broken(f"the run says {run['remaining']} steps remain, but these do: {open_}")
            if (run["state"] in ENDED) != (not open_):
                raise Broken(f"the run is {run['state']} with {len(open_)} steps open")
            paused = bool(run["is_paused"])
            for name, row in steps.items():
                known = name.partition("[")[0]  # an element is like its map
                above = [] if row["parent_id"] else [steps[p]["state"] for p in graph[name]]
                if paused and row["state"] == "ready":
                    raise Broken(f"a step of a paused run is ready: {row}")
                if row["kind"] == "map":
                    self._look_at_map(row, above, [r for r in steps.values() if r["parent_id"] == row["id"]], paused)
                else:
                    self._look_at(row, by_step.get(row["id"], []), above, options[known], paused)

    @staticmethod
    def _look_at_map(row: dict[str, Any], above: list[str], elements: list[dict[str, Any]], paused: bool) -> None:
        """It goes on while its elements do, and nobody holds it."""
        missing, left = (
            sum(s not in ("succeeded", "skipped") for s in above),
            sum(e["state"] not in STEP_OVER for e in elements),
        )
        if row["worker"] or row["lease_until_ms"] is not None or row["attempt"]:
            raise Broken(f"somebody holds a map: {row}")
        if row["state"] == "running" and (row["waits"] != left or not left):
            raise Broken(f"a map waits for {row['waits']} of {left} elements: {row}")
        if row["state"] in STEP_OVER and left:
            raise Broken(f"a map ended before {left} of its elements: {row}")
        if row["state"] == "waiting" and (row["waits"] != missing or not (missing or paused)):
            raise Broken(f"a map waits for {row['waits']}, but {missing} are missing: {row}")

    def _look_at(
        self, row: dict[str, Any], tries: list[dict[str, Any]], above: list[str], options: dict[str, Any], paused: bool
    ) -> None:  # fmt: skip
        state, missing = row["state"], sum(s not in ("succeeded", "skipped") for s in above)
        running = [t for t in tries if t["state"] == "running"]
        if state == "waiting" and row["waits"] != missing:
            raise Broken(f"it waits for {row['waits']}, but {missing} are missing: {row}")
        if state in ("ready", "running", "succeeded") and any(test.op == "==" for test in options.get("when", [])):
            raise Broken(f"it went on although its condition does not hold: {row}")
        if state in ("ready", "running", "succeeded") and missing:
            raise Broken(f"it went on before what it needs: {row}, {above}")
        if state == "waiting" and not missing and not paused:
            raise Broken(f"it waits for nothing: {row}")
        if (state == "running") != (len(running) == 1):
            raise Broken(f"{len(running)} tries run of {row}")
        if running and (running[0]["number"], running[0]["worker"]) != (row["attempt"], row["worker"]):
            raise Broken(f"{running[0]} is not {row}")
        if len(tries) > row["attempt"] or row["failures"] > options["retries"] + 1:
            raise Broken(f"tries do not add up: {row}, {tries}")
        if (state == "running") != (row["lease_until_ms"] is not None):
            raise Broken(f"a lease without a holder, or the other way around: {row}")
        if state == "succeeded":
            value = self._value(row)
            if self.committed.setdefault(row["id"], value) != value:
                raise Broken(f"a second result: {self.committed[row['id']]}, now {row}")
            holder = next((t["worker"] for t in tries if t["number"] == row["attempt"]), "")
            if not row["cached_from"] and value != Json(f"{row['name']} by {holder} in {row['attempt']}"):
                raise Broken(f"a result of somebody who did not hold the step: {row}, {tries}")
        elif row["id"] in self.committed:
            raise Broken(f"a committed step is {state}: {row}")
        for each in tries:
            if each["state"] == "lost":
                self._check_loss(row["id"], each)

    def _check_loss(self, step_id: str, lost: dict[str, Any]) -> None:
        """Nobody who is heard of loses a step."""
        key = (step_id, lost["number"])
        if key in self.excused or key not in self.known or key not in self.heard_ms:
            return
        self.excused.add(key)  # looked at once
        # Set there and back between two looks at it, a clock shows nothing of that; it may cost a try, and never a result.
        if any(after - before < LOOK_EVERY_MS for before, after in itertools.pairwise(self.jumps_ms)):
            return
        worker = next((w for w in self.workers if w.id == lost["worker"]), None)
        if worker is not None and worker.is_alive and self.now_ms - self.heard_ms[key] < LEASE_S * 740:
            raise Broken(f"{lost} was taken away {self.now_ms - self.heard_ms[key]} ms after its worker was heard of")

    def states(self) -> dict[str, Any]:
        with self.site.app.db.read() as tx:
            runs = tx.rows("select id, state, remaining from pipeline_run where id in :ids", ids=self.runs)
        return {f"{r['state']}, {r['remaining']} remain": self._steps(r["id"]) for r in runs}

    def over(self) -> bool:
        with self.site.app.db.read() as tx:
            left = tx.scalar(
                "select count(*) from pipeline_run where id in :ids and state in ('queued', 'running', 'cancelling')",
                ids=self.runs,
            )  # fmt: skip
        return not left

    def look_back(self) -> None:
        """At the end: what was acknowledged is there, and every transition left its fact."""
        for step_id, value in self.acks.items():
            if self.committed.get(step_id) != value:
                raise Broken(f"an acknowledged result is lost: {step_id} {value}, kept {self.committed.get(step_id)}")
        with self.site.app.db.read() as tx:
            facts = tx.rows("select kind, subject, data from event where seq > :seq order by seq", seq=self._seq)
            runs = tx.rows("select id, state from pipeline_run where id in :ids", ids=self.runs)
            tries = tx.rows(
                """select a.step_run_id, a.state from attempt a join step_run s on s.id = a.step_run_id
                    where s.run_id in :ids""",
                ids=self.runs,
            )  # fmt: skip
        told: dict[tuple[str, str], int] = {}
        for fact in facts:
            told[fact["kind"], fact["subject"]] = told.get((fact["kind"], fact["subject"]), 0) + 1
        for run in runs:
            ref, resumed = f"pipeline_run:{run['id']}", told.get(("pipeline_run.resumed", f"pipeline_run:{run['id']}"), 0)
            ends = {state: told.get((f"pipeline_run.{state}", ref), 0) for state in ENDED}
            if told.get(("pipeline_run.submitted", ref)) != 1 or sum(ends.values()) != resumed + 1 or not ends[run["state"]]:
                raise Broken(f"the facts of {run} are {ends}, resumed {resumed}")
            for row in self._steps(run["id"]):
                self._check_facts(row, [t["state"] for t in tries if t["step_run_id"] == row["id"]], told)

    @staticmethod
    def _check_facts(row: dict[str, Any], tries: list[str], told: dict[tuple[str, str], int]) -> None:
        ref = f"step_run:{row['id']}"
        counted = {kind: told.get((f"step_run.{kind}", ref), 0) for kind in ("started", "succeeded", "failed", "lost")}
        if counted["started"] != len(tries) or counted["succeeded"] != (row["state"] == "succeeded"):
            raise Broken(f"the facts of {row} are {counted}, its tries {tries}")
        if counted["lost"] != tries.count("lost"):
            raise Broken(f"the facts of {row} are {counted}, its tries {tries}")
        if "running" in tries:
            raise Broken(f"a try never ended: {row}, {tries}")


def play(site: Site, seed: int, *, is_stormy: bool = False, shrinks: bool = True) -> None:
    """The history of a seed. Raises Broken with the seed, the fewest troubles that still break it, and its log."""
    least = plan(seed, is_stormy=is_stormy)
    error, log = _attempt(site, least)
    if error is None:
        return
    if shrinks:
        least, error, log = _shrunk(site, least, error, log)
    told = "\n".join([f"seed {seed}, {len(least.troubles)} troubles: {error}", *log[-60:]])
    raise Broken(told)


def _attempt(site: Site, played: Plan) -> tuple[Broken | None, list[str]]:
    world = World(site, played)
    try:
        world.play()
    except Broken as broken:
        site.clear()
        return broken, world.log
    return None, world.log


def _shrunk(site: Site, found: Plan, error: Broken, log: list[str]) -> tuple[Plan, Broken, list[str]]:
    """Leave out one trouble after the other, as long as it still breaks."""
    for trouble in found.troubles:
        fewer = msgspec.structs.replace(found, troubles=[t for t in found.troubles if t != trouble])
        again, its_log = _attempt(site, fewer)
        if again is not None:
            found, error, log = fewer, again, its_log
    return found, error, log
