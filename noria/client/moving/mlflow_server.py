"""An MLflow server as a source: read over its REST API, files through the server, so that no bucket's keys are needed here."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

import httpx
import stamina

from noria.client.moving import mlflow_words as words
from noria.client.moving.model import Experiment, File, Model, Number, Registered, Run, Trace, Version
from noria.kernel.errors import Forbidden, Invalid, NoriaError, NotFound, Unauthenticated, Unavailable

RUNS_PER_PAGE, POINTS_PER_PAGE, MODELS_PER_PAGE, TRACES_PER_PAGE = 100, 25_000, 100, 100
PATIENCE_S = 30.0  # a server that does not answer is asked again for so long
TIMEOUT_S = 120.0
CHUNK_BYTES = 1 << 20
PROMPTS = f"tags.`{words.PROMPT_TAG}` = 'true'"
V2, V3 = "/api/2.0/mlflow", "/api/3.0/mlflow"


class MlflowServer:
    """See `Source`. Credentials as MLflow's client takes them: MLFLOW_TRACKING_USERNAME and _PASSWORD, or _TOKEN."""

    @staticmethod
    def number(value: Any) -> float:
        """What a value of its JSON means."""
        return words.number(value)

    def __init__(self, url: str, *, http: httpx.Client | None = None) -> None:
        self.label = re.sub(r"//[^/@]*@", "//", url).rstrip("/")  # without a password
        self._http = http or _client(url)
        self._knock()

    def _knock(self) -> None:
        """Ask whether an MLflow is there at all. Raises Unavailable, Invalid, Unauthenticated, Forbidden."""
        try:
            self._ask("POST", f"{V2}/experiments/search", patience_s=0, json={"max_results": 1}).json()
        except (NotFound, ValueError) as cause:
            raise Invalid(
                f"What answers at {self.label} is no MLflow.", where="source",
                hint="Give the URL that MLFLOW_TRACKING_URI has, such as http://host:5000.",
            ) from cause  # fmt: skip

    def experiments(self) -> Iterator[Experiment]:
        yield from map(
            words.experiment,
            self._pages(f"{V2}/experiments/search", "experiments", {"view_type": "ALL", "max_results": 1000}),
        )

    def runs(self, experiment: Experiment) -> Iterator[Run]:
        asked = {
            "experiment_ids": [experiment.id], "run_view_type": "ALL", "max_results": RUNS_PER_PAGE,
            "order_by": ["attributes.start_time ASC"],
        }  # fmt: skip
        yield from map(words.run, self._pages(f"{V2}/runs/search", "runs", asked))

    def numbers(self, run: Run) -> Iterator[Number]:
        for key in run.keys:
            token = None
            while True:
                asked = {"run_id": run.id, "metric_key": key, "max_results": POINTS_PER_PAGE, "page_token": token}
                page = self._get(f"{V2}/metrics/get-history", asked)
                for found in page.get("metrics") or []:
                    yield words.point(key, found, self.number)
                token = page.get("next_page_token")
                if not token:
                    break

    def logged_models(self, experiment: Experiment) -> Iterator[Model]:
        asked = {"experiment_ids": [experiment.id], "max_results": MODELS_PER_PAGE}
        try:
            yield from map(self._logged_model, self._pages(f"{V2}/logged-models/search", "models", asked))
        except NotFound:
            return  # before MLflow 3 there were none

    def _logged_model(self, found: dict[str, Any]) -> Model:
        return words.logged_model(found, self.number)

    def registered(self) -> Iterator[Registered]:
        for asked in ({}, {"filter": PROMPTS}):  # prompts are found only when they are asked for
            for found in self._listed(f"{V2}/registered-models/search", "registered_models", {"max_results": 100, **asked}):
                yield words.registered(found)

    def versions(self) -> Iterator[Version]:
        found: dict[tuple[str, int], Version] = {}
        for asked in ({}, {"filter": PROMPTS}):
            for item in self._listed(f"{V2}/model-versions/search", "model_versions", {"max_results": 1000, **asked}):
                version = words.version(item)
                found[version.model, version.number] = version
        yield from sorted(found.values(), key=lambda v: (v.created_at_ms, v.number))

    def files(self, owner: Run | Model) -> Iterator[File]:
        waiting = [""]
        while waiting:
            folder = waiting.pop()
            for found in self._folder(owner, folder):
                if found.get("is_dir"):
                    waiting.append(found["path"])
                else:
                    yield File(found["path"], int(found.get("file_size") or 0))

    def _folder(self, owner: Run | Model, folder: str) -> list[dict[str, Any]]:
        if isinstance(owner, Run):
            found = self._get(f"{V2}/artifacts/list", {"run_id": owner.id, "path": folder or None})
        else:
            asked = {"artifact_directory_path": folder or None}
            found = self._get(f"{V2}/logged-models/{owner.id}/artifacts/directories", asked)
        listed: list[dict[str, Any]] = found.get("files") or []
        return listed

    def read(self, owner: Run | Model, path: str) -> Iterator[bytes]:
        if isinstance(owner, Run):
            url, asked = "/get-artifact", {"run_id": owner.id, "path": path}
        else:
            url, asked = f"/ajax-api/2.0/mlflow/logged-models/{owner.id}/artifacts/files", {"artifact_file_path": path}
        try:
            with self._http.stream("GET", url, params=asked) as answer:
                if answer.is_error:
                    answer.read()
                    raise self._error(answer)
                yield from answer.iter_bytes(CHUNK_BYTES)
        except httpx.TransportError as cause:
            raise self._silent(cause) from cause

    def log(self, run: Run) -> Iterator[str]:
        return iter(())  # MLflow keeps none

    def traces(self, experiment: Experiment) -> Iterator[Trace]:
        asked = {
            "locations": [{"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": experiment.id}}],
            "max_results": TRACES_PER_PAGE,
        }  # fmt: skip
        try:
            for info in self._pages(f"{V3}/traces/search", "traces", asked):
                yield Trace(id=info["trace_id"], info=info, spans=self._spans(info["trace_id"]))
        except NotFound:
            return  # before MLflow 3 they had another form

    def _spans(self, trace_id: str) -> bytes:
        try:
            return self._ask("GET", "/ajax-api/3.0/mlflow/get-trace-artifact", params={"request_id": trace_id}).content
        except NotFound:
            return b""  # its spans were never written

    def close(self) -> None:
        self._http.close()

    # --- asking -------------------------------------------------------------------------------------------------------

    def _pages(self, url: str, name: str, asked: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Every item of a list that is asked for with POST."""
        token = None
        while True:
            page = self._post(url, asked | ({"page_token": token} if token else {}))
            yield from page.get(name) or []
            token = page.get("next_page_token")
            if not token:
                return

    def _listed(self, url: str, name: str, asked: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Every item of a list that is asked for with GET."""
        token = None
        while True:
            page = self._get(url, asked | {"page_token": token})
            yield from page.get(name) or []
            token = page.get("next_page_token")
            if not token:
                return

    def _get(self, url: str, asked: dict[str, Any]) -> dict[str, Any]:
        answer = self._ask("GET", url, params={k: v for k, v in asked.items() if v is not None})
        found: dict[str, Any] = answer.json()
        return found

    def _post(self, url: str, body: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = self._ask("POST", url, json=body).json()
        return found

    def _ask(self, method: str, url: str, *, patience_s: float = PATIENCE_S, **options: Any) -> httpx.Response:
        """A request, asked again while the server does not answer. Raises what `_error` gives, Unavailable."""
        attempts = None if patience_s else 1
        try:
            for attempt in stamina.retry_context(
                on=httpx.TransportError, timeout=patience_s or None, attempts=attempts, wait_max=3.0
            ):
                with attempt:
                    answer = self._http.request(method, url, **options)
                    if answer.status_code in (429, 502, 503, 504):
                        raise httpx.TransportError(f"{answer.status_code}")
        except httpx.TransportError as cause:
            raise self._silent(cause) from cause
        if answer.is_error:
            raise self._error(answer)
        return answer

    def _silent(self, cause: httpx.TransportError) -> Unavailable:
        return Unavailable(
            f"No MLflow answers at {self.label} ({type(cause).__name__}).",
            hint="Is the address right, and does the server run?",
        )

    def _error(self, answer: httpx.Response) -> NoriaError:
        try:
            said = str(answer.json()["message"])
        except (ValueError, KeyError, TypeError):
            said = answer.text[:200].strip()
        if answer.status_code == 401:
            return Unauthenticated(
                f"{self.label} wants to know who you are.",
                hint="Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN.",
            )
        if answer.status_code == 403:
            return Forbidden(f"{self.label} does not let this account read everything: {said}")
        kind = NotFound if answer.status_code == 404 else Invalid if answer.status_code < 500 else Unavailable
        return kind(f"{self.label} answered {answer.status_code}: {said}")


def _client(url: str) -> httpx.Client:
    env = os.environ
    user, password, token = (env.get(f"MLFLOW_TRACKING_{n}", "") for n in ("USERNAME", "PASSWORD", "TOKEN"))
    return httpx.Client(
        base_url=url.rstrip("/"), timeout=TIMEOUT_S, follow_redirects=True, auth=(user, password) if user else None,
        headers={"authorization": f"Bearer {token}"} if token and not user else {},
        verify=env.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() not in ("true", "1"),
    )  # fmt: skip
