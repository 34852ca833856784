"""Kubernetes' own control plane (etcd, API server, controllers, scheduler) with one pretended node, whose pods are processes here.

The programs come from `scripts/kubernetes_control_plane.py`. The agent signs in as an account with the rights that the guide lists, and
no others.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import ssl
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from tests.pipelines.processes import ROOT, free_port, until

PROGRAMS = ROOT / ".venv" / "kubernetes"
ADMIN, AGENT = "token-of-the-admin", "token-of-the-agent"
RULES = [  # what docs/guides/executors.md says that an agent needs
    {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create", "get", "list", "delete"]},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "delete"]},
    {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
]


class RealControlPlane:
    """Runs from its making until `close`; `config` is the agent's kubeconfig."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._processes: list[subprocess.Popen[bytes]] = []
        self._node: Node | None = None
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        folder, etcd, port = self._folder, free_port(), free_port()
        url = f"http://127.0.0.1:{etcd}"
        self._start(
            "/usr/bin/etcd", f"--data-dir={folder}/etcd", f"--listen-client-urls={url}", f"--advertise-client-urls={url}",
            f"--listen-peer-urls=http://127.0.0.1:{free_port()}", "--unsafe-no-fsync",
        )  # fmt: skip
        key, certificate = certified(folder)
        (folder / "tokens.csv").write_text(f'{ADMIN},admin,1,"system:masters"\n{AGENT},agent,2,"agents"\n')
        self._start(
            str(PROGRAMS / "kube-apiserver"), f"--etcd-servers={url}", f"--secure-port={port}", "--bind-address=127.0.0.1",
            f"--tls-cert-file={certificate}", f"--tls-private-key-file={key}", f"--token-auth-file={folder}/tokens.csv",
            "--authorization-mode=RBAC", "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-signing-key-file={key}", f"--service-account-key-file={key}", "--service-cluster-ip-range=10.0.0.0/24",
            "--disable-admission-plugins=ServiceAccount", "--feature-gates=TTLAfterFinished=true",
            f"--kubelet-client-certificate={certificate}", f"--kubelet-client-key={key}",
        )  # fmt: skip
        self.url = f"https://127.0.0.1:{port}"
        admin, self.config = self._kubeconfig("admin", ADMIN), self._kubeconfig("agent", AGENT)
        self.api = httpx.Client(base_url=self.url, headers={"authorization": f"Bearer {ADMIN}"}, verify=False, timeout=10.0)
        until(self._is_up, patience_s=60.0)
        gates = "--feature-gates=TTLAfterFinished=true"
        self._start(
            str(PROGRAMS / "kube-controller-manager"), f"--kubeconfig={admin}", "--leader-elect=false", gates, "--port=0",
            f"--secure-port={free_port()}", "--bind-address=127.0.0.1",
            "--controllers=job,garbagecollector,podgc,namespace,ttl-after-finished",
        )  # fmt: skip
        self._start(
            str(PROGRAMS / "kube-scheduler"), f"--kubeconfig={admin}", "--leader-elect=false", "--port=0", f"--secure-port={free_port()}",
            "--bind-address=127.0.0.1",
        )  # fmt: skip
        self._make("/api/v1/namespaces", {"metadata": {"name": "ml"}})
        rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/ml"
        self._make(f"{rbac}/roles", {"metadata": {"name": "agent"}, "rules": RULES})
        self._make(f"{rbac}/rolebindings", {
            "metadata": {"name": "agent"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "agent"},
            "subjects": [{"kind": "User", "name": "agent", "apiGroup": "rbac.authorization.k8s.io"}],
        })  # fmt: skip
        self._node = Node(self.api, self._folder, key, certificate)

    def _start(self, *command: str) -> None:
        with (self._folder / f"{Path(command[0]).name}.log").open("wb") as output:
            self._processes.append(
                subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, cwd=self._folder)
            )

    def _is_up(self) -> bool:
        for process in self._processes:
            assert process.poll() is None, self.said()
        try:
            return self.api.get("/readyz").is_success
        except httpx.HTTPError:
            return False

    def _make(self, path: str, body: dict[str, Any]) -> None:
        answer = self.api.post(path, json=body)
        assert answer.is_success, answer.text

    def _kubeconfig(self, name: str, token: str) -> Path:
        path = self._folder / f"{name}.kubeconfig"
        path.write_text(yaml.safe_dump({
            "apiVersion": "v1", "kind": "Config", "current-context": "real",
            "clusters": [{"name": "c", "cluster": {"server": self.url, "insecure-skip-tls-verify": True}}],
            "users": [{"name": "u", "user": {"token": token}}],
            "contexts": [{"name": "real", "context": {"cluster": "c", "user": "u", "namespace": "ml"}}],
        }))  # fmt: skip
        return path

    def said(self) -> str:
        return "\n".join(f"== {path.name}\n{path.read_text()[-2000:]}" for path in self._folder.glob("*.log"))

    def kill_pods(self, reason: str) -> None:
        assert self._node
        self._node.kill_all(reason)

    def close(self) -> None:
        if self._node:
            self._node.close()
        for process in reversed(self._processes):
            process.terminate()
        for process in self._processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class Node:
    """A pretended kubelet: runs what the scheduler gives it, says what became of it, and serves logs."""

    name = "pretended"

    def __init__(self, api: httpx.Client, folder: Path, key: Path, certificate: Path) -> None:
        self._api, self._folder = api, folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._reasons: dict[str, str] = {}
        self._said: dict[str, str] = {}
        self._deadlines: dict[str, float] = {}
        self._stop = threading.Event()
        node = self

        class Logs(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                _, _, _, pod, _ = self.path.partition("?")[0].split("/")  # /containerLogs/ml/POD/step
                path = node._log(pod)
                body = path.read_bytes() if path.exists() else b""
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """A test prints nothing of it."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Logs)
        self._http.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        room = {"cpu": "64", "memory": "64Gi", "pods": "110"}
        self._api.post("/api/v1/nodes", json={"metadata": {"name": self.name}}).raise_for_status()
        self._patch(f"/api/v1/nodes/{self.name}/status", {"status": {
            "capacity": room, "allocatable": room, "conditions": [{"type": "Ready", "status": "True"}],
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self._http.server_port}},
        }})  # fmt: skip
        self._patch(f"/api/v1/nodes/{self.name}", {"spec": {"taints": []}})
        self._thread = threading.Thread(target=self._go_on, daemon=True)
        self._thread.start()

    def _go_on(self) -> None:
        while not self._stop.wait(0.1):
            try:
                pods = self._api.get("/api/v1/namespaces/ml/pods").json()["items"]
            except httpx.HTTPError:
                continue
            for pod in pods:
                if pod["spec"].get("nodeName") == self.name:
                    self._look_at(pod)

    def _look_at(self, pod: dict[str, Any]) -> None:
        name, image = pod["metadata"]["name"], pod["spec"]["containers"][0]["image"]
        process = self._running.get(name)
        if "deletionTimestamp" in pod["metadata"]:
            self._delete(pod, process)
        elif image != image.lower():
            self._say(
                name,
                "Pending",
                {"waiting": {"reason": "InvalidImageName", "message": f"Failed to apply default image tag {image!r}"}},
            )
        elif image.startswith("missing/"):
            self._say(
                name, "Pending", {"waiting": {"reason": "ImagePullBackOff", "message": f"Back-off pulling image {image!r}"}}
            )
        elif process is None:
            self._run(pod)
        elif process.poll() is not None:
            code = process.returncode
            reason = self._reasons.get(name) or ("Error" if code else "Completed")
            over = {
                "exitCode": 128 - code if code < 0 else code,
                "reason": reason,
                "finishedAt": _now(),
                "startedAt": _now(),
            }
            self._say(name, "Failed" if code else "Succeeded", {"terminated": over})
        elif (deadline := self._deadlines.get(name)) and time.monotonic() > deadline:
            self._reasons[name] = "DeadlineExceeded"
            process.kill()

    def _run(self, pod: dict[str, Any]) -> None:
        name, container = pod["metadata"]["name"], pod["spec"]["containers"][0]
        program, *args = container["command"]
        env = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "PYTHONPATH": str(ROOT)}
        env |= {each["name"]: each.get("value", "") for each in container.get("env", [])}
        command = [sys.executable if program.startswith("python") else program, *args]
        with self._log(name).open("wb") as log:
            self._running[name] = subprocess.Popen(
                command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/"
            )
        if seconds := pod["spec"].get("activeDeadlineSeconds"):
            self._deadlines[name] = time.monotonic() + seconds
        self._say(name, "Running", {"running": {"startedAt": _now()}})

    def _delete(self, pod: dict[str, Any], process: subprocess.Popen[bytes] | None) -> None:
        """SIGTERM, SIGKILL after the grace, and then the pod is gone."""
        name = pod["metadata"]["name"]
        if process and process.poll() is None:
            grace_s = float(pod["metadata"].get("deletionGracePeriodSeconds") or 0)
            if not grace_s or time.monotonic() > self._deadlines.setdefault(f"grace {name}", time.monotonic() + grace_s):
                process.kill()
            elif self._said.get(f"term {name}") is None:
                self._said[f"term {name}"] = "yes"
                process.send_signal(signal.SIGTERM)
            return
        self._api.request("DELETE", f"/api/v1/namespaces/ml/pods/{name}", content=json.dumps({"gracePeriodSeconds": 0}))

    def _say(self, pod: str, phase: str, state: dict[str, Any]) -> None:
        if self._said.get(pod) == json.dumps([phase, *state]):
            return
        status = {
            "phase": phase,
            "containerStatuses": [
                {"name": "step", "image": "x", "imageID": "", "ready": phase == "Running", "restartCount": 0, "state": state}
            ],
        }
        if self._patch(f"/api/v1/namespaces/ml/pods/{pod}/status", {"status": status}):
            self._said[pod] = json.dumps([phase, *state])

    def _patch(self, path: str, body: dict[str, Any]) -> bool:
        kind = {"content-type": "application/strategic-merge-patch+json"}
        return self._api.patch(path, content=json.dumps(body), headers=kind).is_success

    def _log(self, pod: str) -> Path:
        return self._folder / f"pod-{pod}.out"

    def kill_all(self, reason: str) -> None:
        for name, process in self._running.items():
            if process.poll() is None:
                self._reasons[name] = reason
                process.kill()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(10)
        self.kill_all("NodeLost")
        self._http.shutdown()
        self._http.server_close()


def certified(folder: Path) -> tuple[Path, Path]:
    """A key and a certificate that it signed itself, for 127.0.0.1."""
    import ipaddress

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"tests-{secrets.token_hex(4)}")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return folder / "key.pem", folder / "cert.pem"


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
