"""What Slurm's commands may answer, and what is made of it: only "Invalid job id" says that a job is gone."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from noria.pipelines.worker.remote import Away, Job
from noria.pipelines.worker.server import Broken
from noria.pipelines.worker.slurm import Slurm

JOB = Job(
    name="noria-1-1", command=["true"], env={}, labels={"pipeline": "p", "step": "s", "run": "r", "attempt": "1"},
    cpu=1, gpu=0, memory_bytes=None, image="", time_limit_s=None,
)  # fmt: skip


def answering(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *answers: str | Exception
) -> tuple[Slurm, list[tuple[str, ...]]]:
    """A cluster whose commands answer these, in turn, and what was typed."""
    slurm, typed, waiting = Slurm(tmp_path, []), list[tuple[str, ...]](), list(answers)

    async def run(*args: str, **_: Any) -> str:
        typed.append(args)
        answer = waiting.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(slurm, "_run", run)
    return slurm, typed


def test_a_refusal_says_nothing_about_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = Broken("slurm_load_jobs error: Protocol authentication error")
    slurm, _ = answering(tmp_path, monkeypatch, "7\n", refusal)
    asyncio.run(slurm.submit(JOB))
    with pytest.raises(Away, match="authentication"):
        asyncio.run(slurm.look("7"))


def test_a_job_that_slurm_forgot_is_gone_and_the_others_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = Broken("slurm_load_jobs error: Invalid job id specified")
    slurm, _ = answering(tmp_path, monkeypatch, "7\n", "8\n", unknown, unknown, "8|RUNNING|None\n")

    async def both() -> tuple[str, str]:
        await slurm.submit(JOB)
        await slurm.submit(Job(**{f: getattr(JOB, f) for f in JOB.__struct_fields__} | {"name": "noria-2-1"}))
        first = await slurm.look("8")
        return first.phase, slurm._known.get("7", first).phase if "7" in slurm._known else "gone"

    assert asyncio.run(both()) == ("running", "gone")


def test_a_submission_whose_answer_was_lost_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slurm, typed = answering(tmp_path, monkeypatch, Away("Socket timed out"), "7\n", "", "9\n")
    with pytest.raises(Away):
        asyncio.run(slurm.submit(JOB))
    assert asyncio.run(slurm.submit(JOB)) == "7"  # it was queued all the same
    assert [args[0] for args in typed] == ["sbatch", "squeue"]
    slurm._tried.add(JOB.name)
    assert asyncio.run(slurm.submit(JOB)) == "9"  # it was not
