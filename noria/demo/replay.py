"""Traffic from a table: predictions in event time, and the truth when it would have been known.

Requests go over a few kept-open connections from threads: several hundred a second from one process. A request that fails is
tried again until its deadline; what stays unanswered is counted, and the demo says so.
"""

from __future__ import annotations

import http.client
import json
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct

CONNECTIONS = 8
DEADLINE_S = 60.0  # how long one request may be tried again while the server is away
TRUTH_BATCH = 500


class Flight(Struct, frozen=True):
    """One event: what is asked at `at_ms`, and the truth that is known at `truth_at_ms`."""

    key: str
    at_ms: int
    truth_at_ms: int
    features: tuple[float, ...]
    truth: int


class Tally(Struct):
    """What happened to the requests."""

    sent: int = 0
    answered: int = 0
    retried: int = 0
    lost: int = 0
    truths: int = 0
    by_model: dict[str, int] = {}
    prediction_id: str = ""  # of the first flight of the last part: its truth comes within the week
    seconds: float = 0.0


class Replay:
    """Sends flights to an endpoint, in order of time, and the truth as it becomes known."""

    def __init__(self, gateway_url: str, endpoint: str, columns: Sequence[str], *, token: str = "") -> None:
        self._place = urlsplit(gateway_url)
        self._endpoint = endpoint
        self._columns = list(columns)
        self._headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})
        self._waiting: list[Flight] = []  # predicted, truth not yet known
        self._first: Flight | None = None
        self.tally = Tally()
        self._lock = threading.Lock()

    def send(self, flights: Sequence[Flight]) -> None:
        """Predict for `flights`, then deliver every truth that is known by the last of them."""
        began_s = time.monotonic()
        self._first = flights[0] if flights else None
        work: queue.SimpleQueue[Flight | None] = queue.SimpleQueue()
        for flight in flights:
            work.put(flight)
        threads = [threading.Thread(target=self._predict, args=(work,), daemon=True) for _ in range(CONNECTIONS)]
        for thread in threads:
            work.put(None)
            thread.start()
        for thread in threads:
            thread.join()
        self._waiting.extend(flights)
        if flights:
            self.tell_truth(flights[-1].at_ms)
        self.tally.seconds += time.monotonic() - began_s

    def tell_truth(self, now_ms: int) -> int:
        """Deliver the truth of every earlier flight that has landed by `now_ms`; returns how many."""
        known = [f for f in self._waiting if f.truth_at_ms <= now_ms]
        self._waiting = [f for f in self._waiting if f.truth_at_ms > now_ms]
        connection = self._connect()
        for batch in _batches(sorted(known, key=lambda f: f.truth_at_ms), TRUTH_BATCH):
            items = [{"key": f.key, "value": f.truth, "at_ms": f.truth_at_ms} for f in batch]
            body = json.dumps({"items": items}).encode()
            answer = self._ask(connection, f"/endpoints/{self._endpoint}/truth", body, {})
            if answer is not None:
                self.tally.truths += len(items)
        connection.close()
        return len(known)

    def _predict(self, work: queue.SimpleQueue[Flight | None]) -> None:
        connection = self._connect()
        path = f"/v2/models/{self._endpoint}/infer"
        while (flight := work.get()) is not None:
            inputs = [
                {"name": name, "shape": [1], "datatype": "FP64", "data": [value]}
                for name, value in zip(self._columns, flight.features, strict=True)
            ]
            headers = {"x-noria-key": flight.key, "x-noria-event-at-ms": str(flight.at_ms)}
            answer = self._ask(connection, path, json.dumps({"inputs": inputs}).encode(), headers)
            with self._lock:
                self.tally.sent += 1
                if answer is None:
                    self.tally.lost += 1
                    continue
                self.tally.answered += 1
                model = answer.get("x-noria-model", "?")
                self.tally.by_model[model] = self.tally.by_model.get(model, 0) + 1
                if flight is self._first:
                    self.tally.prediction_id = answer.get("x-noria-prediction-id", "")
        connection.close()

    def _ask(self, connection: http.client.HTTPConnection, path: str, body: bytes, headers: dict[str, str]) -> Any:
        """The answer's headers, or None when there was no good answer before the deadline."""
        until_s = time.monotonic() + DEADLINE_S
        while time.monotonic() < until_s:
            try:
                connection.request("POST", path, body=body, headers=self._headers | headers)
                answer = connection.getresponse()
                answer.read()
                if answer.status < 300:
                    return {k.lower(): v for k, v in answer.getheaders()}
                if answer.status not in (429, 500, 502, 503, 504):
                    return None
                pause_s = 0.05
            except (OSError, http.client.HTTPException):
                connection.close()
                pause_s = 0.2
            with self._lock:
                self.tally.retried += 1
            time.sleep(pause_s)
        return None

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self._place.hostname or "127.0.0.1", self._place.port, timeout=30)


def _batches(items: Sequence[Flight], size: int) -> Iterator[Sequence[Flight]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
