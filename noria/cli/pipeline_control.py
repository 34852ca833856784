"""`noria pipeline`: what people do to runs: cancel, pause, answer, go on, start again, replay a step here."""

from __future__ import annotations

import shutil
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

import click
import msgspec

from noria.cli.base import api, emit, json_option
from noria.cli.pipeline_file import is_id, load, parse_params
from noria.kernel.errors import Invalid, NotFound


@click.command()
@click.argument("run_id")
@click.argument("step", required=False, default="")
@json_option
def cancel(run_id: str, step: str, as_json: bool) -> None:
    """Stop a run, or one STEP of it, or a backfill; what runs is stopped too.

    \b
    Example:
      noria pipeline cancel 0197c0de4f2a7b5e9d3c1a2b3c4d5e6f
      noria pipeline cancel 0197c0de4f2a7b5e9d3c1a2b3c4d5e6f train
    """
    if step:
        found = api().post(f"/step-runs/{_step_of(run_id, step)['id']}/cancel")
        emit(found, as_json=as_json, columns=["id", "name", "state", "stop_by"])
        return
    columns = ["id", "pipeline", "state"]
    try:
        emit(api().post(f"/pipeline-runs/{run_id}/cancel"), as_json=as_json, columns=columns)
    except NotFound:
        emit(api().post(f"/backfills/{run_id}/cancel"), as_json=as_json, columns=columns)


def _step_of(run_id: str, name: str) -> dict[str, Any]:
    """A step of a run, by its name. Raises Invalid."""
    steps = [s["step"] for s in api().get(f"/pipeline-runs/{run_id}")["steps"]]
    found = next((s for s in steps if s["name"] == name), None)
    if found is None:
        raise Invalid(f"The run has no step {name!r}.", hint=", ".join(s["name"] for s in steps if not s["parent_id"]))
    return dict(found)


@click.command()
@click.argument("what")
def pause(what: str) -> None:
    """Pause a run (begin nothing more of it), or by its name a pipeline (its schedules and triggers rest).

    \b
    Example:
      noria pipeline pause 0197c0de4f2a7b5e9d3c1a2b3c4d5e6f
      noria pipeline pause flights
    """
    api().post(f"/{_run_or_pipeline(what)}/pause")
    click.echo(f"{what} is paused.")


@click.command()
@click.argument("what")
def unpause(what: str) -> None:
    """Go on with what was paused: a run, or by its name a pipeline.

    \b
    Example:
      noria pipeline unpause flights
    """
    api().post(f"/{_run_or_pipeline(what)}/unpause")
    click.echo(f"{what} goes on.")


def _run_or_pipeline(what: str) -> str:
    return f"pipeline-runs/{what}" if is_id(what) else f"pipelines/{what}"


@click.command()
@click.argument("run_id")
@click.argument("step", required=False, default="")
@click.option("--comment", default="", help="Why.")
@json_option
def approve(run_id: str, step: str, comment: str, as_json: bool) -> None:
    """Say yes to what a run asks; STEP is needed only when it asks several things.

    \b
    Example:
      noria pipeline approve 0197c0de4f2a7b5e9d3c1a2b3c4d5e6f --comment "better on every segment"
    """
    _answer(run_id, step, "approve", comment, as_json)


@click.command()
@click.argument("run_id")
@click.argument("step", required=False, default="")
@click.option("--comment", required=True, help="Why not.")
@json_option
def reject(run_id: str, step: str, comment: str, as_json: bool) -> None:
    """Say no to what a run asks: what waits for the answer is passed over.

    \b
    Example:
      noria pipeline reject 0197c0de4f2a7b5e9d3c1a2b3c4d5e6f approve --comment "worse for new customers"
    """
    _answer(run_id, step, "reject", comment, as_json)


def _answer(run_id: str, step: str, verb: str, comment: str, as_json: bool) -> None:
    asking = [s["step"] for s in api().get(f"/pipeline-runs/{run_id}")["steps"] if s["step"]["state"] == "asking"]
    wanted = [s for s in asking if not step or s["name"] == step]
    if len(wanted) != 1:
        names = ", ".join(s["name"] for s in asking)
        raise Invalid(
            f"The run asks nothing{f' in {step}' if step else ''}." if not wanted else "The run asks several things.",
            hint=f"It asks in: {names}." if names else "noria pipeline show RUN tells where it is.",
        )
    found = api().post(f"/approvals/{wanted[0]['approval_id']}/{verb}", {"comment": comment})
    emit(found, as_json=as_json, columns=["id", "state", "subject", "comment", "votes"])


@click.command()
@click.argument("run_id")
@click.option("--file", "file", default="", help="Go on with the code of this file, which must have the same steps.")
@click.option("--name", default="", help="Which pipeline, when the file has several.")
@click.option("--from", "start", default="", help="Run this step again, and all that rests on it, also if they succeeded.")
@json_option
def resume(run_id: str, file: str, name: str, start: str, as_json: bool) -> None:
    """Go on with a failed or cancelled run; steps that succeeded are not repeated.

    \b
    Example:
      noria pipeline resume 0197c0de4f2a7b5e9d3c1a2b3c4d5e6f --file pipeline.py
      noria pipeline resume 0197c0de4f2a7b5e9d3c1a2b3c4d5e6f --from train
    """
    version = None
    if file:
        params = api().get(f"/pipeline-runs/{run_id}")["run"]["params"]
        version = load(Path(file), name).register(api(), params)["version"]
    found = api().post(f"/pipeline-runs/{run_id}/resume", {"version": version, "start": start})
    emit(found, as_json=as_json, columns=["id", "pipeline", "version", "state"])


@click.command()
@click.argument("run_id")
@click.option("--param", "-p", "params", multiple=True, help="key=value: what is to be different.")
@click.option("--latest", is_flag=True, help="With the pipeline's latest version instead of the run's.")
@json_option
def rerun(run_id: str, params: tuple[str, ...], latest: bool, as_json: bool) -> None:
    """Start a new run with the version and parameters of another, some of them changed.

    \b
    Example:
      noria pipeline rerun 0197c0de4f2a7b5e9d3c1a2b3c4d5e6f -p rate=0.1
    """
    version = None
    if latest:
        run = api().get(f"/pipeline-runs/{run_id}")["run"]
        version = api().get(f"/pipelines/{run['pipeline']}")["version"]
    found = api().post(f"/pipeline-runs/{run_id}/rerun", {"params": parse_params(params), "version": version})
    emit(found, as_json=as_json, columns=["id", "pipeline", "version", "state", "params"])


@click.command()
@click.argument("run_id")
@click.argument("step")
@click.option("--pdb", "debug", is_flag=True, help="Under Python's debugger, also where the step raises.")
def replay(run_id: str, step: str, debug: bool) -> None:
    """Run one STEP of a run here, with the code and inputs it had. Nothing is written to the server.

    \b
    Example:
      noria pipeline replay 0197c0de4f2a7b5e9d3c1a2b3c4d5e6f train --pdb
    """
    from noria.client.replay import replay as run
    from noria.pipelines.model.runs import Replay

    connection = api()
    found = connection.post(f"/step-runs/{_step_of(run_id, step)['id']}/replay")
    folder = Path(tempfile.mkdtemp(prefix="noria-replay-"))
    try:
        returned = run(connection, msgspec.convert(found, Replay), connection.url, folder, debug=debug)
    except Exception as error:
        traceback.print_exc()
        raise click.ClickException(f"{step} raised {type(error).__name__}.") from None
    finally:
        sys.stdout.flush()
        shutil.rmtree(folder, ignore_errors=True)
    click.echo(f"{step} returned {returned!r:.2000}")


@click.command()
@click.argument("run_id")
@click.argument("step", required=False, default="")
@json_option
def trials(run_id: str, step: str, as_json: bool) -> None:
    """The trials of a sweep, the best first; STEP names the sweep when a run has several.

    \b
    Example:
      noria pipeline trials 0197c0de4f2a7b5e9d3c1a2b3c4d5e6f
    """
    steps = [s["step"] for s in api().get(f"/pipeline-runs/{run_id}")["steps"] if s["step"]["kind"] == "sweep"]
    found = [s for s in steps if s["name"] == step] if step else steps
    if len(found) != 1:
        names = ", ".join(s["name"] for s in steps)
        raise Invalid(
            f"The run has no sweep {step!r}." if step else "Which sweep?" if steps else "The run has no sweep.", hint=names
        )
    sweep = api().get(f"/step-runs/{found[0]['id']}/trials")
    sign = 1 if sweep["spec"]["direction"] == "minimize" else -1
    ordered = sorted(sweep["trials"], key=lambda t: (t["value"] is None, sign * (t["value"] or 0), t["number"]))
    rows = [
        {
            "trial": t["number"],
            "value": t["value"],
            **t["params"],
            "outcome": t["outcome"],
            "why": t["reason"],
        }
        for t in ordered
    ]
    emit(
        ordered if as_json else rows, as_json=as_json, columns=["trial", "value", *sweep["spec"]["space"], "outcome", "why"]
    )


COMMANDS = (cancel, pause, unpause, approve, reject, resume, rerun, replay, trials)
