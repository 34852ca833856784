"""Revisions on trial: a share of the traffic in growing steps, until the canary is the champion or has lost its traffic.

Going back never asks the gate: it must always be possible.
"""

from __future__ import annotations

from typing import Any

import msgspec

from noria.kernel.db import Database, Read, Write
from noria.kernel.errors import Conflict, Invalid
from noria.kernel.ids import new_id
from noria.kernel.op import Op
from noria.serving import store
from noria.serving.model import CANARY_STEPS, Canary, Endpoint, Guard, RevisionConfig
from noria.serving.pointer import move, to_champion, with_canary
from noria.serving.revisions import Revisions, check_config, endpoint_ref


class Canaries:
    """See the module."""

    def __init__(self, db: Database, revisions: Revisions) -> None:
        self._db, self._revisions = db, revisions

    def current(self, op: Op, name: str) -> Canary | None:
        """The canary that is starting or running on an endpoint."""
        op.require("endpoint.read", endpoint_ref(name))
        with self._db.read() as tx:
            store.endpoint(tx, name)
            return store.open_canary(tx, name)

    def latest(self, op: Op, name: str) -> list[Canary]:
        """The latest canaries of an endpoint, newest first."""
        op.require("endpoint.read", endpoint_ref(name))
        with self._db.read() as tx:
            return store.canaries(tx, name)

    def running(self, op: Op) -> list[Canary]:
        """Every canary that has traffic now; for the judge. Those of endpoints one may read."""
        visible = op.visible("endpoint.read")
        with self._db.read() as tx:
            found = store.running_canaries(tx)
        return [c for c in found if visible is None or str(endpoint_ref(c.endpoint)) in visible]

    def start(
        self, op: Op, name: str, model_handle: str, *, steps: list[int] | None = None, guard: Guard | None = None,
        config: RevisionConfig | None = None,
    ) -> Canary:  # fmt: skip
        """Try a version on a share of the traffic: `steps` percent, one after the other. It starts once a node has loaded it.

        Raises NotFound, Invalid, Conflict (one is open), Forbidden (role or policy; reasons listed).
        """
        op.require("endpoint.deploy", endpoint_ref(name))
        wanted_steps, wanted_guard = check_steps(steps or list(CANARY_STEPS)), check_guard(guard or Guard())
        version, files = self._revisions.read(op, model_handle)
        wanted = check_config(config or RevisionConfig())
        with self._db.write(op) as tx:
            generation = store.next_generation(tx)
            endpoint = store.endpoint(tx, name)
            refuse_canary(tx, name)
            champion = next((r for r in store.routes_of(endpoint, "champion")), None)
            if champion is None or endpoint.pending_revision_id:
                raise Conflict(
                    f"{name} has no champion that is ready.", ref=endpoint_ref(name), hint="Deploy one and wait for it."
                )
            evidence = self._revisions.evidence(op, endpoint, version, name, "canary", wanted_steps[0])
            op.gate("endpoint.deploy", endpoint_ref(name), evidence)
            revision = self._revisions.add(tx, op, name, version, files, wanted, "canary")
            made = Canary(
                id=new_id(op.at_ms), endpoint=name, revision_id=revision.id, champion_revision_id=champion.revision_id,
                model_version=version.number, steps=wanted_steps, step=0, guard=wanted_guard, state="starting",
                started_at_ms=op.at_ms, stepped_at_ms=op.at_ms,
            )  # fmt: skip
            store.put_canary(tx, made)
            store.put_endpoint(
                tx,
                msgspec.structs.replace(
                    endpoint, pending_revision_id=revision.id, generation=generation, updated_at_ms=op.at_ms
                ),
            )
        return made

    def advance(self, op: Op, name: str, evidence: dict[str, Any] | None = None) -> Canary:
        """Give the canary its next share. Raises NotFound, Conflict (none runs, or it is at its last step), Forbidden."""
        op.require("endpoint.deploy", endpoint_ref(name))
        with self._db.write(op) as tx:
            generation = store.next_generation(tx)
            endpoint, canary = store.endpoint(tx, name), _running(tx, name)
            if canary.is_last_step:
                raise Conflict(f"The canary of {name} is at its last step.", hint="Promote it: noria endpoint promote.")
            moved = msgspec.structs.replace(canary, step=canary.step + 1, stepped_at_ms=op.at_ms)
            version = self._revisions.version_of(tx, op, canary.revision_id)
            op.gate(
                "endpoint.deploy",
                endpoint_ref(name),
                self._revisions.evidence(op, endpoint, version, name, "canary", moved.weight),
            )
            store.put_canary(tx, moved)
            move(tx, op, endpoint, generation, with_canary(endpoint, moved), f"canary at {moved.weight} %", evidence or {})
            _tell(tx, "canary.advanced", moved, weight=moved.weight, evidence=evidence or {})
        return moved

    def promote(self, op: Op, name: str, evidence: dict[str, Any] | None = None) -> Canary:
        """Make the canary the champion, with all the traffic. The old champion is kept warm for a way back.

        Raises NotFound, Conflict (none runs), Forbidden (role or policy).
        """
        op.require("endpoint.deploy", endpoint_ref(name))
        with self._db.write(op) as tx:
            generation = store.next_generation(tx)
            endpoint, canary = store.endpoint(tx, name), _running(tx, name)
            version = self._revisions.version_of(tx, op, canary.revision_id)
            op.gate(
                "endpoint.deploy", endpoint_ref(name), self._revisions.evidence(op, endpoint, version, name, "champion", 100)
            )
            ended = msgspec.structs.replace(
                canary, state="promoted", ended_at_ms=op.at_ms, reason="promoted", evidence=evidence or {}
            )
            store.put_canary(tx, ended)
            routes = to_champion(endpoint, canary.revision_id, canary.model_version)
            move(tx, op, endpoint, generation, routes, "canary promoted", evidence or {})
            _tell(tx, "canary.promoted", ended, evidence=evidence or {})
        return ended

    def rollback(
        self, op: Op, name: str, reason: str, evidence: dict[str, Any] | None = None, *, to_previous: bool = False
    ) -> Endpoint:
        """Go back at once: end the open canary; without one and `to_previous`, return to the previous champion, still warm.

        A judge leaves `to_previous` out: a canary that has just ended must not cost the champion its place.
        Raises NotFound, Conflict (there is nothing to go back to), Forbidden (role).
        """
        op.require("endpoint.deploy", endpoint_ref(name))
        with self._db.write(op) as tx:
            return self.back(tx, op, name, reason, evidence or {}, to_previous=to_previous)

    def back(
        self, tx: Write, op: Op, name: str, reason: str, evidence: dict[str, Any], *, to_previous: bool = False
    ) -> Endpoint:
        generation = store.next_generation(tx)
        endpoint = store.endpoint(tx, name)
        canary = store.open_canary(tx, name)
        if canary is not None:
            return self.end(tx, op, endpoint, canary, generation, reason, evidence)
        previous = next(iter(store.routes_of(endpoint, "previous")), None)
        if not to_previous:
            raise Conflict(f"{name} has no canary to roll back.", ref=endpoint_ref(name))
        if previous is None:
            raise Conflict(
                f"{name} has no canary and no previous champion.",
                ref=endpoint_ref(name),
                hint="Deploy the version you want.",
            )
        routes = to_champion(endpoint, previous.revision_id, previous.model_version)
        return move(tx, op, endpoint, generation, routes, f"rolled back: {reason}", evidence)

    def end(
        self, tx: Write, op: Op, endpoint: Endpoint, canary: Canary, generation: int, reason: str, evidence: dict[str, Any]
    ) -> Endpoint:
        ended = msgspec.structs.replace(
            canary, state="rolled_back", ended_at_ms=op.at_ms, reason=reason[:2000], evidence=evidence
        )
        store.put_canary(tx, ended)
        champion = next(r for r in store.routes_of(endpoint, "champion"))
        others = [r for r in endpoint.routes if r.role in ("previous", "shadow")]
        routes = [msgspec.structs.replace(champion, weight=100), *others]
        changed = move(tx, op, endpoint, generation, routes, f"canary rolled back: {reason}"[:2000], evidence)
        _tell(tx, "canary.rolled_back", ended, reason=reason[:2000], evidence=evidence)
        return changed

    def begin(self, tx: Write, op: Op, endpoint: Endpoint, canary: Canary, generation: int) -> None:
        """A node has loaded the canary: it gets its first share."""
        started = msgspec.structs.replace(canary, state="running", started_at_ms=op.at_ms, stepped_at_ms=op.at_ms)
        store.put_canary(tx, started)
        move(tx, op, endpoint, generation, with_canary(endpoint, started), f"canary at {started.weight} %", {})
        _tell(tx, "canary.started", started, weight=started.weight)


def refuse_canary(tx: Read, name: str) -> None:
    """Raises Conflict when a canary is open."""
    if store.open_canary(tx, name) is not None:
        raise Conflict(
            f"{name} has a canary.",
            ref=endpoint_ref(name),
            hint="Promote it or roll it back first: noria endpoint promote|rollback.",
        )


def check_steps(steps: list[int]) -> list[int]:
    """Raises Invalid unless the steps are percentages that grow."""
    if not steps or len(steps) > 20 or any(not 1 <= s <= 99 for s in steps) or sorted(set(steps)) != steps:
        raise Invalid("Canary steps are growing percentages between 1 and 99, such as 25, 50.", where="steps")
    return steps


def check_guard(guard: Guard) -> Guard:
    """Raises Invalid for limits that mean nothing."""
    if not 0 < guard.alpha < 1:
        raise Invalid("alpha must be between 0 and 1.", where="guard.alpha")
    if not 0 <= guard.max_error_share <= 1:
        raise Invalid("max_error_share must be between 0 and 1.", where="guard.max_error_share")
    if guard.min_labels < 0 or guard.min_duration_s < 0:
        raise Invalid("min_labels and min_duration_s cannot be negative.", where="guard")
    if guard.max_latency_ratio is not None and not 1 <= guard.max_latency_ratio <= 1000:
        raise Invalid("max_latency_ratio is at least 1: as slow as the champion.", where="guard.max_latency_ratio")
    if guard.max_score_psi is not None and not 0 < guard.max_score_psi <= 100:
        raise Invalid("max_score_psi is more than 0; 0.25 is commonly read as large.", where="guard.max_score_psi")
    if guard.max_fairness_gap is not None and not 0 <= guard.max_fairness_gap <= 1:
        raise Invalid("max_fairness_gap must be between 0 and 1.", where="guard.max_fairness_gap")
    if (guard.max_fairness_gap is None) != (not guard.fairness_column):
        raise Invalid(
            "max_fairness_gap and fairness_column go together.", where="guard.fairness_column",
            hint="Name the input that says to which group somebody belongs.",
        )  # fmt: skip
    return guard


def _running(tx: Read, name: str) -> Canary:
    found = store.open_canary(tx, name)
    if found is None:
        raise Conflict(
            f"{name} has no canary.", ref=endpoint_ref(name), hint="Start one: noria endpoint canary MODEL@SELECTOR."
        )
    if found.state != "running":
        raise Conflict(f"The canary of {name} is still loading.", ref=endpoint_ref(name), hint="Wait until it gets traffic.")
    return found


def _tell(tx: Write, kind: str, canary: Canary, **data: Any) -> None:
    tx.emit(
        kind,
        endpoint_ref(canary.endpoint),
        canary=canary.id,
        revision=canary.revision_id,
        version=canary.model_version,
        **data,
    )
