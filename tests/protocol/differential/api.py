"""One server as the script sees it: sends a request, keeps the answer under its step, and forgets what no two servers share.

Ids become the names the script gave them, times `<time>`, page tokens `<token>`. Lists of tags, params and metrics are sorted by
key, since no order of theirs is promised; an empty list is the same as none, which protobuf's JSON leaves out. Sentences are
left out: clients act on the code, people read the sentence.
"""

from __future__ import annotations

from typing import Any

import httpx

TIMES = frozenset({
    "creation_time", "last_update_time", "creation_timestamp", "last_updated_timestamp", "creation_timestamp_ms",
    "last_updated_timestamp_ms",
})  # fmt: skip
SORTED = {
    "tags": "key",
    "params": "key",
    "metrics": "key",
    "latest_versions": "version",
    "events": "entity",
}  # lists whose order says nothing
LONG = 300  # a text of this length is shown by its length


class Api:
    """Plays requests and records `{step: (status, answer)}`."""

    def __init__(self, url: str) -> None:
        self.http = httpx.Client(base_url=url, timeout=60)
        self.answers: dict[str, tuple[int, Any]] = {}
        self._names: dict[str, str] = {}
        self._experiments: dict[str, str] = {}  # MLflow's ids of experiments are 1, 2, …: known by where they stand

    def known_as(self, value: Any, name: str) -> str:
        """Show `value`, an id that this server made, as `<name>`; gives it back."""
        self._names[str(value)] = f"<{name}>"
        return str(value)

    def experiment(self, value: Any, name: str) -> str:
        """The same for the id of an experiment."""
        self._experiments[str(value)] = f"<{name}>"
        return str(value)

    def get(self, step: str, path: str, /, **query: Any) -> Any:
        return self._send(step, "GET", path, params=query)

    def post(self, step: str, path: str, /, **body: Any) -> Any:
        return self._send(step, "POST", path, json=body)

    def patch(self, step: str, path: str, /, **body: Any) -> Any:
        return self._send(step, "PATCH", path, json=body)

    def delete(self, step: str, path: str, /, **body: Any) -> Any:
        return self._send(step, "DELETE", path, json=body)

    def send(self, step: str, method: str, path: str, /, **how: Any) -> Any:
        """Any request: `json`, `content`, `params`, `headers`."""
        return self._send(step, method, path, **how)

    def _send(self, step: str, method: str, path: str, **how: Any) -> Any:
        assert step not in self.answers, f"two steps are called {step!r}"
        full = path if path.startswith("/") else f"/api/2.0/mlflow/{path}"
        answer = self.http.request(method, full, **how)
        is_json = answer.headers.get("content-type", "").startswith("application/json")
        found = answer.json() if is_json else answer.text
        self.answers[step] = (answer.status_code, self._plain(found))
        return found

    def sort(self, step: str, name: str, by: str) -> None:
        """The list `name` of an answer has no order of its own."""
        self.answers[step][1].get(name, []).sort(key=lambda item: item[by])

    def _plain(self, found: Any, key: str = "") -> Any:
        if isinstance(found, dict):
            if "error_code" in found:
                return {"error_code": found["error_code"]}
            plain = {k: self._plain(v, k) for k, v in found.items()}
            return {k: v for k, v in plain.items() if v != []}
        if isinstance(found, list):
            items = [self._plain(item) for item in found]
            return sorted(items, key=lambda item: str(item.get(SORTED[key]))) if key in SORTED else items
        if key in TIMES and isinstance(found, int):
            return "<time>"
        if key == "next_page_token" and found:
            return "<token>"
        if not isinstance(found, str):
            return found
        return f"<{len(found)} characters>" if len(found) > LONG else self._named(found, key)

    def _named(self, text: str, key: str) -> str:
        if key == "experiment_id":
            return self._experiments.get(text, text)
        if text in self._names:
            return self._names[text]
        scheme, slash, rest = text.partition(":/")
        if scheme == "mlflow-artifacts" and slash:
            first, *more = rest.split("/")
            rest = "/".join([self._experiments.get(first, first), *(self._names.get(part, part) for part in more)])
        elif slash:
            rest = "/".join(self._names.get(part, part) for part in rest.split("/"))
        return scheme + slash + rest
