"""Builds Kubernetes' own control plane from Debian's source package, for `make test-kubernetes`: into .venv/kubernetes.

As root on Debian 12: installs Go, etcd and what unpacks a source package with apt, fetches the source from wherever apt fetches
packages, and compiles kube-apiserver, kube-controller-manager and kube-scheduler; four minutes on two processors, once.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
PLACE = ROOT / ".venv" / "kubernetes"
PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
NEEDS = ("golang-1.19-go", "etcd-server", "dpkg-dev", "xz-utils")
GO = Path("/usr/lib/go-1.19/bin/go")


def main() -> int:
    if all((PLACE / name).is_file() for name in PROGRAMS) and Path("/usr/bin/etcd").exists():
        return 0
    if os.geteuid() != 0:
        sys.stderr.write("Installing Go and etcd needs root.\n")
        return 1
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *NEEDS], check=True, env=env)
    with tempfile.TemporaryDirectory() as folder:
        source = _source(Path(folder))
        PLACE.mkdir(parents=True, exist_ok=True)
        built = [f"./cmd/{name}" for name in PROGRAMS]
        go = {
            **env,
            "GOFLAGS": "-mod=vendor",
            "GO111MODULE": "on",
            "CGO_ENABLED": "0",
            "GOCACHE": f"{folder}/cache",
            "GOPATH": f"{folder}/go",
        }
        version = "-X k8s.io/component-base/version.gitVersion=v1.20.2 -X k8s.io/component-base/version.gitMajor=1"
        flags = f"-s -w {version} -X k8s.io/component-base/version.gitMinor=20"
        subprocess.run([str(GO), "build", "-ldflags", flags, "-o", f"{PLACE}/", *built], cwd=source, env=go, check=True)
    return 0


def _source(folder: Path) -> Path:
    """The unpacked source package, from the archives that apt knows already."""
    form = "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(SIGNED_BY)"
    said = subprocess.run(
        ["apt-get", "indextargets", "--format", form, "Created-By: Packages"], check=True, capture_output=True, text=True
    ).stdout
    lines = set()
    for line in said.splitlines():
        address, release, component, key = line.split("|")
        if "debian" in address and component == "main":
            signed = f"[signed-by={key}] " if key else ""
            lines.add(f"deb-src {signed}{address} {release} {component}")
    (folder / "sources.list").write_text("\n".join(sorted(lines)) + "\n")
    (folder / "lists" / "partial").mkdir(parents=True)
    options = [
        "-o", f"Dir::Etc::SourceList={folder}/sources.list", "-o", "Dir::Etc::SourceParts=/dev/null",
        "-o", f"Dir::State::Lists={folder}/lists", "-o", "APT::Sandbox::User=root",
    ]  # fmt: skip
    subprocess.run(["apt-get", *options, "-qq", "update"], check=True)
    subprocess.run(["apt-get", *options, "-qq", "source", "--download-only", "kubernetes"], check=True, cwd=folder)
    (description,) = folder.glob("kubernetes_*.dsc")
    subprocess.run(
        ["dpkg-source", "--no-check", "-x", str(description), "source"], check=True, cwd=folder, capture_output=True
    )
    return folder / "source"


if __name__ == "__main__":
    sys.exit(main())
