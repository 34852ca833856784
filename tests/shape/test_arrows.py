"""The dependency rule of docs/internals/ARCHITECTURE.md, section 2: who may import whom."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
SLICES = [
    "access",
    "datasets",
    "tracking",
    "registry",
    "pipelines",
    "serving",
    "monitoring",
    "governance",
    "loops",
    "reports",
    "conversations",
    "compliance",
    "declare",
]
# The storage engine of datasets, used by the slice and, without a server, by the client; see docs/decisions.
ENGINE = "repository"
ENGINE_READS = {"noria.datasets.model", "noria.datasets.manifest"}  # the nouns it stores, and their algebra: no I/O
# Rules are checked where the data is, and conditions named where they are written: no database, no network.
CLIENT_READS = {"noria.datasets.expectations", "noria.pipelines.conditions", "noria.pipelines.space"}
WIRING = {"app", "control", "supervisor"}  # the only modules that know every slice
# What is allowed besides the rule, with its reason.
EXCEPTIONS = {
    ("noria.client.api", "noria.app"): "without a server, the client runs one in its own process",
    **{
        (f"noria.client.scoring.{file}", f"noria.serving.{module}"): "a batch is scored by the code that serves: one loader"
        for file in ("work", "recording")
        for module in ("batches", "fetched", "frames", "intact", "loader", "rows", "segments")
    },
    ("noria.cli.audit", "noria.governance.verify"): "the offline verifier: one file, the standard library only",
    ("noria.cli.model_supply", "noria.governance.verify"): "the offline verifier of models: the standard library only",
    ("noria.cli.model_supply", "noria.governance.verify_model"): "the offline verifier of models: the standard library only",
    ("noria.cli.model_supply", "noria.governance.signatures"): "signs and verifies files here, without a server",
    ("noria.cli.model_supply", "noria.governance.keys"): "signs with a key of one's own",
    ("noria.cli.doctor", "noria.migrations"): "compares the schema without changing it",
    ("noria.serving.gateway", "noria.access.tokens"): "the form of a token, a leaf: the gateway checks tokens from memory",
    ("noria.serving.gateway", "noria.config"): "a process of its own, wired in its main()",
    ("noria.serving.elsewhere", "noria.config"): "a process of its own, wired in its main()",
    ("noria.serving.ray_app", "noria.config"): "processes of Ray's, wired in its application()",
    ("noria.serving.node", "noria.config"): "a process of its own, wired in its main()",
    ("noria.serving.recorder", "noria.config"): "a process of its own, wired in its main()",
}


def modules() -> dict[str, Path]:
    return {
        ".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p
        for p in (ROOT / "noria").rglob("*.py")
    }


def imports(path: Path, known: set[str]) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{a.name}" if f"{node.module}.{a.name}" in known else node.module for a in node.names}
    return {f for f in found if f.startswith("noria")}


def is_allowed(source: str, target: str) -> bool:
    place, wanted = source.split(".")[1:], target.split(".")[1:]
    if not place or not wanted or place[0] in WIRING or (source, target) in EXCEPTIONS:
        return True
    if wanted[0] == "kernel" or (wanted == ["config"] and place[0] in {"http", "cli", "kernel"} | WIRING):
        return True
    if wanted[0] in WIRING:
        return place[0] == "cli"
    if place[0] == "kernel":
        return False
    if place[0] == ENGINE:
        return wanted[0] == ENGINE or target in ENGINE_READS
    if wanted[0] == ENGINE:
        return place[0] in ("datasets", "client", "cli")
    if place[0] in SLICES:
        return _slice_may(place, wanted)
    if place[0] in ("client", "cli"):
        # Rule 5: the nouns, and each other; the CLI may also start the server.
        is_plain = _is_model(target) or target in ENGINE_READS | CLIENT_READS
        return is_plain or wanted[0] in ("client", "cli", "logs", "testing", "demo")
    if place[0] == "http":
        return wanted[0] in ("http", "access")  # the door knows who is calling, and no other slice
    return wanted[0] == place[0] or wanted[0] in ("logs", "client", "testing")


def _slice_may(place: list[str], wanted: list[str]) -> bool:
    if wanted[0] == place[0]:
        return True
    if wanted[0] == "http":
        return wanted in (["http", "route"], ["http", "bodies"]) or place[-1] == "http"
    if wanted[0] == "logs":
        return True
    if place[1:2] == ["worker"] and wanted[0] == "client":
        return True  # the process that runs steps works with the files that the client wrote
    if wanted[0] == "client":
        return wanted[-1] in ("api", "pipeline", "environment")  # processes that speak HTTP only
    if wanted[0] not in SLICES:
        return False
    is_lower = SLICES.index(wanted[0]) < SLICES.index(place[0])
    return is_lower and (
        _is_model(".".join(["noria", *wanted])) or wanted[-1] in ("service", "policy", "approvals", "policies")
    )


def _is_model(module: str) -> bool:
    """The nouns of a slice: its model.py, or the files in its model/."""
    return module.endswith(".model") or ".model." in module


def test_arrows_point_one_way() -> None:
    known = modules()
    wrong = [
        f"{source} imports {target}"
        for source, path in sorted(known.items())
        for target in sorted(imports(path, set(known)))
        if not is_allowed(source, target)
    ]
    assert not wrong, "\n".join(wrong)


def test_a_model_does_no_work() -> None:
    """Rule 1: model.py (or what is in model/) imports the kernel and lower ones only; no database, no clock."""
    known = modules()
    for source, path in known.items():
        if _is_model(source) and not source.startswith("noria.cli."):
            for target in imports(path, set(known)):
                assert _is_model(target) or target in {
                    "noria.kernel.facts", "noria.kernel.events", "noria.kernel.ids", "noria.kernel.errors", "noria.kernel.op",
                    "noria.kernel.paging",
                    "noria.pipelines.space",  # nouns too, in a file of their own
                }, f"{source} imports {target}"  # fmt: skip
