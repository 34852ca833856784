"""An endpoint as objects of KServe 0.20: a ServingRuntime, and an InferenceService whose canaries are the endpoint's.

The mapping, and why it is this one:

- A pod runs Noria's own node for one revision (`NORIA_SERVE_ONLY=endpoint:revision`), not a stock model server: it checks the
  files' digests before it loads them, speaks V2 and /invocations with the same answers, and records them. KServe places and
  scales pods and splits the traffic. So no storageUri: the node fetches the files from Noria by digest.
- Every revision's predictor is named `r<number>`, the champion's too. Promoting is then what KServe documents for it: the canary's
  name moves to `spec.predictor` and its pods go on. `spec.canary` exists in Standard mode only, so that mode is said.
- The objects are the state of now. A step, a promotion or a rollback in Noria is another export: apply it again.

What KServe cannot say is in `left_out`, each by name with what happens instead; nothing is dropped in silence.
"""

from __future__ import annotations

import math
import re
from typing import Any
from urllib.parse import quote

from noria.kernel.errors import Conflict
from noria.kernel.ids import Ref
from noria.serving.model import Canary, EndpointDetail, Exported, Guard, LeftOut, Revision, RevisionConfig, Route

RUNTIME = "noria"
PORT = 8080
POD_MEMORY_MB = 1024  # of a pod, besides its model's worker
NAME_LENGTH_MAX = 40  # KServe appends "-r12-predictor-…" and a name of Kubernetes' ends at 63


def manifests(detail: EndpointDetail, *, image: str, url: str, namespace: str, secret: str, hosts: list[str]) -> Exported:
    """The endpoint as it is now. Raises Conflict when nothing answers there yet.

    `image` has Noria and what the models need; `secret` is a Kubernetes secret whose key `token` holds the token of a service
    account with the role `node`; `hosts` are the outer names that callers use.
    """
    endpoint = detail.endpoint
    by_id = {r.id: r for r in detail.revisions}
    routes = [r for r in endpoint.routes if r.weight > 0 and r.revision_id in by_id]
    champion = next((r for r in routes if r.role == "champion"), None)
    if champion is None:
        raise Conflict(
            f"{endpoint.name} has no champion that is ready.",
            ref=Ref("endpoint", endpoint.name),
            hint="Deploy one and wait for it.",
        )
    others = [r for r in routes if r is not champion]
    name = label(endpoint.name)
    stable = by_id[champion.revision_id]
    named = _hosts(name, namespace, [_predictor_name(by_id[r.revision_id]) for r in routes], hosts)
    service: dict[str, Any] = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": name, "namespace": namespace,
            "labels": {"app.kubernetes.io/managed-by": "noria"},
            "annotations": {
                "serving.kserve.io/deploymentMode": "Standard",
                "serving.kserve.io/autoscalerClass": "hpa" if _scales(stable.config) else "none",
                "noria.dev/endpoint": endpoint.name, "noria.dev/generation": str(endpoint.generation),
            },
        },
        "spec": {"predictor": _predictor(stable, named)},
    }  # fmt: skip
    if others:
        most = _replicas(stable.config)
        service["spec"]["canary"] = [
            {"predictor": _predictor(by_id[r.revision_id], named, canary_of=most), "trafficPercent": r.weight}
            for r in others
        ]
    return Exported(
        endpoint=endpoint.name, format="kserve", objects=[_runtime(image, url, namespace, secret), service],
        left_out=_left_out(detail, name, [by_id[r.revision_id] for r in routes], hosts),
    )  # fmt: skip


def label(name: str) -> str:
    """A name that Kubernetes takes, as near to `name` as possible."""
    made = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:NAME_LENGTH_MAX].rstrip("-") or "endpoint"
    return made if made[0].isalpha() else f"e-{made}"[:NAME_LENGTH_MAX].rstrip("-")


def _runtime(image: str, url: str, namespace: str, secret: str) -> dict[str, Any]:
    """How a pod of any revision is run."""
    token = {"secretKeyRef": {"name": secret, "key": "token"}}
    return {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "ServingRuntime",
        "metadata": {"name": RUNTIME, "namespace": namespace, "labels": {"app.kubernetes.io/managed-by": "noria"}},
        "spec": {
            "supportedModelFormats": [{"name": RUNTIME, "version": "1"}],
            "protocolVersions": ["v2"],
            "multiModel": False,
            "containers": [{
                "name": "kserve-container", "image": image, "command": ["noria", "endpoint", "serve"],
                "env": [
                    {"name": "NORIA_URL", "value": url}, {"name": "NORIA_TOKEN", "valueFrom": token},
                    {"name": "NORIA_HOME", "value": "/tmp/noria"}, {"name": "NORIA_HOST", "value": "0.0.0.0"},  # noqa: S108 - in a pod
                    {"name": "NORIA_GATEWAY_PORT", "value": str(PORT)}, {"name": "NORIA_GRPC_PORT", "value": "0"},
                ],
                "ports": [{"name": "http1", "containerPort": PORT, "protocol": "TCP"}],
                "resources": {"requests": {"cpu": "500m", "memory": "512Mi"}, "limits": {"memory": "2Gi"}},
                "securityContext": {
                    "allowPrivilegeEscalation": False, "runAsNonRoot": True, "capabilities": {"drop": ["ALL"]},
                },
            }],
        },
    }  # fmt: skip


def _predictor(revision: Revision, hosts: list[str], *, canary_of: int | None = None) -> dict[str, Any]:
    """The pods of a revision; those of a canary have a fixed number, at most the champion's, as KServe's webhook demands."""
    config = revision.config
    model: dict[str, Any] = {
        "modelFormat": {"name": RUNTIME, "version": "1"}, "runtime": RUNTIME, "protocolVersion": "v2",
        "env": [
            {"name": "NORIA_SERVE_ONLY", "value": f"{revision.endpoint}:{revision.id}"},
            {"name": "NORIA_ALLOWED_HOSTS", "value": ",".join(hosts)},
        ],
        # Ready is when the model is. The kubelet asks by the pod's address, a name to which the gateway does not answer.
        "readinessProbe": {
            "httpGet": {
                "path": f"/v2/models/{quote(revision.endpoint)}/ready", "port": PORT,
                "httpHeaders": [{"name": "Host", "value": "localhost"}],
            },
            "periodSeconds": 2, "timeoutSeconds": 2,
        },
    }  # fmt: skip
    if config.memory_mb:
        model["resources"] = {"limits": {"memory": f"{config.memory_mb + POD_MEMORY_MB}Mi"}}
    made: dict[str, Any] = {
        "name": _predictor_name(revision), "minReplicas": _replicas(config),
        "timeout": math.ceil(config.timeout_ms / 1000),
        "annotations": {
            "noria.dev/model": f"{revision.model}@{revision.model_version}", "noria.dev/digest": revision.digest,
        },
        "model": model,
    }  # fmt: skip
    if canary_of is not None:
        # The schema wants a name in a canary's model; the webhook refuses one in the stable predictor's.
        return made | {"minReplicas": min(_replicas(config), canary_of), "model": {"name": "kserve-container", **model}}
    if _scales(config):
        made |= {"maxReplicas": config.max_replicas, "scaleMetric": "cpu", "scaleTarget": 80}
    return made


def _predictor_name(revision: Revision) -> str:
    return f"r{revision.number}"


def _replicas(config: RevisionConfig) -> int:
    return max(1, config.min_replicas)


def _scales(config: RevisionConfig) -> bool:
    return config.max_replicas > _replicas(config)


def _hosts(name: str, namespace: str, predictors: list[str], hosts: list[str]) -> list[str]:
    """The names under which Kubernetes' own services reach the pods, and the outer ones."""
    services = [f"{name}-predictor", *(f"{name}-{p}-predictor" for p in predictors), name]
    ends = ("", f".{namespace}", f".{namespace}.svc", f".{namespace}.svc.cluster.local")
    return [f"{s}{e}" for s in services for e in ends] + hosts


def _left_out(detail: EndpointDetail, name: str, revisions: list[Revision], hosts: list[str]) -> list[LeftOut]:
    endpoint = detail.endpoint
    found = [
        LeftOut(
            field="sticky key (x-noria-key)",
            why="KServe splits by chance, request by request: a key may be answered by both versions.",
            instead="The key is still recorded and joins truth. For sticky answers let Noria's gateway or Ray Serve split.",
        )
    ]
    if name != endpoint.name:
        found.append(
            LeftOut(
                field=f"name {endpoint.name!r}",
                why="It is no name in Kubernetes.",
                instead=f"The objects are called {name!r}; in paths the endpoint keeps its name.",
            )
        )
    if not hosts:
        found.append(
            LeftOut(
                field="outer host names",
                why="They depend on the cluster's gateway.",
                instead="Say them with --host, or pods refuse what is addressed to them (403).",
            )
        )
    found += [_route(r, endpoint.name) for r in endpoint.routes if r.weight == 0]
    if endpoint.pending_revision_id:
        found.append(
            LeftOut(
                field=f"pending revision {endpoint.pending_revision_id}",
                why="It has no traffic yet.",
                instead="Export again once it is ready.",
            )
        )
    if detail.canary is not None:
        found += _canary(detail.canary)
    for revision in revisions:
        found += _config(revision)
    return found


def _route(route: Route, endpoint: str) -> LeftOut:
    if route.role == "shadow":
        return LeftOut(
            field=f"shadow @{route.model_version}",
            why="InferenceService has no copy of requests.",
            instead="No pod is made for it; mirror in the mesh, or keep the shadow on a node of Noria's.",
        )
    return LeftOut(
        field=f"previous @{route.model_version}",
        why="It has no traffic, so it would be pods that nobody asks.",
        instead=f"A rollback loads it again: noria endpoint rollback {endpoint}, then export and apply.",
    )


def _canary(canary: Canary) -> list[LeftOut]:
    told = ", ".join(f"{field} {getattr(canary.guard, field)}" for field in Guard.__struct_fields__)
    return [
        LeftOut(
            field=f"canary steps {canary.steps}", why="trafficPercent is one number.",
            instead=f"Exported is the step of now ({canary.weight} %); export and apply at every step.",
        ),
        LeftOut(
            field=f"guard ({told})", why="KServe judges readiness alone.",
            instead="Noria goes on judging by what the pods record and moves its own pointer; export and apply after it has.",
        ),
    ]  # fmt: skip


def _config(revision: Revision) -> list[LeftOut]:
    """What of a revision's configuration is kept by the pod itself, and what by nobody."""
    config, default, named = revision.config, RevisionConfig(), f"r{revision.number}"
    found = []
    if config.min_replicas == 0:
        found.append(
            LeftOut(field=f"{named}: min_replicas 0", why="Standard mode does not scale to zero.", instead="One pod stays.")
        )
    if config.max_replicas > max(1, config.min_replicas):
        found.append(LeftOut(
            field=f"{named}: target_in_flight {config.target_in_flight}, idle_s {config.idle_s:g}",
            why="Kubernetes' autoscaler does not know requests in flight.", instead="Pods scale by CPU, at 80 %; a canary's do not.",
        ))  # fmt: skip
    for name in ("max_in_flight", "rate_per_s", "burst", "max_batch_rows", "engine", "memory_mb", "disk_mb", "max_tasks"):
        if getattr(config, name) != getattr(default, name):
            found.append(LeftOut(
                field=f"{named}: {name} {getattr(config, name)}", why="KServe has no field for it.",
                instead="The pod's own gateway keeps it, each pod for itself.",
            ))  # fmt: skip
    return found
