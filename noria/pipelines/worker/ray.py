"""Ray: each try is a Ray job, submitted over HTTP to the cluster's dashboard.

Jobs and not tasks: the address is HTTP(S), so the worker needs neither Ray nor the cluster's Python; a runtime environment belongs to
each; and the step is a driver of its own, in which `ray.init()` finds the cluster: Ray Train and Tune work in a step as they are.
"""

from __future__ import annotations

import json
import shlex
from typing import Any

import httpx

from noria.kernel.errors import Invalid, Unavailable
from noria.pipelines.model.places import Place
from noria.pipelines.worker.attempt import Executor
from noria.pipelines.worker.executors import Setup
from noria.pipelines.worker.remote import Away, Job, Remote, State, broken

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
TIMEOUT_S = 20.0
ENDED = {"STOPPED": "it was stopped", "SUCCEEDED": "it came to its end", "FAILED": "it failed"}


class Ray:
    """A cluster, by the address of its dashboard."""

    name = "ray"

    def __init__(self, address: str, token: str, runtime_env: dict[str, Any]) -> None:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        self._address, self._runtime_env = address, runtime_env
        self._http = httpx.AsyncClient(base_url=address, headers=headers, timeout=TIMEOUT_S)

    async def open(self) -> None:
        try:
            answer = await self._ask("GET", "/api/jobs/")
        except Away as away:
            raise Unavailable(
                str(away), hint="NORIA_RAY_ADDRESS is the dashboard's address, such as http://ray-head:8265; is the head up?"
            ) from away
        if answer.status_code in (401, 403):
            raise Unavailable(
                f"Ray at {self._address} wants another token ({answer.status_code}).",
                hint="NORIA_RAY_TOKEN is the cluster's; `ray get-auth-token` shows it on the head.",
            )
        if not answer.is_success:
            raise Unavailable(
                f"{self._address} answers {answer.status_code}, which no Ray dashboard does: {answer.text[:200]}",
                hint="NORIA_RAY_ADDRESS is the dashboard's address, such as http://ray-head:8265.",
            )

    def place(self, job: Job) -> Place:
        known = {key: value for key, value in self._runtime_env.items() if key != "env_vars"}  # those may hold secrets
        details = {"address": self._address, **({"runtime_env": json.dumps(known)} if known else {})}
        return Place(executor=self.name, job=job.name, image=str(self._image()), details=details)

    async def submit(self, job: Job) -> str:
        body = {
            "submission_id": job.name, "entrypoint": shlex.join(job.command), "metadata": job.labels,
            "runtime_env": {**self._runtime_env, "env_vars": {**self._runtime_env.get("env_vars", {}), **job.env}},
            "entrypoint_num_cpus": job.cpu or 1, "entrypoint_num_gpus": job.gpu,
            **({"entrypoint_memory": job.memory_bytes} if job.memory_bytes else {}),
        }  # fmt: skip
        answer = await self._ask("POST", "/api/jobs/", json=body)
        if answer.is_success or "already" in answer.text:  # the answer to an earlier try was lost
            return job.name
        raise broken("Ray", answer.text.strip().splitlines()[-1][:1000] if answer.text.strip() else str(answer.status_code))

    async def find(self, name: str) -> str:
        return name  # `look` says whether it is there

    async def look(self, id: str) -> State:
        answer = await self._ask("GET", f"/api/jobs/{id}")
        if answer.status_code == 404:
            return State(phase="gone", why="Ray does not know it any more")
        if not answer.is_success:
            raise Away(f"Ray at {self._address} answers {answer.status_code}.")
        found = answer.json()
        said = " ".join(str(found.get("message") or "").split())[:500]
        if found["status"] in ENDED:
            code = found.get("driver_exit_code")
            return State(
                phase="ended", why=f"{ENDED[found['status']]}: {said}" if said else ENDED[found["status"]], exit_code=code
            )
        if found["status"] == "PENDING":
            return State(phase="waiting", why=f"Ray has not started it yet. {said}".strip())
        return State(phase="running")

    async def stop(self, id: str, *, at_once: bool) -> None:
        await self._ask("POST", f"/api/jobs/{id}/stop")  # Ray itself kills what does not go within seconds

    async def output(self, id: str) -> str:
        answer = await self._ask("GET", f"/api/jobs/{id}/logs")
        return str(answer.json().get("logs") or "") if answer.is_success else ""

    async def remove(self, id: str) -> None:
        await self._ask("DELETE", f"/api/jobs/{id}")

    async def close(self) -> None:
        await self._http.aclose()

    async def _ask(self, verb: str, path: str, **body: Any) -> httpx.Response:
        try:
            answer = await self._http.request(verb, path, **body)
        except httpx.HTTPError as error:
            raise Away(f"Ray at {self._address} cannot be reached ({type(error).__name__}).") from error
        if answer.status_code in (502, 503, 504):
            raise Away(f"Ray at {self._address} answers {answer.status_code}.")
        return answer

    def _image(self) -> Any:
        found = self._runtime_env.get("image_uri") or self._runtime_env.get("container", {})
        return found.get("image", "") if isinstance(found, dict) else found


def make(setup: Setup) -> Executor:
    """The cluster that the settings name. Raises Invalid."""
    text = setup.settings.get("NORIA_RAY_RUNTIME_ENV") or "{}"
    try:
        runtime_env = json.loads(text)
    except ValueError as cause:
        raise Invalid(f"NORIA_RAY_RUNTIME_ENV is not JSON: {cause}.", where="ray_runtime_env") from cause
    if not isinstance(runtime_env, dict):
        raise Invalid('NORIA_RAY_RUNTIME_ENV is an object, such as {"pip": ["noria"]}.', where="ray_runtime_env")
    address = (setup.settings.get("NORIA_RAY_ADDRESS") or DEFAULT_ADDRESS).rstrip("/")
    if not address.startswith(("http://", "https://")):
        raise Invalid(
            f"NORIA_RAY_ADDRESS is {address!r}; it is the dashboard's address, over HTTP.", where="ray_address",
            hint="Such as http://ray-head:8265. Ray's own port (ray://) speaks to the same version of Ray only.",
        )  # fmt: skip
    cluster = Ray(address, setup.settings.get("NORIA_RAY_TOKEN") or "", runtime_env)
    return Remote(setup.server, cluster, job_url=setup.job_url, python="python")
