"""Stands in for a Kubernetes control plane and its one node: keeps Jobs and Pods, refuses what the API does not know, and runs the
command of a pod's container as a process of this machine.

What it knows of the API's fields comes from lightkube's models, which are made from Kubernetes' own description of it.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import subprocess
import sys
import threading
import types
import typing
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import yaml
from lightkube.models import batch_v1

from tests.pipelines.kubernetes_node import OF_PODS

ROOT = Path(__file__).parents[2]
CPUS = 64.0
GPUS = ("GPU-0", "GPU-1")  # as the device plugin of NVIDIA names them
GPU = "nvidia.com/gpu"
TOKEN = "token-of-the-standin"
_JOBS = re.compile(r"^/apis/batch/v1/namespaces/([^/]+)/jobs(?:/([^/]+))?\Z")
_PODS = re.compile(r"^/api/v1/namespaces/([^/]+)/pods(?:/([^/]+))?(/log)?\Z")


class Refused(Exception):
    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason = code, reason


def check(model: Any, body: Any, where: str) -> None:
    """Raises Refused for a field that there is not, or one that is missing, as the API server does with strict field validation."""
    origin, args = typing.get_origin(model), typing.get_args(model)
    if origin in (typing.Union, types.UnionType):
        check(next(arg for arg in args if arg is not type(None)), body, where)
    elif origin is list and isinstance(body, list):
        for index, item in enumerate(body):
            check(args[0], item, f"{where}[{index}]")
    elif isinstance(model, type) and issubclass(model, msgspec.Struct):
        if not isinstance(body, dict):
            raise Refused(400, "BadRequest", f"{where or 'the body'} must be an object")
        known = {field.encode_name: field for field in msgspec.structs.fields(model)}
        for name, value in body.items():
            if name not in known:
                raise Refused(400, "BadRequest", f'strict decoding error: unknown field "{where}.{name}"'.replace('".', '"'))
            check(known[name].type, value, f"{where}.{name}")
        for name, field in known.items():
            if field.required and name not in body:
                raise Refused(422, "Invalid", f"{where}.{name}: Required value".lstrip("."))
    elif model in (str, int, bool) and type(body) is not model:
        raise Refused(400, "BadRequest", f"{where.lstrip('.')}: {model.__name__} is needed")


class Pod:
    """A pod and the process that is its container."""

    def __init__(self, job: dict[str, Any], folder: Path, plane: ControlPlane) -> None:
        name = f"{job['metadata']['name']}-{secrets.token_hex(3)[:5]}"
        template = job["spec"]["template"]
        self.spec = template["spec"]
        self.container = self.spec["containers"][0]
        self.log = folder / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.reason = ""
        self._plane, self._gpus, self.is_over = plane, list[str](), False
        self.labels = {**template.get("metadata", {}).get("labels", {}), "job-name": job["metadata"]["name"]}
        self.name, self.made = name, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def start(self) -> None:
        if self.process or self.is_over or self.trouble() or self.has_no_room():
            return
        self._gpus = self._plane.free_gpus()[: self.gpus_count]
        program, *args = self.container["command"]
        command = [sys.executable if program.startswith("python") else program, *args]
        env = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "PYTHONPATH": str(ROOT)}
        env |= {each["name"]: each.get("value", "") for each in self.container.get("env", [])}
        env |= {"NVIDIA_VISIBLE_DEVICES": ",".join(self._gpus)} if self._gpus else {}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/"
            )
        if seconds := self.spec.get("activeDeadlineSeconds"):
            timer = threading.Timer(seconds, self.end, kwargs={"grace_s": 0.0, "reason": "DeadlineExceeded"})
            timer.daemon = True
            timer.start()

    def trouble(self) -> str:
        image = str(self.container.get("image", ""))
        if not image or image != image.lower():
            return "InvalidImageName"
        return "ImagePullBackOff" if image.startswith("missing/") else ""

    def has_no_room(self) -> bool:
        asked = float(self.container.get("resources", {}).get("requests", {}).get("cpu", 0))
        return asked > CPUS or (self.process is None and self.gpus_count > len(self._plane.free_gpus()))

    @property
    def gpus_count(self) -> int:
        return int(self.container.get("resources", {}).get("limits", {}).get(GPU, 0))

    @property
    def gpus(self) -> list[str]:
        """Those that it has now."""
        return self._gpus if self.process and self.process.poll() is None else []

    def end(self, *, grace_s: float, reason: str = "") -> None:
        self.is_over, process = True, self.process
        if process is None or process.poll() is not None:
            return
        self.reason = reason
        if grace_s:
            process.send_signal(signal.SIGTERM)
            threading.Thread(target=self._kill_after, args=(process, grace_s), daemon=True).start()
        else:
            process.kill()

    def _kill_after(self, process: subprocess.Popen[bytes], grace_s: float) -> None:
        try:
            process.wait(grace_s)
        except subprocess.TimeoutExpired:
            process.kill()

    def shown(self) -> dict[str, Any]:
        status: dict[str, Any] = {"phase": "Pending"}
        state: dict[str, Any] = {}
        code = self.process.poll() if self.process else None
        if trouble := self.trouble():
            state = {"waiting": {"reason": trouble, "message": f'Back-off pulling image "{self.container.get("image")}"'}}
        elif self.has_no_room():
            status["conditions"] = [{
                "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                "message": "0/1 nodes are available: 1 Insufficient cpu.",
            }]  # fmt: skip
        elif self.process and code is None:
            status["phase"], state = "Running", {"running": {"startedAt": self.made}}
        elif self.process:
            status["phase"] = "Failed" if code else "Succeeded"
            exit_code = 128 - code if code and code < 0 else code
            is_of_pod = self.reason in OF_PODS
            why = self.reason if self.reason and not is_of_pod else "Error" if code else "Completed"
            state = {"terminated": {"exitCode": exit_code, "reason": why}}
            if is_of_pod:
                status |= {"reason": self.reason, "message": OF_PODS[self.reason]}
        if state:
            status["containerStatuses"] = [{
                "name": self.container["name"], "image": self.container["image"], "imageID": "", "ready": False, "restartCount": 0,
                "state": state,
            }]  # fmt: skip
        meta = {"name": self.name, "labels": self.labels, "creationTimestamp": self.made}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": self.spec, "status": status}


class ControlPlane:
    """Serves until `close`; `config` is a kubeconfig for it."""

    def __init__(self, folder: Path) -> None:
        self.jobs: dict[tuple[str, str], dict[str, Any]] = {}
        self.pods: dict[str, Pod] = {}
        self.seen: list[dict[str, Any]] = []  # every job that was ever made
        self._folder, self._lock = folder, threading.RLock()
        folder.mkdir(parents=True, exist_ok=True)
        plane = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _do(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                try:
                    if self.headers.get("authorization") != f"Bearer {TOKEN}":
                        raise Refused(401, "Unauthorized", "Unauthorized")
                    code, found = 201 if self.command == "POST" else 200, plane.answer(self.command, self.path, body)
                except Refused as refused:
                    code, found = refused.code, {
                        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": refused.code, "reason": refused.reason,
                        "message": str(refused),
                    }  # fmt: skip
                sent = found.encode() if isinstance(found, str) else json.dumps(found).encode()
                self.send_response(code)
                self.send_header("content-type", "text/plain" if isinstance(found, str) else "application/json")
                self.send_header("content-length", str(len(sent)))
                self.end_headers()
                self.wfile.write(sent)

            do_GET = do_POST = do_DELETE = _do

            def log_message(self, *_: Any) -> None:
                """A test prints nothing of it."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self.config = folder / "kubeconfig"
        self.config.write_text(yaml.safe_dump({
            "apiVersion": "v1", "kind": "Config", "current-context": "standin",
            "clusters": [{"name": "c", "cluster": {"server": self.url}}],
            "users": [{"name": "u", "user": {"token": TOKEN}}],
            "contexts": [{"name": "standin", "context": {"cluster": "c", "user": "u", "namespace": "ml"}}],
        }))  # fmt: skip

    def answer(self, verb: str, path: str, body: bytes) -> dict[str, Any] | str:
        parts = urlsplit(path)
        asked = {key: values[0] for key, values in parse_qs(parts.query).items()}
        with self._lock:
            for pod in self.pods.values():  # those that waited for a GPU
                pod.start()
            if found := _JOBS.match(parts.path):
                return self._jobs(verb, found[1], found[2], body, asked)
            if found := _PODS.match(parts.path):
                return self._pods(verb, found[2], bool(found[3]), body, asked)
        raise Refused(404, "NotFound", f"the server could not find {parts.path}")

    def _jobs(self, verb: str, namespace: str, name: str | None, body: bytes, asked: dict[str, str]) -> dict[str, Any]:
        if namespace != "ml":
            raise Refused(403, "Forbidden", f'jobs.batch is forbidden in the namespace "{namespace}"')
        if verb == "POST":
            return self._make(namespace, json.loads(body))
        if name is None:
            return {"apiVersion": "batch/v1", "kind": "JobList", "metadata": {}, "items": list(self.jobs.values())}
        job = self.jobs.get((namespace, name))
        if job is None:
            raise Refused(404, "NotFound", f'jobs.batch "{name}" not found')
        if verb == "DELETE":
            del self.jobs[namespace, name]
            for pod in self._of(name):
                pod.end(grace_s=float(pod.spec.get("terminationGracePeriodSeconds", 30)))
            return {"kind": "Status", "apiVersion": "v1", "status": "Success"}
        pods = self._of(name)
        phase = pods[0].shown()["status"]["phase"] if pods else ""
        ended = {"Failed": ("Failed", "BackoffLimitExceeded"), "Succeeded": ("Complete", "")}.get(phase)
        conditions = [{"type": ended[0], "status": "True", "reason": ended[1]}] if ended else []
        return {**job, "status": {"conditions": conditions}}

    def _make(self, namespace: str, job: dict[str, Any]) -> dict[str, Any]:
        check(batch_v1.Job, job, "")
        name = job["metadata"]["name"]
        if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name):
            raise Refused(422, "Invalid", f'metadata.name: Invalid value: "{name}"')
        for value in job["metadata"].get("labels", {}).values():
            if not re.fullmatch(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?", value):
                raise Refused(422, "Invalid", f'metadata.labels: Invalid value: "{value}"')
        if job["spec"]["template"]["spec"].get("restartPolicy") not in ("Never", "OnFailure"):
            raise Refused(422, "Invalid", "spec.template.spec.restartPolicy: Required value")
        if (namespace, name) in self.jobs:
            raise Refused(409, "AlreadyExists", f'jobs.batch "{name}" already exists')
        self.jobs[namespace, name] = job
        self.seen.append(job)
        pod = Pod(job, self._folder, self)
        self.pods[pod.name] = pod
        pod.start()
        return job

    def _pods(self, verb: str, name: str | None, is_log: bool, body: bytes, asked: dict[str, str]) -> dict[str, Any] | str:
        if name is None:
            wanted = dict(pair.split("=", 1) for pair in asked.get("labelSelector", "").split(",") if "=" in pair)
            found = [pod for pod in self.pods.values() if wanted.items() <= pod.labels.items()]
            return {"apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": [pod.shown() for pod in found]}
        pod = self.pods.get(name)
        if pod is None:
            raise Refused(404, "NotFound", f'pods "{name}" not found')
        if is_log:
            if not pod.log.exists():
                raise Refused(400, "BadRequest", f'container "step" in pod "{name}" is waiting to start')
            return "\n".join(pod.log.read_text().splitlines()[-int(asked.get("tailLines", 1000)) :]) + "\n"
        if verb == "DELETE":
            options = json.loads(body) if body else {}
            pod.end(grace_s=float(options.get("gracePeriodSeconds", 30)))
            if pod.process is None or pod.process.poll() is not None:
                del self.pods[name]
        return pod.shown()

    def _of(self, job: str) -> list[Pod]:
        return [pod for pod in self.pods.values() if pod.labels["job-name"] == job]

    def free_gpus(self) -> list[str]:
        taken = {gpu for pod in self.pods.values() for gpu in pod.gpus}
        return [gpu for gpu in GPUS if gpu not in taken]

    def kill_pods(self, reason: str) -> None:
        """A node that goes, or a kernel that takes memory back: every container ends at once."""
        for pod in self.pods.values():
            pod.end(grace_s=0.0, reason=reason)

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        for pod in self.pods.values():
            pod.end(grace_s=0.0)
            if pod.process:
                pod.process.wait(10)
