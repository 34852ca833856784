"""The story that `noria demo` tells: one turn of the wheel that succeeds, one that is rolled back, and the proof of both.

Everything goes through the API that everybody uses; the server does the work. What was done is kept in `demo.json` in the home,
so that a demo that was stopped goes on where it was.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from noria.client.api import Api, connect
from noria.client.datasets import dataset
from noria.demo.data import DAY_MS, END_MS, FEBRUARY_MS, REQUESTS, REQUESTS_FAST, WEEK_MS, Flights, example_folder
from noria.demo.replay import Replay
from noria.kernel.errors import AlreadyExists, Conflict, NoriaError, NotFound, Unavailable

POLL_S = 0.1
CATCH_UP_S = 30.0  # how long monitoring may take to read what was replayed
TRAIN_S = 180.0
PATIENCE_S = 60.0  # how long the server may be away; what was asked then is asked again
JANUARY_MS = FEBRUARY_MS - 31 * DAY_MS
YEAR_S = 366 * 86_400
HOUR_CHUNK_MS = 12 * 3_600_000  # truth is delivered at least this often in replayed time
Say = Callable[[str, str], None]


class Story:
    """Tells the story to `say(sentence, url)` while it happens."""

    def __init__(self, home: Path, url: str, gateway: str, *, fast: bool, say: Say) -> None:
        self.url = url
        self._home = home
        self._say = say
        self._requests = REQUESTS_FAST if fast else REQUESTS
        self._files = home / "demo" / "flights"
        self._memory = home / "demo.json"
        self._done: dict[str, Any] = json.loads(self._memory.read_text()) if self._memory.exists() else {}
        self.admin: Api = connect(url, patience_s=PATIENCE_S)
        self.team: Api = connect(url, self._team_token(), patience_s=PATIENCE_S)
        self._gateway = gateway
        self._flights: Flights | None = None
        self._replay: Replay | None = None

    def close(self) -> None:
        self.team.close()
        self.admin.close()

    def tell(self) -> None:
        """The whole story, from wherever it was left."""
        for name, chapter in (
            ("data", self.commit_january), ("training", self.train_first), ("deployment", self.approve_and_deploy),
            ("loop", self.declare_loop), ("drift", self.replay_until_promoted), ("mishap", self.train_on_hours),
            ("rollback", self.replay_until_rolled_back), ("proof", self.prove),
        ):  # fmt: skip
            if name not in self._done:
                self._keep(name, chapter() or True)

    # --- chapters ---------------------------------------------------------------------------------------------------

    def commit_january(self) -> None:
        self.flights.export(self._files, "2013-01", JANUARY_MS, FEBRUARY_MS, FEBRUARY_MS)
        version = dataset("flights", api=self.team).commit(self._files, message="January")
        self._say(
            f"January's {version.info.rows_count or 0:,} flights are version {version.number} of the dataset flights.",
            f"/datasets/flights/{version.number}",
        )

    def train_first(self) -> str:
        run = self._pipeline(dataset="flights@1", unique="demo-first")
        number = int(run["outputs"]["version"])
        metrics = run["outputs"]["metrics"]
        self._say(
            f"A pipeline trained on January and registered flights@{number}: "
            f"AUC {metrics['auc']:.3f}, log loss {metrics['log_loss']:.3f} on the last days.",
            f"/pipeline-runs/{run['id']}",
        )
        return str(number)

    def approve_and_deploy(self) -> None:
        self._apply("deployment.yaml")
        number = self._done["training"]
        version = self.team.get(f"/models/flights/versions/{number}")
        version = version.get("version", version)
        try:
            self.team.post("/endpoints/flights/deploy", {"model": f"flights@{number}"})
            raise Unavailable("The policy did not ask for an approval.")
        except NoriaError as refused:
            if refused.code != "forbidden":
                raise
        self._say(f"flights@{number} may not be deployed yet: a policy wants somebody else to agree.", "/approvals")
        subject, digest = f"model_version:{version['id']}", version["digest"]
        asked = self.team.post(
            "/approvals", {"subject": subject, "action": "endpoint.deploy", "digest": digest, "comment": "the first model"}
        )
        self.admin.post(f"/approvals/{asked['id']}/approve", {"comment": "Better than nothing; agreed.", "digest": digest})
        self._say("The local admin approved exactly these bytes.", f"/models/flights/{number}")
        self.team.put("/models/flights/aliases/champion", {"version": int(number)})
        self.team.post("/endpoints/flights/deploy", {"model": f"flights@{number}", "wait": True}, timeout_s=120)
        self._say("The gateway serves it.", "/endpoints/flights")

    def declare_loop(self) -> None:
        self._apply("loop.yaml")
        self._say(
            "A monitor compares what the model says with what happened, and a loop waits for its alert.", "/loops/flights"
        )

    def replay_until_promoted(self) -> None:
        for week in range(int(self._done.get("week", 0)), self._weeks()):
            turn = self._play(week)
            if turn and turn["state"] == "promoted":
                number = self._champion()
                self._say(f"The canary held: flights@{number} is the champion now.", f"/models/flights/{number}")
                return
            if turn and turn["state"] not in ("canary",):
                raise Unavailable(f"The loop's turn ended as {turn['state']}: {turn.get('reason', '')}")
        raise Unavailable("The year ended before the loop had turned.")

    def train_on_hours(self) -> None:
        wrong = self._home / "demo" / "flights-in-hours"
        self.flights.export_in_hours(self._files, wrong)
        version = dataset("flights", api=self.team).commit(wrong, message="Warehouse migration")
        self._say(
            f"The warehouse was migrated; version {version.number} of the data has one column in hours instead of minutes. "
            "Nobody noticed.",
            f"/datasets/flights/diff?a={version.number - 1}&b={version.number}",
        )
        with contextlib.suppress(Conflict):  # the turn is under way already
            self.team.post("/loops/flights/run", {"reason": "new data"})
        self._lead_to_canary(previous=1)

    def replay_until_rolled_back(self) -> None:
        for week in range(int(self._done["week"]), self._weeks()):
            turn = self._play(week, commit=False)
            if turn and turn["state"] == "rolled_back":
                self._say(f"It was rolled back by itself: {turn.get('reason', '')}", "/endpoints/flights")
                return
            if turn and turn["state"] != "canary":
                raise Unavailable(f"The bad model's turn ended as {turn['state']}: {turn.get('reason', '')}")
        raise Unavailable("The bad model was not rolled back before the data ended.")

    def prove(self) -> None:
        tally = self.replay.tally
        self._say(
            f"{self._done.get('sent', 0):,} requests were sent and {self._done.get('lost', 0)} were lost; "
            f"{self._done.get('per_s', 0):.0f} a second while replaying.",
            "/endpoints/flights",
        )
        verified = self.admin.post("/audit/verify")
        if not verified["is_intact"]:
            raise Unavailable(f"The audit log does not verify: {verified['faults']}", hint="See /audit.")
        self._say(f"The audit log verifies: {verified['facts']:,} facts, {verified['sealed']:,} of them sealed.", "/audit")
        prediction = tally.prediction_id or self._done.get("prediction", "")
        self.admin.get(f"/passports/{prediction}")
        self._say(f"noria model passport {prediction} tells what is behind one prediction.", f"/passports/{prediction}")

    # --- helpers, in the order they are called --------------------------------------------------------------------------

    @property
    def flights(self) -> Flights:
        if self._flights is None:
            self._flights = Flights.load()
        return self._flights

    @property
    def replay(self) -> Replay:
        if self._replay is None:
            self._replay = Replay(self._gateway, "flights", self.flights.features)
        return self._replay

    def _team_token(self) -> str:
        """The token of the team's service account, which is made at the first start."""
        if "token" not in self._done:
            with contextlib.suppress(AlreadyExists):  # the demo was stopped between the two calls
                self.admin.post("/principals", {"name": "flights-team", "kind": "service", "roles": ["maintainer"]})
            made = self.admin.post("/tokens", {"name": "demo", "principal": "flights-team", "expires_in_days": 30})
            self._keep("token", made["secret"])
        return str(self._done["token"])

    def _keep(self, name: str, value: Any) -> None:
        self._done[name] = value
        self._memory.touch(mode=0o600)
        new = self._memory.with_suffix(".new")
        new.touch(mode=0o600)
        new.write_text(json.dumps(self._done))
        new.replace(self._memory)

    def _pipeline(self, *, dataset: str, unique: str) -> dict[str, Any]:
        """Run examples/flights/pipeline.py on the server and wait for it."""
        path = example_folder() / "pipeline.py"
        spec = importlib.util.spec_from_file_location("pipeline", path)
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules["pipeline"] = module
        spec.loader.exec_module(module)
        run = module.flights.run({"dataset": dataset}, api=self.team, unique=unique, show=False)
        view: dict[str, Any] = self.team.get(f"/pipeline-runs/{run['id']}")["run"]
        return view | {"outputs": {name: output["value"] for name, output in view["outputs"].items()}}

    def _apply(self, name: str) -> None:
        """`noria apply -f examples/flights/NAME`."""
        from noria.client.declare import apply_file

        apply_file(self.team if name == "loop.yaml" else self.admin, example_folder() / name)

    def _weeks(self) -> int:
        return (END_MS - FEBRUARY_MS) // WEEK_MS

    def _play(self, week: int, *, commit: bool = True) -> dict[str, Any] | None:
        """One week: its traffic in half-days, its truths as they become known, its file of data; then let the loop act.

        Returns the latest turn. It is read once: one that begins a moment later is led on after the next week.
        """
        flights = self.flights.week(week, requests=self._requests)
        for part in _by_time(flights, HOUR_CHUNK_MS):
            self.replay.send(part)
        end_ms = FEBRUARY_MS + (week + 1) * WEEK_MS
        if commit:
            self.flights.export(self._files, f"2013-w{week + 5:02d}", end_ms - WEEK_MS, end_ms, end_ms)
            dataset("flights", api=self.team).commit(self._files, message=f"The week to {_date(end_ms)}")
        self._keep("week", week + 1)
        tally = self.replay.tally
        self._keep("sent", tally.sent)
        self._keep("lost", tally.lost)
        self._keep("per_s", tally.sent / max(tally.seconds, 0.001))
        self._keep("prediction", tally.prediction_id or self._done.get("prediction", ""))
        self._catch_up()
        turn = self._turn()
        if turn and turn["state"] in ("triggered", "training", "comparing", "awaiting_approval"):
            self._say(f"In the week to {_date(end_ms)} the monitor raised an alert; the loop begins to turn.", "/alerts")
            self._lead_to_canary(previous=0)
            turn = self._turn()
        return turn

    def _catch_up(self) -> None:
        """Wait until monitoring has read what was sent; the replay runs far ahead of real time."""
        tally, until_s = self.replay.tally, time.monotonic() + CATCH_UP_S
        sent, truths = tally.answered, tally.truths
        while time.monotonic() < until_s:
            windows = self.admin.get("/endpoints/flights/performance", metric="brier", window_s=YEAR_S)["items"]
            if sum(w["predictions"] for w in windows) >= sent and sum(w["count"] for w in windows) >= truths:
                return
            time.sleep(POLL_S)
        raise Unavailable("Monitoring does not keep up with the traffic.", hint="Look at the log of the server.")

    def _turns(self) -> list[dict[str, Any]]:
        try:
            return list(self.admin.get("/loops/flights")["turns"])
        except NotFound:
            return []

    def _turn(self) -> dict[str, Any] | None:
        """The latest turn."""
        turns = self._turns()
        return max(turns, key=lambda t: t["started_at_ms"]) if turns else None

    def _lead_to_canary(self, *, previous: int) -> None:
        """Wait for training and comparison, approve as the local admin, wait for the canary to be live."""
        until_s = time.monotonic() + TRAIN_S
        said: set[str] = set()
        while time.monotonic() < until_s:
            turn = self._turn() if len(self._turns()) > previous else None
            state = turn["state"] if turn else ""
            if turn and state == "awaiting_approval" and state not in said:
                said.add(state)
                self._approve(turn)
            if turn and state == "canary" and self._canary_is_live():
                self._say(
                    "It gets a quarter of the traffic; its answers are judged as their truth arrives.", "/endpoints/flights"
                )
                return
            if state in ("rejected", "failed", "stopped", "rolled_back", "promoted"):
                raise Unavailable(f"The loop's turn ended as {state}: {turn.get('reason', '') if turn else ''}")
            time.sleep(POLL_S)
        raise Unavailable("The loop did not reach its canary in time.", hint="Look at the page of the loop.")

    def _approve(self, turn: dict[str, Any]) -> None:
        for asked in self.admin.get("/approvals", state="pending")["items"]:
            self._say(f"The challenger won on the same holdout: {_why(turn)} The loop asks for approval.", "/approvals")
            with contextlib.suppress(Conflict):  # it was approved, but the answer was lost with the server
                self.admin.post(
                    f"/approvals/{asked['id']}/approve", {"comment": "The evidence is clear.", "digest": asked["digest"]}
                )
            self._say("The local admin approved it.", f"/approvals/{asked['id']}")

    def _canary_is_live(self) -> bool:
        canary = self.admin.get("/endpoints/flights").get("canary")
        return bool(canary and canary["state"] == "running")

    def _champion(self) -> int:
        aliases = self.admin.get("/models/flights")
        aliases = aliases.get("model", aliases)["aliases"]
        return next(int(a["version"]) for a in aliases if a["name"] == "champion")


def _by_time(flights: list[Any], span_ms: int) -> Iterator[list[Any]]:
    part: list[Any] = []
    for flight in flights:
        if part and flight.at_ms - part[0].at_ms >= span_ms:
            yield part
            part = []
        part.append(flight)
    if part:
        yield part


def _date(at_ms: int) -> str:
    return time.strftime("%B %-d", time.gmtime(at_ms / 1000))


def _why(turn: dict[str, Any]) -> str:
    return str(turn.get("reason") or "")
