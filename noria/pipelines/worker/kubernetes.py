"""Kubernetes: each try is a Job with one pod, through lightkube.

A Job whose image cannot be pulled stays active for ever, so the pod is looked at too. Needed of the service account: create, get and
delete Jobs; list pods; read their logs. The job carries no secret that is worth anything once it has begun.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import yaml

from noria.kernel.errors import Invalid, Unavailable
from noria.pipelines.model.places import Place
from noria.pipelines.worker.attempt import Executor
from noria.pipelines.worker.executors import Setup
from noria.pipelines.worker.remote import Away, Job, Remote, State, broken
from noria.pipelines.worker.server import Broken

if TYPE_CHECKING:
    from lightkube import AsyncClient
    from lightkube.resources.core_v1 import Pod

T = TypeVar("T")

TIMEOUT_S = 20.0
NEVER_S = 60.0  # how long a pod may fail to start for a reason that rarely goes away
NEVER = frozenset({
    "ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "CreateContainerConfigError", "CreateContainerError", "RunContainerError",
})  # fmt: skip
AT_ONCE = frozenset({"InvalidImageName"})
KEPT_S = 600  # how long Kubernetes keeps a job of ours that ended and that nobody removed
GRACE_S = 15
OUTPUT_LINES = 50
JOB_BYTES = 256 << 20  # beside the step's own memory: the process that minds it
CONTAINER = "step"
DEFAULTS: dict[str, Any] = {  # what a template may say otherwise
    "spec": {
        "ttlSecondsAfterFinished": KEPT_S,
        "template": {"spec": {"terminationGracePeriodSeconds": GRACE_S, "automountServiceAccountToken": False}},
    }
}


class Kubernetes:
    """One namespace of a cluster."""

    name = "kubernetes"

    def __init__(self, client: AsyncClient, *, image: str, gpu: str, template: dict[str, Any]) -> None:
        self._client, self._image, self._gpu, self._template = client, image, gpu, template
        self._namespace = client.namespace
        _refuse_unknown(template)
        self._never_since_s: dict[str, float] = {}

    async def open(self) -> None:
        from lightkube.resources.batch_v1 import Job as KubernetesJob

        async def look() -> None:
            async for _ in self._client.list(KubernetesJob, labels={"noria.dev/step-run": "none"}):
                break

        try:
            await self._ask(look())
        except (Away, Broken) as error:
            raise Unavailable(
                str(error), hint=f"Try by hand: kubectl auth can-i create jobs --namespace {self._namespace}"
            ) from error

    def place(self, job: Job) -> Place:
        return Place(
            executor=self.name, job=job.name, image=job.image or self._image, details={"namespace": self._namespace}
        )  # fmt: skip

    async def submit(self, job: Job) -> str:
        from lightkube import ApiError
        from lightkube.resources.batch_v1 import Job as KubernetesJob

        if not (job.image or self._image):
            raise Broken("Kubernetes needs an image to run the step in: @noria.step(image=…), or NORIA_KUBERNETES_IMAGE.")
        own = manifest_of(job, image=job.image or self._image, gpu=self._gpu)
        manifest = merged(merged(DEFAULTS, self._template), own)
        try:
            await self._ask(self._client.create(KubernetesJob.from_dict(manifest)))
        except ApiError as error:
            if error.status.code != 409:  # 409: the answer to an earlier try was lost
                raise broken("Kubernetes", error.status.message or str(error)) from error
        return job.name

    async def find(self, name: str) -> str:
        return name  # `look` says whether it is there

    async def look(self, id: str) -> State:
        from lightkube import ApiError
        from lightkube.resources.batch_v1 import Job as KubernetesJob

        try:
            found = await self._ask(self._client.get(KubernetesJob, id))
        except ApiError as error:
            if error.status.code == 404:
                return State(phase="gone", why="Kubernetes does not know the job any more")
            raise Away(f"Kubernetes answers {error.status.code}: {error.status.message}.") from error
        pods = await self._pods(id)
        if pods and (state := self._state_of(id, pods[-1])):
            return state
        for condition in (found.status.conditions if found.status else None) or []:
            if condition.status == "True" and condition.type in ("Failed", "Complete"):
                return State(phase="ended", why=condition.message or condition.reason or condition.type)
        return State(phase="waiting", why="" if pods else "Kubernetes has not made a pod for it yet.")

    def _state_of(self, id: str, pod: Pod) -> State | None:
        """What a pod says; None when it says nothing that decides."""
        status = pod.status
        if status is None:
            return None
        container = next(iter(status.containerStatuses or []), None)
        state = container.state if container else None
        if status.phase in ("Succeeded", "Failed"):
            over = state.terminated if state else None
            # The pod's own reason first (Evicted, DeadlineExceeded): of its container there is said only that it was killed.
            reason = status.reason or (over.reason if over else None) or status.phase
            why = f"its pod ended with {reason}" + (f" ({status.message})" if status.message else "")
            return State(
                phase="ended", why=why, out_of_memory=reason == "OOMKilled", exit_code=over.exitCode if over else None
            )  # fmt: skip
        if status.phase == "Running":
            return self._gone_with_its_node(id, pod) or State(phase="running")
        if state and state.waiting and state.waiting.reason in NEVER | AT_ONCE:
            now_s = asyncio.get_running_loop().time()
            since_s = self._never_since_s.setdefault(id, now_s)
            why = f"its pod cannot start: {state.waiting.reason} ({state.waiting.message or 'no message'})"
            is_over = state.waiting.reason in AT_ONCE or now_s - since_s > NEVER_S
            return State(phase="ended" if is_over else "waiting", why=why)
        for condition in status.conditions or []:
            if condition.type == "PodScheduled" and condition.status == "False":
                return State(phase="waiting", why=f"No node has room for its pod: {condition.message or condition.reason}.")
        return State(phase="waiting")

    def _gone_with_its_node(self, id: str, pod: Pod) -> State | None:
        """A pod that was to go and is still said to run: its node does not answer, and nobody will ever say how it ended."""
        if pod.metadata is None or not pod.metadata.deletionTimestamp:
            return None
        now_s = asyncio.get_running_loop().time()
        grace_s = (pod.spec.terminationGracePeriodSeconds if pod.spec else None) or GRACE_S
        if now_s - self._never_since_s.setdefault(id, now_s) <= grace_s + NEVER_S:
            return None
        return State(phase="ended", why="its pod was to go, and its node does not answer")

    async def _pods(self, id: str) -> list[Pod]:
        from lightkube.resources.core_v1 import Pod

        async def listed() -> list[Pod]:
            return [pod async for pod in self._client.list(Pod, labels={"job-name": id})]

        found = await self._ask(listed())
        return sorted(found, key=lambda pod: str(pod.metadata.creationTimestamp if pod.metadata else ""))

    async def stop(self, id: str, *, at_once: bool) -> None:
        """Delete the job and its pod: what Kubernetes understands by stopping."""
        from lightkube import ApiError
        from lightkube.resources.batch_v1 import Job as KubernetesJob
        from lightkube.resources.core_v1 import Pod
        from lightkube.types import CascadeType

        try:
            if at_once:
                for pod in await self._pods(id):
                    assert pod.metadata and pod.metadata.name
                    await self._ask(self._client.delete(Pod, pod.metadata.name, grace_period=0))
            await self._ask(self._client.delete(KubernetesJob, id, cascade=CascadeType.BACKGROUND))
        except ApiError as error:
            if error.status.code != 404:
                raise Away(f"Kubernetes answers {error.status.code}: {error.status.message}.") from error

    async def output(self, id: str) -> str:
        from lightkube import ApiError

        async def said(name: str) -> str:
            return "\n".join([line async for line in self._client.log(name, tail_lines=OUTPUT_LINES, newlines=False)])

        try:
            for pod in await self._pods(id):
                assert pod.metadata and pod.metadata.name
                return await self._ask(said(pod.metadata.name))
        except (ApiError, Broken):  # a container that never was has no output
            pass
        return ""

    async def remove(self, id: str) -> None:
        """It was deleted when it was stopped."""
        self._never_since_s.pop(id, None)

    async def close(self) -> None:
        await self._client.close()

    async def _ask(self, asking: Awaitable[T]) -> T:
        """With a deadline. Raises Away when nobody answers or the server is in trouble; ApiError for an answer."""
        import httpx2
        from lightkube import ApiError

        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await asking
        except ApiError as error:
            if error.status.code in (401, 403):
                raise Broken(f"Kubernetes refuses: {error.status.message}") from error
            if (error.status.code or 0) >= 500 or error.status.code == 429:
                raise Away(f"Kubernetes answers {error.status.code}: {error.status.message}.") from error
            raise
        except (httpx2.HTTPError, TimeoutError, OSError) as error:
            raise Away(f"Kubernetes cannot be reached ({type(error).__name__}: {error}).") from error


def manifest_of(job: Job, *, image: str, gpu: str) -> dict[str, Any]:
    """The Job: one pod, one container, no second try; the server decides about tries."""
    requests: dict[str, str] = {}
    limits: dict[str, str] = {}
    if job.cpu:
        requests["cpu"] = f"{job.cpu:g}"
    if job.memory_bytes:
        requests["memory"] = limits["memory"] = str(job.memory_bytes + JOB_BYTES)
    if job.gpu:
        limits[gpu] = str(job.gpu)
    run, name = job.labels["run"], job.name.removeprefix("noria-").rpartition("-")[0]
    labels = {"app.kubernetes.io/managed-by": "noria", "noria.dev/run": run, "noria.dev/step-run": name}
    said = {"noria.dev/pipeline": job.labels["pipeline"], "noria.dev/step": job.labels["step"]}
    container = {
        "name": CONTAINER, "image": image, "command": job.command,
        "env": [{"name": key, "value": value} for key, value in job.env.items()],
        "resources": {key: value for key, value in (("requests", requests), ("limits", limits)) if value},
    }  # fmt: skip
    pod: dict[str, Any] = {"restartPolicy": "Never", "containers": [container]}
    if job.time_limit_s is not None:
        pod["activeDeadlineSeconds"] = int(job.time_limit_s)
    return {
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": job.name, "labels": labels, "annotations": said},
        "spec": {
            "backoffLimit": 0,
            "template": {"metadata": {"labels": labels, "annotations": said}, "spec": pod},
        },
    }  # fmt: skip


def merged(template: Any, ours: Any) -> Any:
    """`template` with ours laid over it; lists of named things (containers, env) are joined by name, the first comes first."""
    if isinstance(template, dict) and isinstance(ours, dict):
        return {**template, **{key: merged(template.get(key), value) for key, value in ours.items()}}
    if (
        isinstance(template, list)
        and isinstance(ours, list)
        and all(isinstance(x, dict) and "name" in x for x in template + ours)
    ):
        kept = {each["name"]: each for each in template}
        named = {each["name"]: merged(kept.get(each["name"]), each) for each in ours}
        return [*named.values(), *(each for name, each in kept.items() if name not in named)]
    return ours


def _refuse_unknown(template: dict[str, Any]) -> None:
    """lightkube leaves out what Kubernetes does not know, so a slip of the pen would never be noticed. Raises Invalid."""
    from lightkube.resources.batch_v1 import Job as KubernetesJob

    labels = {"pipeline": "", "step": "", "run": "", "attempt": ""}
    ours = manifest_of(Job(name="noria-none-1", command=[], env={}, labels=labels), image="none", gpu="none")
    whole = merged(merged(DEFAULTS, template), ours)
    hint = "kubectl explain job.spec lists what there is."
    try:
        kept = KubernetesJob.from_dict(whole).to_dict()
    except msgspec.ValidationError as cause:
        raise Invalid(f"The template is no Job: {cause}.", where="kubernetes_template", hint=hint) from cause
    if lost := _lost(whole, kept, ""):
        raise Invalid(f"Kubernetes knows no {lost} in a Job.", where="kubernetes_template", hint=hint)


def _lost(asked: Any, kept: Any, where: str) -> str:
    """The first thing in `asked` that is not in `kept`; '' when there is none."""
    if isinstance(asked, dict):
        if not isinstance(kept, dict):
            return where
        found = (
            where + "." + key if key not in kept else _lost(value, kept[key], f"{where}.{key}")
            for key, value in asked.items()
        )
        return next(filter(None, found), "").lstrip(".")
    if isinstance(asked, list) and isinstance(kept, list):
        found = (_lost(a, k, f"{where}[{i}]") for i, (a, k) in enumerate(zip(asked, kept, strict=False)))
        return next(filter(None, found), "")
    return ""


def make(setup: Setup) -> Executor:
    """The cluster that kubectl would speak to from here, or the one that the agent itself runs in. Raises Invalid."""
    try:
        from lightkube import AsyncClient, KubeConfig
        from lightkube.core.exceptions import ConfigError
    except ImportError as cause:
        raise Invalid(
            "The executor kubernetes needs lightkube.",
            where="executor",
            hint="Install it with: pip install 'noria[kubernetes]'",
        ) from cause
    settings = setup.settings
    try:
        config = KubeConfig.from_env().get(settings.get("NORIA_KUBERNETES_CONTEXT") or None)
        client = AsyncClient(
            config=config, namespace=settings.get("NORIA_KUBERNETES_NAMESPACE") or None, trust_env=True
        )  # fmt: skip
    except (ConfigError, OSError) as cause:
        raise Invalid(
            f"No cluster is configured here: {cause}.", where="executor",
            hint="Set KUBECONFIG or ~/.kube/config, or run the agent in a pod with a service account.",
        ) from cause  # fmt: skip
    cluster = Kubernetes(
        client, image=settings.get("NORIA_KUBERNETES_IMAGE") or "", gpu=settings.get("NORIA_KUBERNETES_GPU") or "nvidia.com/gpu",
        template=_template(settings.get("NORIA_KUBERNETES_TEMPLATE") or ""),
    )  # fmt: skip
    return Remote(setup.server, cluster, job_url=setup.job_url)


def _template(path: str) -> dict[str, Any]:
    if not path:
        return {}
    try:
        found = yaml.safe_load(Path(path).read_text())
    except (OSError, yaml.YAMLError) as cause:
        raise Invalid(f"{path} cannot be read as YAML: {cause}", where="kubernetes_template") from cause
    if not isinstance(found, dict):
        raise Invalid(f"{path} is no Job: a mapping with spec: is needed.", where="kubernetes_template")
    return found
