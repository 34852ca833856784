"""A pretended node: does what a kubelet does of it, with processes of this machine as containers.

Runs what the scheduler gives it, says what became of it as a kubelet says it, keeps deadlines and grace, gives out GPUs as a device plugin
does, serves logs to the API server, and gives a sign of life each second.
"""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx

from tests.pipelines.processes import ROOT

LOOK_S = 0.1
BEAT_S = 1.0
GPU = "nvidia.com/gpu"
OF_PODS = {  # what a kubelet ends a pod for; of the container it only says that it was killed
    "Evicted": "The node was low on resource: memory.",
    "DeadlineExceeded": "Pod was active on the node longer than the specified deadline",
}


class Container:
    """A pod's one container, running or over."""

    def __init__(self, pod: dict[str, Any], log: Path, gpus: list[str]) -> None:
        spec = pod["spec"]
        container = spec["containers"][0]
        self.name, self.image, self.log = container["name"], container["image"], log
        self.reason, self._gpus = "", gpus
        self._kill_at_s: float | None = None
        program, *args = container["command"]
        command = [sys.executable if program.startswith("python") else program, *args]
        env = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "PYTHONPATH": str(ROOT)}
        env |= {each["name"]: each.get("value", "") for each in container.get("env", [])}
        env |= {"NVIDIA_VISIBLE_DEVICES": ",".join(gpus)} if gpus else {}
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, cwd="/"
            )
        self.began = _now()
        seconds = spec.get("activeDeadlineSeconds")
        self._deadline_s = time.monotonic() + seconds if seconds else None

    @property
    def gpus(self) -> list[str]:
        """Those that it has now."""
        return self._gpus if self.process.poll() is None else []

    def kill(self, reason: str) -> None:
        if self.process.poll() is None:
            self.reason = self.reason or reason
            self.process.kill()
            self.process.wait()

    def keep_time(self) -> None:
        """End it when it is due."""
        now_s = time.monotonic()
        if self._deadline_s is not None and now_s > self._deadline_s:
            self.kill("DeadlineExceeded")
        if self._kill_at_s is not None and now_s > self._kill_at_s:
            self.kill("Error")

    def end(self, grace_s: float) -> None:
        """SIGTERM once, SIGKILL after the grace."""
        if self._kill_at_s is None:
            self._kill_at_s = time.monotonic() + grace_s
            self.process.send_signal(signal.SIGTERM)

    def status(self) -> dict[str, Any]:
        code = self.process.poll()
        if code is None:
            return self._said("Running", {"running": {"startedAt": self.began}})
        exit_code = 128 - code if code < 0 else code
        reason = self.reason if self.reason and self.reason not in OF_PODS else "Error" if code else "Completed"
        over = {"exitCode": exit_code, "reason": reason, "startedAt": self.began, "finishedAt": _now()}
        said = self._said("Failed" if code else "Succeeded", {"terminated": over})
        if self.reason in OF_PODS:
            said |= {"reason": self.reason, "message": OF_PODS[self.reason]}
        return said

    def _said(self, phase: str, state: dict[str, Any]) -> dict[str, Any]:
        return {"phase": phase, "containerStatuses": [_container(self.name, self.image, state, is_ready=phase == "Running")]}


class Node:
    """Lives from its making until `vanish`."""

    def __init__(
        self, name: str, api: httpx.Client, folder: Path, *, key: Path, certificate: Path, gpus: tuple[str, ...]
    ) -> None:
        self.name, self.containers = name, dict[str, Container]()
        self._api, self._folder, self._gpus = api, folder, gpus
        self._said: dict[str, tuple[str, ...]] = {}
        self._gone = threading.Event()
        self._http = _logs(self, key, certificate)
        api.post(
            "/api/v1/nodes", json={"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}}
        ).raise_for_status()
        self._beat()
        self._threads = [
            threading.Thread(target=self._repeat, args=each, daemon=True)
            for each in ((self._look, LOOK_S), (self._beat, BEAT_S))
        ]
        for thread in self._threads:
            thread.start()

    def _repeat(self, work: Callable[[], None], every_s: float) -> None:
        while not self._gone.wait(every_s):
            try:
                work()
            except httpx.HTTPError:
                continue  # as a kubelet does: it asks again

    def _beat(self) -> None:
        room = {"cpu": "64", "memory": "64Gi", "pods": "110", GPU: str(len(self._gpus))}
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": _now()}
        self._patch(f"/api/v1/nodes/{self.name}/status", {
            "capacity": room, "allocatable": room, "conditions": [ready],
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self._http.server_port}},
        })  # fmt: skip

    def _look(self) -> None:
        answer = self._api.get("/api/v1/pods", params={"fieldSelector": f"spec.nodeName={self.name}"})
        answer.raise_for_status()
        pods = {pod["metadata"]["name"]: pod for pod in answer.json()["items"]}
        for name, container in self.containers.items():
            if name not in pods:  # deleted without grace: it is to go at once, before another gets what it had
                container.kill("Error")
        for name, pod in pods.items():
            self._mind(name, pod)

    def _mind(self, name: str, pod: dict[str, Any]) -> None:
        container, (asked, *_) = self.containers.get(name), pod["spec"]["containers"]
        if "deletionTimestamp" in pod["metadata"]:
            self._let_go(name, pod, container)
        elif asked["image"] != asked["image"].lower():
            self._wait(name, asked, "InvalidImageName", f"Failed to apply default image tag {asked['image']!r}")
        elif asked["image"].startswith("missing/"):
            self._wait(name, asked, "ImagePullBackOff", f"Back-off pulling image {asked['image']!r}")
        elif container:
            container.keep_time()
            self._say(name, container.status())
        else:
            taken = {gpu for each in self.containers.values() for gpu in each.gpus}
            free = [gpu for gpu in self._gpus if gpu not in taken]
            count = int(asked.get("resources", {}).get("limits", {}).get(GPU, 0))
            if count <= len(free):
                made = self.containers[name] = Container(pod, self._folder / f"pod-{name}.out", free[:count])
                self._say(name, made.status())

    def _let_go(self, name: str, pod: dict[str, Any], container: Container | None) -> None:
        """What was deleted with grace gets SIGTERM and that time, and then the kubelet removes the pod."""
        if container and container.process.poll() is None:
            container.end(float(pod["metadata"].get("deletionGracePeriodSeconds") or 0))
            container.keep_time()
        else:
            if container:
                self._say(name, container.status())
            body = json.dumps({"gracePeriodSeconds": 0})
            path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{name}"
            self._api.request("DELETE", path, content=body, headers={"content-type": "application/json"})

    def _wait(self, name: str, asked: dict[str, Any], reason: str, message: str) -> None:
        state = {"waiting": {"reason": reason, "message": message}}
        self._say(
            name,
            {
                "phase": "Pending",
                "containerStatuses": [_container(asked["name"], asked["image"], state, is_ready=False)],
            },
        )

    def _say(self, name: str, status: dict[str, Any]) -> None:
        (container,) = status["containerStatuses"]
        news = (status["phase"], *container["state"])
        if self._said.get(name) != news and self._patch(f"/api/v1/namespaces/ml/pods/{name}/status", status):
            self._said[name] = news

    def _patch(self, path: str, status: dict[str, Any]) -> bool:
        kind = {"content-type": "application/strategic-merge-patch+json"}
        return self._api.patch(path, content=json.dumps({"status": status}), headers=kind).is_success

    def set_closed(self, is_closed: bool) -> None:
        """Whether the scheduler gives it anything more, as `kubectl cordon` says it."""
        kind = {"content-type": "application/strategic-merge-patch+json"}
        body = json.dumps({"spec": {"unschedulable": is_closed}})
        self._api.patch(f"/api/v1/nodes/{self.name}", content=body, headers=kind).raise_for_status()

    def kill_pods(self, reason: str) -> None:
        for container in list(self.containers.values()):
            container.kill(reason)

    def vanish(self) -> None:
        """The power goes: nothing runs on, and nobody says so."""
        if self._gone.is_set():
            return
        self._gone.set()
        for thread in self._threads:
            thread.join(30)
        self.kill_pods("Error")
        self._http.shutdown()
        self._http.server_close()


def _logs(node: Node, key: Path, certificate: Path) -> ThreadingHTTPServer:
    """What the API server asks a kubelet for the output of containers."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            pod = parts.path.split("/")[3]  # /containerLogs/NAMESPACE/POD/CONTAINER
            container = node.containers.get(pod)
            if container is None:
                self.send_error(400, f'container "step" in pod "{pod}" is waiting to start')
                return
            count = int(parse_qs(parts.query).get("tailLines", ["1000"])[0])
            body = b"".join(container.log.read_bytes().splitlines(keepends=True)[-count:])
            self.send_response(200)
            self.send_header("content-type", "text/plain")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """A test prints nothing of it."""

    served = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.daemon_threads = True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    served.socket = context.wrap_socket(served.socket, server_side=True)
    threading.Thread(target=served.serve_forever, daemon=True).start()
    return served


def _container(name: str, image: str, state: dict[str, Any], *, is_ready: bool) -> dict[str, Any]:
    return {"name": name, "image": image, "imageID": "", "ready": is_ready, "restartCount": 0, "state": state}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
