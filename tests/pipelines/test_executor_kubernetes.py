"""Steps as Kubernetes Jobs, against a stand-in of the API server that really runs them; with NORIA_KUBERNETES=real against Kubernetes'
own control plane.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lightkube import AsyncClient, KubeConfig

from noria.kernel.errors import Invalid, Unavailable
from noria.pipelines.worker.kubernetes import Kubernetes, manifest_of
from noria.pipelines.worker.remote import Job, State
from noria.pipelines.worker.server import Broken
from noria.testing.executor_contract import ExecutorContract, Played, play
from tests.pipelines.kubernetes_plane import KubernetesPlane, lost
from tests.pipelines.kubernetes_standin import ControlPlane
from tests.pipelines.processes import ROOT, Server, ended, imported, until

pytestmark = pytest.mark.protocol

IS_REAL = os.environ.get("NORIA_KUBERNETES") == "real"
only_real = pytest.mark.skipif(not IS_REAL, reason="needs Kubernetes' own controllers: make test-kubernetes")
Plane = ControlPlane | KubernetesPlane


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    made = (KubernetesPlane if IS_REAL else ControlPlane)(tmp_path_factory.mktemp("plane"))
    yield made
    made.close()


def settings(plane: Plane) -> dict[str, str]:
    return {"KUBECONFIG": str(plane.config), "NORIA_KUBERNETES_IMAGE": "ghcr.io/acme/steps:1"}


@pytest.fixture(scope="module")
def played(plane: Plane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    with play("kubernetes", tmp_path_factory.mktemp("played"), settings=settings(plane), gpus=("GPU-0", "GPU-1")) as played:
        yield played


class TestKubernetes(ExecutorContract):
    """The contract."""


def test_a_pod_whose_node_is_gone_does_not_run_for_ever() -> None:
    """Kubernetes says Running of it until the node comes back; that it was to go is all there is to know."""
    from datetime import UTC, datetime

    from lightkube.models.core_v1 import PodSpec, PodStatus
    from lightkube.models.meta_v1 import ObjectMeta
    from lightkube.resources.core_v1 import Pod

    async def states() -> list[str]:
        cluster = Kubernetes(SimpleNamespace(namespace="ml"), image="i", gpu="g", template={})  # type: ignore[arg-type]
        here = Pod(metadata=ObjectMeta(name="p"), status=PodStatus(phase="Running"), spec=PodSpec(containers=[]))
        leaving = Pod(metadata=ObjectMeta(name="p", deletionTimestamp=datetime.now(UTC)), status=here.status, spec=here.spec)
        found = [cluster._state_of("j", here), cluster._state_of("j", leaving)]
        cluster._never_since_s["j"] -= 600
        found.append(cluster._state_of("j", leaving))
        return [state.phase for state in found if state]

    assert asyncio.run(states()) == ["running", "running", "ended"]


def test_what_a_step_asks_for_is_what_its_job_asks_for(played: Played, plane: Plane) -> None:
    specs = {job["metadata"]["annotations"]["noria.dev/step"]: job["spec"]["template"]["spec"] for job in plane.seen}
    (speak,) = specs["speak"]["containers"]
    assert speak["image"] == "ghcr.io/acme/steps:1" and speak["resources"] == {"requests": {"cpu": "1"}}
    (devour,) = specs["devour"]["containers"]
    assert (
        devour["resources"]["limits"]["memory"]
        == devour["resources"]["requests"]["memory"]
        == str(200_000_000 + (256 << 20))
    )
    (compute,) = next(spec for step, spec in specs.items() if step.startswith("compute["))["containers"]
    assert compute["resources"] == {"limits": {"nvidia.com/gpu": "1"}}
    assert specs["overstay"]["activeDeadlineSeconds"] == 6 + 1800 and "activeDeadlineSeconds" not in specs["speak"]
    assert all(spec["restartPolicy"] == "Never" and not spec["automountServiceAccountToken"] for spec in specs.values())
    assert all(job["spec"]["backoffLimit"] == 0 for job in plane.seen)


def test_each_try_says_in_which_image_it_ran(played: Played) -> None:
    assert {a["place"]["image"] for a in played.attempts("fail")} == {"ghcr.io/acme/steps:1"}
    assert played.attempts("use")[0]["place"]["details"] == {"namespace": "ml"}


def test_nothing_is_left_behind_but_what_a_killed_agent_could_not_remove(played: Played, plane: Plane) -> None:
    left = [job["metadata"]["annotations"]["noria.dev/step"] for job in plane.jobs.values()]
    assert left == ["again"]  # ended by itself; Kubernetes removes it in time
    assert plane.seen[-1]["spec"]["ttlSecondsAfterFinished"] == 600
    until(lambda: not [pod for pod in plane.pods.values() if pod.process and pod.process.poll() is None])


def job(name: str, **more: Any) -> Job:
    labels = {"pipeline": "p", "step": "s", "run": "r", "attempt": "1"}
    return Job(name=f"noria-{name}-1", command=["sleep", "60"], env={}, labels=labels, **more)


def kept(plane: Plane, name: str) -> dict[str, Any]:
    """A job as the API server keeps it."""

    def look() -> dict[str, Any] | None:
        return next((each for each in plane.seen if each["metadata"]["name"] == f"noria-{name}-1"), None)

    found: dict[str, Any] = until(look)
    return found


@asynccontextmanager
async def cluster(
    plane: Plane, *, namespace: str = "ml", template: dict[str, Any] | None = None
) -> AsyncIterator[Kubernetes]:
    client = AsyncClient(config=KubeConfig.from_file(plane.config).get(), namespace=namespace)
    made = Kubernetes(client, image="", gpu="nvidia.com/gpu", template=template or {})
    yield made
    await made.close()


async def comes_to(found: Kubernetes, name: str, phase: str, why: str = "") -> State:
    """What it says of a job, once that is of this phase for this reason."""
    for _ in range(300):
        state = await found.look(f"noria-{name}-1")
        if state.phase == phase and why in state.why:
            return state
        await asyncio.sleep(0.1)
    raise AssertionError(f"{name} is {state}")


def test_a_pod_that_cannot_start_says_why(plane: Plane) -> None:
    async def play() -> None:
        async with cluster(plane) as found:
            image = {"missing": "missing/steps:1", "wrong": "NoSuch", "huge": "steps:1", "fine": "steps:1"}
            for name in image:
                made = job(name, image=image[name], cpu=1000.0 if name == "huge" else 0.0)
                await found.submit(made)
                await found.submit(made)  # its answer was lost: the same job
            await comes_to(found, "missing", "waiting", "ImagePullBackOff")
            await comes_to(found, "wrong", "ended", "InvalidImageName")
            await comes_to(found, "huge", "waiting", "Insufficient cpu")
            await comes_to(found, "fine", "running")
            plane.kill_pods("OOMKilled")
            state = await comes_to(found, "fine", "ended", "OOMKilled")
            assert (state.out_of_memory, state.exit_code) == (True, 137)
            for name in image:
                await found.stop(f"noria-{name}-1", at_once=True)
                await found.stop(f"noria-{name}-1", at_once=True)  # one that is not there is left alone
            await comes_to(found, "fine", "gone")

    asyncio.run(play())


def test_nothing_of_a_job_is_left_out_by_the_api_server(plane: Plane) -> None:
    """It drops what it does not know without a word, so what it keeps is compared."""
    run = "run_01JBX7Q5W3T8VN2K4M6P9R0SYZ"
    asked = Job(
        name="noria-whole-1", command=["sleep", "1"], env={"A": "1", "B": ""}, cpu=2.0, gpu=1, memory_bytes=1_000_000_000, image="steps:1",
        labels={"pipeline": "Flüge / täglich", "step": "train[3]", "run": run, "attempt": "1"}, time_limit_s=1800.7,
    )  # fmt: skip

    async def play() -> None:
        async with cluster(plane) as found:
            await found.submit(asked)
            await found.stop("noria-whole-1", at_once=True)

    asyncio.run(play())
    manifest = manifest_of(asked, image="steps:1", gpu="nvidia.com/gpu")
    manifest["spec"]["template"]["spec"]["containers"][0]["env"][1].pop("value")  # an empty text is none
    for name in ("metadata", "spec"):
        assert lost(manifest[name], kept(plane, "whole")[name]) == []
    assert kept(plane, "whole")["metadata"]["labels"]["noria.dev/run"] == run


def test_a_pod_says_why_it_was_ended(plane: Plane) -> None:
    """What ended the pod is said of the pod; of its container only that it was killed."""

    async def play() -> None:
        async with cluster(plane) as found:
            await found.submit(job("slow", image="steps:1", time_limit_s=1.0))
            state = await comes_to(found, "slow", "ended")
            assert state.why.startswith("its pod ended with DeadlineExceeded"), state
            await found.submit(job("unlucky", image="steps:1"))
            await comes_to(found, "unlucky", "running")
            plane.kill_pods("Evicted")
            state = await comes_to(found, "unlucky", "ended")
            assert state.why.startswith("its pod ended with Evicted (The node was low on resource"), state
            assert (state.out_of_memory, state.exit_code) == (False, 137)
            for name in ("slow", "unlucky"):
                await found.stop(f"noria-{name}-1", at_once=True)

    asyncio.run(play())


def test_the_output_of_a_job_is_read_from_its_pod(plane: Plane) -> None:
    said = Job(
        name="noria-chatty-1", command=["sh", "-c", "seq 1 60; sleep 60"], env={}, image="steps:1",
        labels={"pipeline": "p", "step": "s", "run": "r", "attempt": "1"},
    )  # fmt: skip

    async def play() -> None:
        async with cluster(plane) as found:
            await found.submit(said)
            await comes_to(found, "chatty", "running")
            for _ in range(100):
                if (await found.output(said.name)).endswith("60"):
                    break
                await asyncio.sleep(0.1)
            assert (await found.output(said.name)).splitlines() == [str(n) for n in range(11, 61)]
            await found.stop(said.name, at_once=True)
            await found.submit(job("mute", image="missing/steps:1"))
            await comes_to(found, "mute", "waiting", "ImagePullBackOff")
            assert await found.output("noria-mute-1") == ""
            await found.stop("noria-mute-1", at_once=True)

    asyncio.run(play())


def test_a_template_is_kept_and_its_mistakes_are_told(plane: Plane) -> None:
    async def play() -> None:
        container = {"name": "step", "volumeMounts": [{"name": "shared", "mountPath": "/shared"}]}
        pod = {
            "nodeSelector": {"disk": "ssd"},
            "automountServiceAccountToken": True,
            "containers": [container, {"name": "side", "image": "side:1"}],
            "volumes": [{"name": "shared", "emptyDir": {}}],
        }
        async with cluster(plane, template={"spec": {"template": {"spec": pod}}}) as found:
            await found.submit(job("templated", image="steps:1"))
            spec = kept(plane, "templated")["spec"]["template"]["spec"]
            assert spec["nodeSelector"] == {"disk": "ssd"} and spec["automountServiceAccountToken"] is True
            assert [c["name"] for c in spec["containers"]] == ["step", "side"]
            assert (
                spec["containers"][0]["image"] == "steps:1" and spec["containers"][0]["volumeMounts"][0]["name"] == "shared"
            )
            await found.stop("noria-templated-1", at_once=True)
        for wrong, path in (
            ({"backofLimit": 1}, "spec.backofLimit"),
            ({"template": {"spec": {"containers": [{"name": "x", "img": 1}]}}}, "img"),
        ):
            with pytest.raises(Invalid, match=path):
                async with cluster(plane, template={"spec": wrong}):
                    pass
        async with cluster(plane) as found:
            with pytest.raises(Broken, match="NORIA_KUBERNETES_IMAGE"):
                await found.submit(job("no-image"))

    asyncio.run(play())


def test_a_namespace_that_is_not_ours_is_told_before_the_first_step(plane: Plane) -> None:
    async def play() -> None:
        async with cluster(plane, namespace="theirs") as found:
            with pytest.raises(Unavailable, match="forbidden") as raised:
                await found.open()
            assert "kubectl auth can-i create jobs --namespace theirs" in raised.value.hint

    asyncio.run(play())


STEPS = """
import os, pathlib, time, urllib.request
import noria

@noria.step(image="steps:2")
def survive(folder: str) -> int:
    attempt = int(os.environ["NORIA_ATTEMPT"])
    pathlib.Path(folder, f"began-{attempt}").touch()
    while attempt == 1:
        time.sleep(0.2)
    return attempt

@noria.step(image="NoSuch")
def never() -> int:
    return 1

@noria.pipeline
def lossy(folder: str):
    never()
    return {"attempt": survive(folder)}
"""


def test_a_step_whose_pod_is_evicted_runs_again_and_one_that_never_starts_fails(plane: Plane, tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "lossy.py").write_text(STEPS)
    server = Server(tmp_path / "home")

    def noria(*args: str) -> str:
        env = {**os.environ, "NORIA_URL": server.url, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "noria.cli.main", *args]
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=True).stdout

    try:
        with server.worker(more=["--executor", "kubernetes"], settings=settings(plane)), server.api() as api:
            sent = [
                "--param",
                f"folder={tmp_path}",
                "--queue",
                "elsewhere",
                "--queue",
                "survive=kubernetes",
                "--queue",
                "never=kubernetes",
            ]
            run = json.loads(noria("pipeline", "run", str(tmp_path / "code" / "lossy.py"), *sent, "--no-wait", "--json"))
            assert run["queues"] == {"*": "elsewhere", "survive": "kubernetes", "never": "kubernetes"}
            until(lambda: (tmp_path / "began-1").exists())
            plane.kill_pods("Evicted")
            view = ended(api, run["id"])
            steps = {step["step"]["name"]: step for step in view["steps"]}
            assert [a["state"] for a in steps["survive"]["attempts"]] == ["lost", "succeeded"]
            assert "Evicted" in steps["survive"]["attempts"][0]["error"]
            assert (steps["survive"]["step"]["failures"], steps["survive"]["step"]["losses"]) == (0, 1)
            assert steps["survive"]["attempts"][1]["place"]["image"] == "steps:2"
            shown = noria("pipeline", "show", run["id"])
            assert f"kubernetes noria-{steps['survive']['step']['id']}-2 on " in shown, shown
            assert steps["never"]["step"]["state"] == "failed" and "InvalidImageName" in steps["never"]["step"]["error"]
    finally:
        server.stop()


LEFT = """
import os, pathlib, time
import noria

@noria.step
def travel(folder: str) -> int:
    attempt = int(os.environ["NORIA_ATTEMPT"])
    pathlib.Path(folder, f"travels-{attempt}").touch()
    while attempt == 1:
        time.sleep(0.2)
    return attempt

@noria.pipeline
def leaving(folder: str):
    return {"attempt": travel(folder)}
"""


@only_real
def test_a_step_whose_node_is_lost_runs_again_on_another(plane: KubernetesPlane, tmp_path: Path) -> None:
    """Nobody says how its pod ended: Kubernetes' controllers take the node for lost and make another pod, whose ticket is spent."""
    doomed, steady = plane.add_node("doomed"), plane.nodes["steady"]
    (tmp_path / "leaving.py.txt").write_text(LEFT)
    (tmp_path / "code").mkdir()
    server = Server(tmp_path / "home")
    try:
        with server.worker(more=["--executor", "kubernetes"], settings=settings(plane)), server.api() as api:
            steady.set_closed(True)
            with imported(tmp_path / "leaving.py.txt", tmp_path / "code") as module:
                run = module.leaving.submit(folder=str(tmp_path), api=api, queues={"*": "kubernetes"})
            until(lambda: (tmp_path / "travels-1").exists())
            steady.set_closed(False)
            doomed.vanish()
            view = ended(api, run["id"], patience_s=180.0)
            (step,) = view["steps"]
            assert [a["state"] for a in step["attempts"]] == ["lost", "succeeded"], step
            assert (step["step"]["failures"], step["step"]["losses"]) == (0, 1)
            assert step["attempts"][0]["error"], step
    finally:
        steady.set_closed(False)
        server.stop()
