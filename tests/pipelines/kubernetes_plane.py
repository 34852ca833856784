"""Kubernetes' own control plane on loopback: etcd, API server, controllers, scheduler, and pretended nodes whose pods are processes here.

The programs are those that `scripts/kubernetes_control_plane.py` builds. The agent signs in as an account with the rights that the
guide lists and no others, and speaks TLS to a certificate that it checks.
"""

from __future__ import annotations

import ipaddress
import json
import ssl
import subprocess
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.pipelines.kubernetes_node import Container, Node
from tests.pipelines.processes import ROOT, free_port, until

PROGRAMS = ROOT / ".venv" / "kubernetes"
ETCD = Path("/usr/bin/etcd")
ADMIN, AGENT = "token-of-the-admin", "token-of-the-agent"
RULES = [  # what docs/guides/executors.md says that an agent needs
    {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create", "get", "list", "delete"]},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "delete"]},
    {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
]
RBAC = "/apis/rbac.authorization.k8s.io/v1/namespaces/ml"
JOBS = "/apis/batch/v1/namespaces/ml/jobs"
SILENT_S = 20  # how long a node may say nothing; Kubernetes' own 40 s would only make the test longer
START_S = 90.0


class KubernetesPlane:
    """Runs from its making until `close`; `config` is the agent's kubeconfig. Without nodes it is an API server alone."""

    def __init__(self, folder: Path, *, has_nodes: bool = True) -> None:
        self.seen: list[dict[str, Any]] = []  # every job that was ever made, as the API server keeps it
        self.nodes: dict[str, Node] = {}
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._processes: list[subprocess.Popen[bytes]] = []
        try:
            self._begin()
            if has_nodes:
                self._populate()
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        folder, port = self._folder, free_port()
        store = f"http://127.0.0.1:{free_port()}"
        self._start(
            ETCD, f"--data-dir={folder}/etcd", f"--listen-client-urls={store}", f"--advertise-client-urls={store}",
            f"--listen-peer-urls=http://127.0.0.1:{free_port()}", "--unsafe-no-fsync",
        )  # fmt: skip
        self._authority, self._certificate, self._key = certified(folder)
        self._trust = ssl.create_default_context(cafile=self._authority)
        (folder / "tokens.csv").write_text(f'{ADMIN},admin,1,"system:masters"\n{AGENT},agent,2,"agents"\n')
        self._start(
            PROGRAMS / "kube-apiserver", f"--etcd-servers={store}", f"--secure-port={port}", "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none", "--service-cluster-ip-range=10.0.0.0/24",
            f"--tls-cert-file={self._certificate}", f"--tls-private-key-file={self._key}", f"--cert-dir={folder}",
            f"--token-auth-file={folder}/tokens.csv", "--authorization-mode=RBAC",
            "--feature-gates=TTLAfterFinished=true",
            "--service-account-issuer=https://kubernetes.default.svc", f"--service-account-signing-key-file={self._key}",
            f"--service-account-key-file={self._key}", "--disable-admission-plugins=ServiceAccount",
            f"--kubelet-client-certificate={self._certificate}", f"--kubelet-client-key={self._key}",
            f"--kubelet-certificate-authority={self._authority}", "--default-unreachable-toleration-seconds=1",
            "--default-not-ready-toleration-seconds=1",
        )  # fmt: skip
        self.url = f"https://127.0.0.1:{port}"
        self._admin, self.config = self._kubeconfig("admin", ADMIN), self._kubeconfig("agent", AGENT)
        self.api = self.client()
        until(self._is_up, patience_s=START_S)

    def _populate(self) -> None:
        for name, more in (
            ("kube-controller-manager", [
                "--controllers=job,garbagecollector,podgc,namespace,ttl-after-finished,nodelifecycle", "--node-monitor-period=1s",
                f"--node-monitor-grace-period={SILENT_S}s", "--feature-gates=TTLAfterFinished=true",
            ]),
            ("kube-scheduler", []),
        ):  # fmt: skip
            serving = ["--leader-elect=false", "--port=0", f"--secure-port={free_port()}", "--bind-address=127.0.0.1"]
            self._start(PROGRAMS / name, f"--kubeconfig={self._admin}", f"--cert-dir={self._folder}", *serving, *more)
        self.make("/api/v1/namespaces", {"metadata": {"name": "ml"}})
        self.make(f"{RBAC}/roles", {"metadata": {"name": "agent"}, "rules": RULES})
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "agent"}
        who = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "agent"}
        self.make(f"{RBAC}/rolebindings", {"metadata": {"name": "agent"}, "roleRef": role, "subjects": [who]})
        threading.Thread(target=self._watch, daemon=True).start()
        self.add_node("steady", gpus=("GPU-0", "GPU-1"))

    def add_node(self, name: str, *, gpus: tuple[str, ...] = ()) -> Node:
        """A node that is ready."""
        self.nodes[name] = node = Node(
            name, self.client(), self._folder, key=self._key, certificate=self._certificate, gpus=gpus
        )
        until(lambda: not self.get(f"/api/v1/nodes/{name}")["spec"].get("taints"), patience_s=START_S)
        return node

    def client(self) -> httpx.Client:
        """One for the administrator."""
        return httpx.Client(
            base_url=self.url, headers={"authorization": f"Bearer {ADMIN}"}, verify=self._trust, timeout=20.0
        )

    def _start(self, program: Path, *options: str) -> None:
        assert program.is_file(), f"{program} is not there: make test-kubernetes builds it"
        with (self._folder / f"{program.name}.log").open("wb") as output:
            self._processes.append(
                subprocess.Popen(
                    [program, *options], stdout=output, stderr=output, stdin=subprocess.DEVNULL, cwd=self._folder
                )
            )

    def _is_up(self) -> bool:
        for process in self._processes:
            assert process.poll() is None, self.said()
        try:
            return self.api.get("/readyz").is_success
        except httpx.HTTPError:
            return False

    def _watch(self) -> None:
        """Keep what jobs were made, from the beginning until the API server is gone."""
        try:
            with self.client() as api, api.stream("GET", JOBS, params={"watch": "1"}, timeout=None) as events:
                for line in events.iter_lines():
                    event = json.loads(line)
                    if event["type"] == "ADDED":
                        self.seen.append(event["object"])
        except httpx.HTTPError:
            return  # it was closed

    def get(self, path: str) -> dict[str, Any]:
        answer = self.api.get(path)
        assert answer.is_success, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def make(self, path: str, body: dict[str, Any], *, is_dry: bool = False) -> dict[str, Any]:
        """The object as the API server keeps it; with `is_dry` it is only checked, by the same rules, and not kept."""
        answer = self.api.post(path, json=body, params={"dryRun": "All"} if is_dry else {})
        assert answer.is_success, answer.text
        made: dict[str, Any] = answer.json()
        return made

    def _kubeconfig(self, name: str, token: str) -> Path:
        path = self._folder / f"{name}.kubeconfig"
        path.write_text(yaml.safe_dump({
            "apiVersion": "v1", "kind": "Config", "current-context": "real",
            "clusters": [{"name": "c", "cluster": {"server": self.url, "certificate-authority": str(self._authority)}}],
            "users": [{"name": "u", "user": {"token": token}}],
            "contexts": [{"name": "real", "context": {"cluster": "c", "user": "u", "namespace": "ml"}}],
        }))  # fmt: skip
        return path

    @property
    def jobs(self) -> dict[tuple[str, str], dict[str, Any]]:
        """Those that there are now, by namespace and name."""
        return {("ml", job["metadata"]["name"]): job for job in self.get(JOBS)["items"]}

    @property
    def pods(self) -> dict[str, Container]:
        """Whatever ran on the nodes."""
        return {name: each for node in self.nodes.values() for name, each in list(node.containers.items())}

    def kill_pods(self, reason: str) -> None:
        for node in self.nodes.values():
            node.kill_pods(reason)

    def said(self) -> str:
        """The ends of the logs, for a test that failed."""
        return "\n".join(f"== {path.name}\n{path.read_text()[-2000:]}" for path in self._folder.glob("*.log"))

    def close(self) -> None:
        for node in self.nodes.values():
            node.vanish()
        for process in reversed(self._processes):
            process.terminate()
        for process in self._processes:
            try:
                process.wait(3)  # the API server would wait for its watchers
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def lost(asked: Any, kept: Any, where: str = "") -> list[str]:
    """What was asked for and is not kept as it was: an API server drops what it does not know without a word."""
    if isinstance(asked, dict) and isinstance(kept, dict):
        return [each for key, value in asked.items() for each in lost(value, kept.get(key), f"{where}.{key}")]
    if isinstance(asked, list) and isinstance(kept, list) and len(asked) == len(kept):
        return [each for i, (a, k) in enumerate(zip(asked, kept, strict=True)) for each in lost(a, k, f"{where}[{i}]")]
    return [] if asked == kept else [f"{where}: {asked!r} became {kept!r}"]


def certified(folder: Path) -> tuple[Path, Path, Path]:
    """An authority's certificate, and a certificate by it for 127.0.0.1, with its key."""
    now = datetime.now(UTC)

    def certificate(subject: str, issuer: str, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        subject_name, issuer_name = (
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) for text in (subject, issuer)
        )
        return (
            x509.CertificateBuilder().subject_name(subject_name).issuer_name(issuer_name).public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        )  # fmt: skip

    authority, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    signs = x509.KeyUsage(
        digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    root = (
        certificate("tests", "tests", authority.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(signs, critical=True)
    )
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    leaf = certificate("127.0.0.1", "tests", key.public_key()).add_extension(here, critical=False)
    files = folder / "authority.pem", folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(root.sign(authority, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(leaf.sign(authority, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    files[2].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
    )
    return files
