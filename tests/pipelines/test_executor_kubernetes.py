"""Steps as Kubernetes Jobs, against a stand-in of the API server that really runs them."""

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
from noria.pipelines.worker.kubernetes import Kubernetes
from noria.pipelines.worker.remote import Job, State
from noria.pipelines.worker.server import Broken
from noria.testing.executor_contract import ExecutorContract, Played, play
from tests.pipelines.kubernetes_standin import ControlPlane
from tests.pipelines.processes import ROOT, Server, ended, until

pytestmark = pytest.mark.protocol


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    made = ControlPlane(tmp_path_factory.mktemp("plane"))
    yield made
    made.close()


def settings(plane: ControlPlane) -> dict[str, str]:
    return {"KUBECONFIG": str(plane.config), "NORIA_KUBERNETES_IMAGE": "ghcr.io/acme/steps:1"}


@pytest.fixture(scope="module")
def played(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
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


def test_what_a_step_asks_for_is_what_its_job_asks_for(played: Played, plane: ControlPlane) -> None:
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


def test_nothing_is_left_behind_but_what_a_killed_agent_could_not_remove(played: Played, plane: ControlPlane) -> None:
    left = [job["metadata"]["annotations"]["noria.dev/step"] for job in plane.jobs.values()]
    assert left == ["again"]  # ended by itself; Kubernetes removes it in time
    assert plane.seen[-1]["spec"]["ttlSecondsAfterFinished"] == 600
    assert not [pod for pod in plane.pods.values() if pod.process and pod.process.poll() is None]


def job(name: str, **more: Any) -> Job:
    labels = {"pipeline": "p", "step": "s", "run": "r", "attempt": "1"}
    return Job(name=f"noria-{name}-1", command=["sleep", "60"], env={}, labels=labels, **more)


@asynccontextmanager
async def cluster(
    plane: ControlPlane, *, namespace: str = "ml", template: dict[str, Any] | None = None
) -> AsyncIterator[Kubernetes]:
    client = AsyncClient(config=KubeConfig.from_file(plane.config).get(), namespace=namespace)
    made = Kubernetes(client, image="", gpu="nvidia.com/gpu", template=template or {})
    yield made
    await made.close()


async def comes_to(found: Kubernetes, name: str, phase: str, why: str = "") -> State:
    """What it says of a job, once that is of this phase for this reason."""
    for _ in range(100):
        state = await found.look(f"noria-{name}-1")
        if state.phase == phase and why in state.why:
            return state
        await asyncio.sleep(0.1)
    raise AssertionError(f"{name} is {state}")


def test_a_pod_that_cannot_start_says_why(plane: ControlPlane) -> None:
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


def test_a_template_is_kept_and_its_mistakes_are_told(plane: ControlPlane) -> None:
    async def play() -> None:
        container = {"name": "step", "volumeMounts": [{"name": "shared", "mountPath": "/shared"}]}
        pod = {
            "nodeSelector": {"disk": "ssd"},
            "automountServiceAccountToken": True,
            "containers": [container, {"name": "side"}],
        }
        async with cluster(plane, template={"spec": {"template": {"spec": pod}}}) as found:
            await found.submit(job("templated", image="steps:1"))
            spec = plane.seen[-1]["spec"]["template"]["spec"]
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


def test_a_namespace_that_is_not_ours_is_told_before_the_first_step(plane: ControlPlane) -> None:
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


def test_a_step_whose_pod_is_evicted_runs_again_and_one_that_never_starts_fails(plane: ControlPlane, tmp_path: Path) -> None:
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
