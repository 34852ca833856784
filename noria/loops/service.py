"""The closed loop: monitor, retrain, compare, approve, canary, promote or roll back.

A turn is driven by looking: `_step` reads what the turn waits for (a pipeline run, an approval, a canary) and moves it one
state on, in one transaction with its fact. Facts only wake it; the reconciler looks by itself, so a crash between any two
lines costs a delay and nothing else. What a turn starts elsewhere is started under a key of its own, and looked for before it
is started again.
Invariants: a fact starts at most one turn per loop; a loop has at most one turn under way; a turn only moves along MOVES.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec.structs import replace

from noria.governance.approvals import Approvals
from noria.kernel.db import Database, Read, Write
from noria.kernel.errors import AlreadyExists, Conflict, Forbidden, Invalid, NoriaError, NotFound, Unavailable
from noria.kernel.events import Event, event_at
from noria.kernel.ids import Ref, new_id
from noria.kernel.op import Actor, Op, Ops
from noria.kernel.paging import Page, check_limit, decode_token, encode_token
from noria.loops import store
from noria.loops.model import (
    DAY_MS,
    ENDED,
    MOVES,
    Loop,
    LoopPage,
    LoopSpec,
    Pass,
    Turn,
    check_spec,
    compare,
    fill,
)
from noria.monitoring.service import Monitoring
from noria.pipelines.service import Pipelines
from noria.registry.model import ModelVersion
from noria.registry.service import Registry
from noria.serving.model import Canary
from noria.serving.service import Serving

log = logging.getLogger("noria.loops")

APPROVED_ACTION = "endpoint.deploy"  # what people agree to: live traffic for exactly this version
TURNS_PER_PAGE = 20
MOVES_AT_ONCE = 10  # a turn has fewer states; a bound against our own mistakes
WAKES = frozenset({
    "alert.opened", "pipeline_run.succeeded", "pipeline_run.failed", "pipeline_run.cancelled", "approval.granted",
    "approval.rejected", "approval.expired", "approval.withdrawn", "canary.promoted", "canary.rolled_back",
    "revision.failed", "loop.turn_started",
})  # fmt: skip


class Loops:
    """The closed loop as one declarative object. Also the subscriber that drives it."""

    name = "loops"

    def __init__(
        self,
        db: Database,
        ops: Ops,
        pipelines: Pipelines,
        registry: Registry,
        serving: Serving,
        monitoring: Monitoring,
        approvals: Approvals,
    ) -> None:
        self._db, self._ops, self._pipelines, self._registry = db, ops, pipelines, registry
        self._serving, self._monitoring, self._approvals = serving, monitoring, approvals
        self._driving = threading.RLock()  # the subscriber and the reconciler of one process take turns

    def interest(self, _: Read) -> frozenset[str]:
        return WAKES

    # --- declare ----------------------------------------------------------------------------------------------------

    def create(self, op: Op, spec: LoopSpec) -> Loop:
        """Declare a loop; it acts with the caller's rights, never more. Raises Invalid, AlreadyExists, Forbidden."""
        self._may_write(op, spec)
        made = Loop(
            id=new_id(op.at_ms), name=spec.name, spec=spec, is_enabled=spec.enabled, owner=_owner(op),
            created_at_ms=op.at_ms, updated_at_ms=op.at_ms,
        )  # fmt: skip
        with self._db.write(op) as tx:
            if not store.add_loop(tx, made):
                raise AlreadyExists(f"There is already a loop named {spec.name!r}.", hint="Change it, or pick another name.")
            self._link(tx, made)
            tx.emit("loop.created", made.ref, spec=msgspec.to_builtins(spec))
        return self.loop(op, spec.name)

    def put(self, op: Op, name: str, spec: LoopSpec) -> Loop:
        """Make the loop, or change it: what a manifest asks for. Raises Invalid, Forbidden."""
        with self._db.read() as tx:
            is_there = store.find_loop(tx, name) is not None
        if is_there or spec.name != name:
            return self.change(op, name, spec)
        return self.create(op, spec)

    def change(self, op: Op, name: str, spec: LoopSpec) -> Loop:
        """Replace a loop's spec; it then acts with the caller's rights. A turn under way keeps the spec it began with.

        Raises NotFound, Invalid, Forbidden.
        """
        if spec.name != name:
            raise Invalid(
                f"The spec names {spec.name!r}, the address {name!r}.", where="name", hint="A loop keeps its name."
            )
        self._may_write(op, spec)
        with self._db.write(op) as tx:
            found = store.loop(tx, name)
            store.lock_loop(tx, found.id, at_ms=op.at_ms)
            if found.spec != spec or found.owner != _owner(op):
                store.change_loop(tx, found.id, spec, owner=_owner(op), is_enabled=spec.enabled)
                self._link(tx, replace(found, spec=spec))
                tx.emit("loop.changed", found.ref, spec=msgspec.to_builtins(spec))
        return self.loop(op, name)

    def delete(self, op: Op, name: str) -> None:
        """Remove a loop; its turns stay in the record. Raises NotFound, and Conflict while a turn is under way."""
        op.require("loop.write", Ref("loop", name))
        with self._db.write(op) as tx:
            found = store.loop(tx, name)
            store.lock_loop(tx, found.id, at_ms=op.at_ms)
            last = store.last_turns(tx, [found.id]).get(found.id)
            if last and (last.state not in ENDED or not last.is_settled):
                raise Conflict(f"Turn {last.number} of {name} is under way.", ref=last.ref, hint="Stop the loop first.")
            store.remove_loop(tx, found.id)
            tx.run("delete from edge where src = :ref", ref=str(found.ref))
            tx.emit("loop.deleted", found.ref)

    def _may_write(self, op: Op, spec: LoopSpec) -> None:
        """A loop can do what its owner could do by hand: asked now, and again at each act."""
        check_spec(spec)
        op.require("loop.write", Ref("loop", spec.name))
        op.require("pipeline.run", Ref("pipeline", spec.pipeline))
        op.require("endpoint.deploy", Ref("endpoint", spec.endpoint))
        op.require("model.promote", Ref("model", spec.model))

    def _link(self, tx: Write, loop: Loop) -> None:
        tx.run("delete from edge where src = :ref", ref=str(loop.ref))
        if loop.spec.monitor:
            tx.link(loop.ref, "watches", Ref("monitor", loop.spec.monitor))
        for kind, ref in (
            ("retrains", Ref("model", loop.spec.model)),
            ("runs", Ref("pipeline", loop.spec.pipeline)),
            ("serves", Ref("endpoint", loop.spec.endpoint)),
        ):
            tx.link(loop.ref, kind, ref)

    # --- read -------------------------------------------------------------------------------------------------------

    def loop(self, op: Op, name: str) -> Loop:
        """A loop with its last turn. Raises NotFound."""
        op.require("loop.read", Ref("loop", name))
        with self._db.read() as tx:
            return self._with_turns(tx, [store.loop(tx, name)])[0]

    def loops(self, op: Op, *, limit: int | None = None, page: str = "") -> Page[Loop]:
        """The loops the caller may see, by name."""
        scopes = op.visible("loop.read")
        names = None if scopes is None else [s.removeprefix("loop:") for s in scopes if s.startswith("loop:")]
        if names == []:
            op.require("loop.read")
        size, after = check_limit(limit), str(decode_token(page, size=1)[0]) if page else ""
        with self._db.read() as tx:
            found = self._with_turns(tx, store.loops(tx, names=names, after=after, limit=size + 1))
        return Page(found[:size], encode_token(found[size - 1].name) if len(found) > size else None)

    def page(self, op: Op, name: str) -> LoopPage:
        """A loop with its newest turns, their moves, and the alerts that wait. Raises NotFound."""
        op.require("loop.read", Ref("loop", name))
        with self._db.read() as tx:
            found = self._with_turns(tx, [store.loop(tx, name)])[0]
            turns = store.turns(tx, found.id, before=None, limit=TURNS_PER_PAGE)
            return LoopPage(loop=found, turns=_with_steps(tx, turns), passes=store.passes(tx, found.id))

    def turns(self, op: Op, name: str, *, limit: int | None = None, page: str = "") -> Page[Turn]:
        """The turns of a loop, newest first. Raises NotFound."""
        op.require("loop.read", Ref("loop", name))
        size, before = check_limit(limit), decode_token(page, size=1)[0] if page else None
        if before is not None and not isinstance(before, int):
            raise Invalid("The page token belongs to another list.", where="page", hint="Start again without it.")
        with self._db.read() as tx:
            found = store.turns(tx, store.loop(tx, name).id, before=before, limit=size + 1)
            return Page(_with_steps(tx, found[:size]), encode_token(found[size - 1].number) if len(found) > size else None)

    def turn(self, op: Op, turn_id: str) -> Turn:
        """Raises NotFound."""
        if op.visible("loop.read") == []:
            op.require("loop.read")
        with self._db.read() as tx:
            found = store.turn(tx, turn_id)
            if not op.can("loop.read", Ref("loop", found.loop)):
                raise NotFound(f"There is no turn {turn_id[:40]!r}.", ref=Ref("turn", turn_id))
            return _with_steps(tx, [found])[0]

    def _with_turns(self, tx: Read, found: list[Loop]) -> list[Loop]:
        last = store.last_turns(tx, [loop.id for loop in found])
        return [
            replace(loop, turn=last.get(loop.id), waits_until_ms=_cool_until(loop.spec, last.get(loop.id))) for loop in found
        ]

    # --- buttons ----------------------------------------------------------------------------------------------------

    def run(self, op: Op, name: str, params: dict[str, Any] | None = None, reason: str = "") -> Turn:
        """Start a turn by hand, whatever the cool-down says; the budget and the stop button still hold.

        Raises NotFound, Conflict (a turn is under way, the budget is spent, or the loop is stopped).
        """
        op.require("loop.run", Ref("loop", name))
        with self._db.write(op) as tx:
            loop = store.lock_loop(tx, store.loop(tx, name).id, at_ms=op.at_ms)
            assert loop is not None
            why = self._objection(tx, op, loop, by_hand=True)
            if why:
                raise Conflict(f"{name} starts no turn: {why}", ref=loop.ref, hint="noria loop show tells more.")
            started = self._begin(tx, op, loop, f"op:{op.id}", "manual", reason or "Asked for by hand.", params or {})
            assert started is not None
        with self._driving:
            self._drive(started.id)
        with self._db.read() as tx:
            return store.turn(tx, started.id)

    def stop(self, op: Op, name: str, reason: str = "") -> Loop:
        """The stop button: ends the turn under way now, with its training, question or canary, and lets no other begin.

        Raises NotFound. Stopping what is stopped changes nothing.
        """
        op.require("loop.run", Ref("loop", name))
        why = reason or f"Stopped by {op.actor.name}."
        with self._db.write(op) as tx:
            loop = store.lock_loop(tx, store.loop(tx, name).id, at_ms=op.at_ms)
            assert loop is not None
            last = store.last_turns(tx, [loop.id]).get(loop.id)
            turn = last if last and last.state not in ENDED else None
            if loop.is_enabled or turn:
                store.enable_loop(tx, loop.id, False)
                tx.emit("loop.stopped", loop.ref, reason=why, turn=turn.id if turn else "")
            if turn:
                self._move(tx, op, turn, "stopped", why, is_settled=False)
        if turn:
            with self._driving:
                self._drive(turn.id)
        return self.loop(op, name)

    def start(self, op: Op, name: str) -> Loop:
        """Let a stopped loop take turns again. Raises NotFound."""
        op.require("loop.run", Ref("loop", name))
        with self._db.write(op) as tx:
            loop = store.lock_loop(tx, store.loop(tx, name).id, at_ms=op.at_ms)
            assert loop is not None
            if not loop.is_enabled:
                store.enable_loop(tx, loop.id, True)
                tx.emit("loop.started", loop.ref)
        return self.loop(op, name)

    # --- begin a turn -----------------------------------------------------------------------------------------------

    def _objection(self, tx: Read, op: Op, loop: Loop, *, by_hand: bool = False) -> str:
        """Why no turn may begin now; '' when one may. Read in the transaction that begins it."""
        if not loop.is_enabled:
            return "It is stopped."
        last = store.last_turns(tx, [loop.id]).get(loop.id)
        if last and (last.state not in ENDED or not last.is_settled):
            return f"Turn {last.number} is under way ({last.state})."
        until = _cool_until(loop.spec, last)
        if not by_hand and until is not None and op.at_ms < until:
            return f"It cools down for another {(until - op.at_ms) / 1000:.0f} s."
        budget = loop.spec.budget
        if budget.turns is not None and loop.turns_count >= budget.turns:
            return f"Its budget of {budget.turns} turns is spent."
        if budget.turns_per_day is not None and store.turns_since(tx, loop.id, op.at_ms - DAY_MS) >= budget.turns_per_day:
            return f"Its budget of {budget.turns_per_day} turns a day is spent."
        return ""

    def _begin(
        self, tx: Write, op: Op, loop: Loop, key: str, trigger: str, reason: str, params: dict[str, Any]
    ) -> Turn | None:
        """A new turn in state triggered; None when this key began one before. The caller holds the loop's row."""
        if store.has_key(tx, loop.id, key):
            return None
        made = Turn(
            id=new_id(op.at_ms), loop_id=loop.id, loop=loop.name, number=store.next_number(tx, loop.id), state="triggered",
            trigger="alert" if trigger == "alert" else "manual", cause=op.cause, spec=loop.spec, params=params,
            started_at_ms=op.at_ms, moved_at_ms=op.at_ms, started_by=op.actor.label, reason=reason,
        )  # fmt: skip
        if not store.add_turn(tx, made, key):
            return None
        tx.link(made.ref, "turn_of", loop.ref)
        tx.emit("loop.turn_started", made.ref, loop=loop.name, number=made.number, trigger=trigger, reason=reason)
        return made

    def _answer(self, loop: Loop, event: Event) -> None:
        """Begin a turn for an alert, or note why not yet. Answering twice changes nothing."""
        key, op = f"fact:{event.seq}", self._op(loop, event.seq)
        with self._db.write(op) as tx:
            held = store.lock_loop(tx, loop.id, at_ms=op.at_ms)
            if held is None or store.has_key(tx, loop.id, key):
                return
            why = self._objection(tx, op, held)
            if not why:
                value, limit = event.data.get("value"), event.data.get("limit")
                numbers = (
                    f": {event.data.get('metric')} {value:.4g}, limit {limit:.4g}" if value is not None and limit else ""
                )
                self._begin(tx, op, held, key, "alert", f"The alert of {held.spec.monitor} opened{numbers}.", {})
                store.remove_passes(tx, loop.id, [p.cause for p in store.passes(tx, loop.id) if p.cause <= event.seq])
            elif store.add_pass(tx, loop.id, Pass(cause=event.seq, at_ms=op.at_ms, reason=why, alert=event.subject)):
                tx.emit("loop.passed_over", loop.ref, reason=why, alert=str(event.data.get("alert", "")))

    def _answer_waiting(self, loop_id: str) -> None:
        """The newest alert that was passed over and is still open begins a turn once the loop is free."""
        with self._db.read() as tx:
            loop = store.loop_by_id(tx, loop_id)
            passes = store.passes(tx, loop_id)
            over = [p.cause for p in passes if store.is_resolved(tx, p.alert, p.cause)]
            waiting = [p for p in passes if p.cause not in over]
            event = event_at(tx, waiting[0].cause) if waiting else None
            is_free = loop is not None and not self._objection(tx, self._op(loop, None), loop)
        if over:
            with self._db.system_write() as write:
                store.remove_passes(write, loop_id, over)
        if loop and event and is_free:
            self._answer(loop, event)

    # --- drive ------------------------------------------------------------------------------------------------------

    def handle(self, event: Event) -> None:
        """A fact that a turn may have waited for. The fact only wakes; what is true is read from the slices."""
        with self._driving:
            if event.kind == "alert.opened":
                with self._db.read() as tx:
                    watching = store.loops_watching(tx, str(event.data.get("monitor", "")))
                for loop in watching:
                    if event.at_ms >= loop.created_at_ms:
                        self._answer(loop, event)
            for turn in self._waiting_for(event):
                self._drive(turn.id)

    def reconcile(self) -> None:
        """Look at every turn under way, and at the alerts that wait."""
        with self._driving:
            with self._db.read() as tx:
                turns, waiting = store.open_turns(tx), store.loops_with_passes(tx)
            for turn in turns:
                self._drive(turn.id)
            for loop_id in waiting:
                self._answer_waiting(loop_id)

    def _waiting_for(self, event: Event) -> list[Turn]:
        subject = Ref.parse(event.subject)
        with self._db.read() as tx:
            if subject.kind == "pipeline_run":
                return store.turns_with(tx, "pipeline_run_id", subject.id)
            if subject.kind == "approval":
                return store.turns_with(tx, "approval_id", subject.id)
            if event.kind.startswith("canary."):
                return store.turns_with(tx, "canary_id", str(event.data.get("canary", "")))
            return [t for t in store.open_turns(tx) if event.kind == "alert.opened" or t.ref == subject]

    def _drive(self, turn_id: str) -> None:
        """Move a turn as far as it goes. What is away for the moment is tried again by the next round."""
        for _ in range(MOVES_AT_ONCE):
            with self._db.read() as tx:
                turn = store.turn(tx, turn_id)
                loop = store.loop_by_id(tx, turn.loop_id)
            if turn.state in ENDED and turn.is_settled:
                return
            try:
                if not self._step(turn, loop):
                    return
            except Unavailable as away:
                log.warning("turn %s of %s waits: %s", turn.number, turn.loop, away.message)
                return
            except NoriaError as refused:
                self._give_up(turn, loop, refused)
                return

    def _give_up(self, turn: Turn, loop: Loop | None, refused: NoriaError) -> None:
        """End a turn that was refused something: by policy or rights it is rejected, by anything else it has failed."""
        state = "rejected" if isinstance(refused, Forbidden) and "rejected" in MOVES.get(turn.state, ()) else "failed"
        op = self._op_of(turn, loop)
        with self._db.write(op) as tx:
            if turn.state in ENDED:  # it was stopped, and ending what it had started was refused: say so and let it be
                store.move_turn(tx, turn.id, turn.state, {"is_settled": True, "reason": f"{turn.reason} {refused.message}"})
            else:
                self._move(tx, op, turn, state, refused.message)

    def _step(self, turn: Turn, loop: Loop | None) -> bool:
        """One move, if what the turn waits for has happened. True when it moved."""
        act: Callable[[Turn, Loop | None], bool] = {
            "triggered": self._train,
            "training": self._watch_training,
            "comparing": self._compare,
            "awaiting_approval": self._watch_approval,
            "canary": self._watch_canary,
            "stopped": self._settle,
        }[turn.state]
        return act(turn, loop)

    def _move(
        self,
        tx: Write,
        op: Op,
        turn: Turn,
        state: str,
        reason: str,
        *,
        evidence: dict[str, Any] | None = None,
        after: int | None = None,
        **changes: Any,
    ) -> bool:
        """Move a turn, with its fact; False when another mover was faster. `after`: the fact it waited for."""
        assert state in MOVES[turn.state], (turn.state, state)
        ended = {"ended_at_ms": op.at_ms} if state in ENDED else {}
        moved = store.move_turn(
            tx, turn.id, turn.state, {"state": state, "reason": reason, "moved_at_ms": op.at_ms, **ended, **changes}
        )
        if moved:
            tx.emit(
                "loop.turn_advanced", turn.ref, loop=turn.loop, state=state, was=turn.state, reason=reason,
                evidence=evidence or {}, after=after,
            )  # fmt: skip
        return moved

    # --- triggered → training ---------------------------------------------------------------------------------------

    def _train(self, turn: Turn, loop: Loop | None) -> bool:
        op = self._op_of(turn, loop)
        champion = self._champion(op, turn)
        template = {k: v for k, v in turn.spec.params.items() if k not in turn.params}
        params = {**fill(template, self._known(turn, champion)), **turn.params}
        run = self._pipelines.submit(op, turn.spec.pipeline, params, unique=f"loop:{turn.id}")
        with self._db.write(op) as tx:
            moved = self._move(
                tx, op, turn, "training", f"Pipeline {turn.spec.pipeline} runs.", pipeline_run_id=run.id,
                champion=champion.number if champion else None, evidence={"pipeline_run": run.id, "params": params},
            )  # fmt: skip
            if moved:
                tx.link(turn.ref, "started", Ref("pipeline_run", run.id))
        return moved

    def _known(self, turn: Turn, champion: ModelVersion | None) -> dict[str, Any]:
        """What parameters may name."""
        known: dict[str, Any] = {"loop": turn.loop, "turn": turn.id, "model": turn.spec.model}
        if champion:
            known["champion"] = champion.label
        with self._db.read() as tx:
            event = event_at(tx, turn.cause) if turn.cause is not None and turn.trigger == "alert" else None
        if event:
            known |= {"seq": event.seq, "subject": event.subject, **{f"data.{k}": v for k, v in event.data.items()}}
        return known

    def _champion(self, op: Op, turn: Turn) -> ModelVersion | None:
        try:
            return self._registry.version(op, f"{turn.spec.model}@{turn.spec.champion}")
        except NotFound:
            return None

    # --- training → comparing ---------------------------------------------------------------------------------------

    def _watch_training(self, turn: Turn, loop: Loop | None) -> bool:
        op = self._op_of(turn, loop)
        run = self._pipelines.pipeline_run(op, turn.pipeline_run_id)
        if run.state not in ("succeeded", "failed", "cancelled"):
            return False
        after = self._last_fact(Ref("pipeline_run", turn.pipeline_run_id))
        if run.state != "succeeded":
            why = f"The pipeline run {run.state}" + (f": {run.error}" if run.error else ".")
            with self._db.write(op) as tx:
                return self._move(tx, op, turn, "failed", why[:2000], after=after)
        version = self._made(op, turn, run.outputs.get(turn.spec.output))
        with self._db.write(op) as tx:
            moved = self._move(
                tx, op, turn, "comparing", f"{version.label} was trained.", after=after, model_version_id=version.id,
                challenger=version.number, evidence={"version": version.label, "digest": version.digest},
            )  # fmt: skip
            if moved:
                tx.link(turn.ref, "made", version.ref)
        return moved

    def _made(self, op: Op, turn: Turn, output: Any) -> ModelVersion:
        """The version that the pipeline says it made. Raises Invalid when it names none of this model."""
        value = getattr(output, "value", output)
        if isinstance(value, dict):
            value = value.get("version", value.get("number"))
        if isinstance(value, int) and not isinstance(value, bool):
            value = f"{turn.spec.model}@{value}"
        if not isinstance(value, str) or not value:
            raise Invalid(
                f"The pipeline's output {turn.spec.output!r} names no model version.",
                hint=f"Return it as {turn.spec.output!r}: {turn.spec.model}@8, or 8.",
            )
        version = self._registry.version(op, f"{turn.spec.model}@{value}" if value.isdigit() else value)
        if version.model != turn.spec.model:
            raise Invalid(f"The pipeline made {version.label}, but the loop is about {turn.spec.model}.")
        return version

    # --- comparing → awaiting approval, canary, or rejected -----------------------------------------------------------

    def _compare(self, turn: Turn, loop: Loop | None) -> bool:
        op = self._op_of(turn, loop)
        challenger = self._registry.version(op, f"model_version:{turn.model_version_id}")
        champion = self._champion(op, turn)
        verdict = compare(turn.spec.gate, challenger, champion)
        evidence = msgspec.to_builtins(verdict)
        if not verdict.passed:
            with self._db.write(op) as tx:
                return self._move(
                    tx,
                    op,
                    turn,
                    "rejected",
                    verdict.reason,
                    comparison=verdict,
                    champion=verdict.champion,
                    evidence=evidence,
                )
        if turn.spec.approval.mode == "auto":
            return self._try(op, turn, challenger, comparison=verdict, champion=verdict.champion, evidence=evidence)
        approval_id = self._ask(op, turn, challenger, evidence)
        with self._db.write(op) as tx:
            moved = self._move(
                tx, op, turn, "awaiting_approval", verdict.reason, comparison=verdict, champion=verdict.champion,
                approval_id=approval_id, evidence=evidence,
            )  # fmt: skip
            if moved:
                tx.link(turn.ref, "asked", Ref("approval", approval_id))
        return moved

    def _ask(self, op: Op, turn: Turn, challenger: ModelVersion, comparison: dict[str, Any]) -> str:
        """Ask for approval once: a question this turn asked before a crash is found again, whatever its answer.

        Somebody else's question about exactly these bytes serves as well, while it is pending or granted.
        """
        policy = turn.spec.approval
        for asked in self._approvals.approvals(op, subject=str(challenger.ref), limit=100).items:
            is_same = asked.action == APPROVED_ACTION and asked.digest == challenger.digest
            is_enough = asked.required >= policy.count and set(policy.roles) <= set(asked.roles)
            is_open = asked.state in ("pending", "granted")
            if asked.evidence.get("turn") == turn.id or (is_same and is_enough and is_open):
                return asked.id
        evidence = {
            **self._registry.evidence(op, challenger, turn.spec.champion),
            "turn": turn.id, "loop": turn.loop, "endpoint": turn.spec.endpoint, "comparison": comparison,
        }  # fmt: skip
        asked = self._approvals.request(
            op, challenger.ref, APPROVED_ACTION, challenger.digest, evidence, policy.count, roles=policy.roles,
            comment=comparison["reason"],
        )  # fmt: skip
        return asked.id

    # --- awaiting approval → canary -----------------------------------------------------------------------------------

    def _watch_approval(self, turn: Turn, loop: Loop | None) -> bool:
        op = self._op_of(turn, loop)
        approval = self._approvals.approval(op, turn.approval_id)
        if approval.state == "pending":
            return False
        after = self._last_fact(Ref("approval", turn.approval_id))
        if approval.state != "granted":
            said = [f"{v.actor}: {v.comment}" for v in approval.votes if v.decision == "reject" and v.comment]
            why = f"The approval was {approval.state}" + (f" ({'; '.join(said)})." if said else ".")
            with self._db.write(op) as tx:
                return self._move(tx, op, turn, "rejected", why[:2000], after=after)
        challenger = self._registry.version(op, f"model_version:{turn.model_version_id}")
        return self._try(op, turn, challenger, evidence={"approval": approval.id}, after=after)

    # --- → canary, or promoted at once ------------------------------------------------------------------------------

    def _try(self, op: Op, turn: Turn, challenger: ModelVersion, *, evidence: dict[str, Any], **changes: Any) -> bool:
        """Give the challenger live traffic: a first share, or all of it for a loop without a canary."""
        plan = turn.spec.canary
        other = self._serving.canaries.current(op, turn.spec.endpoint)
        if other is not None and other.model_version != challenger.number:
            return False  # somebody else's trial comes to its end first
        if not plan.steps:
            self._serving.deploy(op, turn.spec.endpoint, challenger.label)
            return self._crown(op, turn, challenger, "Deployed without a canary, as the loop says.", evidence, **changes)
        canary = self._our_canary(op, turn, challenger)
        if canary is None:
            canary = self._serving.canaries.start(
                op, turn.spec.endpoint, challenger.label, steps=plan.steps, guard=plan.guard
            )
        with self._db.write(op) as tx:
            why = f"{challenger.label} is tried on {canary.steps[0]} % of {turn.spec.endpoint}."
            return self._move(tx, op, turn, "canary", why, canary_id=canary.id, evidence=evidence, **changes)

    def _our_canary(self, op: Op, turn: Turn, challenger: ModelVersion) -> Canary | None:
        """The canary that this turn started before a crash, whatever became of it."""
        for canary in self._serving.canaries.latest(op, turn.spec.endpoint):
            if canary.model_version == challenger.number and canary.started_at_ms >= turn.moved_at_ms:
                return canary
        return None

    # --- canary → promoted or rolled back -----------------------------------------------------------------------------

    def _watch_canary(self, turn: Turn, loop: Loop | None) -> bool:
        op = self._op_of(turn, loop)
        found = [c for c in self._serving.canaries.latest(op, turn.spec.endpoint) if c.id == turn.canary_id]
        if not found:
            raise NotFound("The canary of this turn is no longer in the record.")
        canary = found[0]
        if canary.state in ("starting", "running"):
            return False
        after = self._last_fact(Ref("endpoint", turn.spec.endpoint), ["canary.promoted", "canary.rolled_back"])
        if canary.state == "promoted":
            challenger = self._registry.version(op, f"model_version:{turn.model_version_id}")
            return self._crown(op, turn, challenger, "The canary was as good as it had to be.", canary.evidence, after=after)
        with self._db.write(op) as tx:
            why = f"The canary was rolled back: {canary.reason}"
            return self._move(tx, op, turn, "rolled_back", why[:2000], evidence=canary.evidence, after=after)

    def _crown(
        self, op: Op, turn: Turn, challenger: ModelVersion, why: str, evidence: dict[str, Any], **changes: Any
    ) -> bool:
        """The challenger has all the traffic: it becomes the champion in the registry too. A policy that objects is quoted."""
        if turn.spec.champion not in challenger.aliases:
            try:
                self._registry.promote(op, challenger, turn.spec.champion)
            except Forbidden as refused:
                why = f"{why} It serves, but it is not {turn.spec.champion} in the registry: {refused.message}"
        with self._db.write(op) as tx:
            return self._move(tx, op, turn, "promoted", why, evidence=evidence, **changes)

    # --- stopped: end what was started --------------------------------------------------------------------------------

    def _settle(self, turn: Turn, loop: Loop | None) -> bool:
        """Cancel the training, withdraw the question, take the canary's traffic away; each of them may be over already."""
        op = self._op_of(turn, loop)
        for end in (self._end_training, self._end_question, self._end_canary):
            try:
                end(op, turn)
            except (Conflict, NotFound) as over:
                log.info("turn %s of %s: %s", turn.number, turn.loop, over.message)
        with self._db.write(op) as tx:
            store.move_turn(tx, turn.id, "stopped", {"is_settled": True})
        return True

    def _end_training(self, op: Op, turn: Turn) -> None:
        if turn.pipeline_run_id and turn.model_version_id is None:
            self._pipelines.cancel(op, turn.pipeline_run_id)

    def _end_question(self, op: Op, turn: Turn) -> None:
        if turn.approval_id and self._approvals.approval(op, turn.approval_id).state == "pending":
            self._approvals.withdraw(op, turn.approval_id)

    def _end_canary(self, op: Op, turn: Turn) -> None:
        is_ours = [c for c in self._serving.canaries.latest(op, turn.spec.endpoint) if c.id == turn.canary_id]
        if is_ours and is_ours[0].state in ("starting", "running"):
            self._serving.canaries.rollback(
                op, turn.spec.endpoint, f"Loop {turn.loop} was stopped: {turn.reason}", {"turn": turn.id}
            )

    # --- operations ---------------------------------------------------------------------------------------------------

    def _op(self, loop: Loop, cause: int | None) -> Op:
        """An operation of the loop, for its owner and with no more rights than theirs."""
        actor = Actor(kind="trigger", id=loop.id, name=loop.name, on_behalf_of=loop.owner)
        return self._ops.mint(actor, cause=cause)

    def _op_of(self, turn: Turn, loop: Loop | None) -> Op:
        """An operation for the next move: its cause is the turn's last move, so that the chain goes back to the alert."""
        cause = self._last_fact(turn.ref)
        if loop is None:  # deleted with a turn under way: only Noria itself is left to end it
            return self._ops.system("loops", cause=cause)
        return self._op(loop, cause)

    def _last_fact(self, subject: Ref, kinds: list[str] | None = None) -> int | None:
        """The seq of the latest fact about `subject`."""
        with self._db.read() as tx:
            return store.last_fact(tx, subject, kinds)


class LoopsReconciler:
    """Looks at every turn under way, woken by facts and every few seconds regardless."""

    name = "loops.reconcile"
    every_s = 5.0
    wake_on: frozenset[str] = WAKES | {"loop.started", "alert.resolved", "canary.started"}

    def __init__(self, loops: Loops) -> None:
        self._loops = loops

    def reconcile(self) -> None:
        self._loops.reconcile()


def _owner(op: Op) -> str:
    return op.actor.on_behalf_of or ("local" if op.actor.kind == "system" else op.actor.id)


def _cool_until(spec: LoopSpec, last: Turn | None) -> int | None:
    return last.ended_at_ms + int(spec.cooldown_s * 1000) if last and last.ended_at_ms is not None else None


def _with_steps(tx: Read, turns: list[Turn]) -> list[Turn]:
    steps = store.steps(tx, [t.id for t in turns])
    return [replace(t, steps=steps.get(t.id, [])) for t in turns]
