"""Builds Kubernetes' own control plane from Debian's source package, for `make test-kubernetes`: into .venv/kubernetes.

As root on Debian 12: installs Go, etcd and what unpacks a source package with apt, fetches the source from wherever apt fetches
packages, and compiles kube-apiserver, kube-controller-manager and kube-scheduler. Once; some ten minutes of two processors, 2 GB for
as long as it goes on. Debian itself packages none of the three, only kubectl.
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
ETCD = Path("/usr/bin/etcd")
MAIN = "k8s.io/kubernetes"
OPENAPI = f"{MAIN}/pkg/generated/openapi"
VERSION = {"gitVersion": "v1.20.2", "gitMajor": "1", "gitMinor": "20"}  # of Debian 12; unset, clients are told v0.0.0


def main() -> int:
    if all((PLACE / name).is_file() for name in PROGRAMS) and ETCD.exists():
        return 0
    if os.geteuid() != 0:
        sys.stderr.write("Installing Go and etcd needs root.\n")
        return 1
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    if not (GO.exists() and ETCD.exists()):
        subprocess.run(["apt-get", "update", "-qq"], check=True, env=env)
    subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *NEEDS], check=True, env=env)
    PLACE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=PLACE) as folder:
        _build(_source(Path(folder)), Path(folder))
    return 0


def _source(folder: Path) -> Path:
    """The unpacked source package, from the archives that apt knows already; apt checks its digests against their signatures."""
    form = "$(ORIGIN)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)"
    said = subprocess.run(
        ["apt-get", "indextargets", "--format", form, "Created-By: Packages"], check=True, capture_output=True, text=True
    ).stdout
    lines = set()
    for line in said.splitlines():
        origin, address, release, component = line.split("|")
        if origin == "Debian" and component == "main":
            lines.add(f"deb-src {address} {release} {component}")
    (folder / "sources.list").write_text("\n".join(sorted(lines)) + "\n")
    (folder / "lists" / "partial").mkdir(parents=True)
    options = [
        "-o", f"Dir::Etc::SourceList={folder}/sources.list", "-o", "Dir::Etc::SourceParts=/dev/null",
        "-o", f"Dir::State::Lists={folder}/lists", "-o", "APT::Sandbox::User=root",
    ]  # fmt: skip
    subprocess.run(["apt-get", *options, "-qq", "update"], check=True)
    subprocess.run(["apt-get", *options, "-qq", "source", "--download-only", "kubernetes"], check=True, cwd=folder)
    (description,) = folder.glob("kubernetes_*.dsc")
    source = folder / "go" / "src" / MAIN
    source.parent.mkdir(parents=True)
    subprocess.run(
        ["dpkg-source", "--no-check", "-x", str(description), str(source)], check=True, cwd=folder, stdout=subprocess.DEVNULL
    )
    return source


def _build(source: Path, folder: Path) -> None:
    """What Kubernetes' own Makefile does for these programs, without its containers, rsync and jq."""
    # Go 1.19 refuses the vendored modules of 1.20, so it is GOPATH, as in Kubernetes' own builds of that time.
    env = {
        **os.environ, "GO111MODULE": "off", "GOFLAGS": "", "CGO_ENABLED": "0", "GOPATH": f"{folder}/go", "GOCACHE": f"{folder}/cache",
        "PATH": f"{GO.parent}:{os.environ['PATH']}",
    }  # fmt: skip

    def go(*args: str) -> None:
        subprocess.run([str(GO), *args], cwd=source, env=env, check=True)

    generator = folder / "openapi-gen"
    go("build", "-o", str(generator), f"{MAIN}/vendor/k8s.io/kube-openapi/cmd/openapi-gen")
    subprocess.run([
        str(generator), "--logtostderr", "--input-dirs", ",".join(_described(source)), "--output-package", OPENAPI,
        "--output-file-base", "zz_generated.openapi", "--go-header-file", "hack/boilerplate/boilerplate.generatego.txt",
        "--report-filename", str(folder / "report"),
    ], cwd=source, env=env, check=True)  # fmt: skip
    flags = ["-s", "-w"]
    for package in (
        "component-base/version",
        "client-go/pkg/version",
    ):  # what programs and what the API server say of themselves
        flags += [f"-X {MAIN}/vendor/k8s.io/{package}.{name}={value}" for name, value in VERSION.items()]
    made = folder / "made"
    made.mkdir()
    go("build", "-ldflags", " ".join(flags), "-o", f"{made}/", *(f"{MAIN}/cmd/{name}" for name in PROGRAMS))
    for name in PROGRAMS:  # whole or not at all: what is there is not built again
        (made / name).replace(PLACE / name)


def _described(source: Path) -> list[str]:
    """The packages that ask to be in the API's description, which is the one generated file that the source package lacks."""
    found = set()
    for top in (source / "pkg" / "apis", source / "staging" / "src" / "k8s.io"):
        for file in top.rglob("*.go"):
            if "+k8s:openapi-gen=" in file.read_text():
                found.add(str(file.parent.relative_to(source)).replace("staging/src/", "vendor/"))
    return sorted(f"{MAIN}/{each}" for each in found if "/code-generator/" not in each and "/sample-apiserver/" not in each)


if __name__ == "__main__":
    sys.exit(main())
