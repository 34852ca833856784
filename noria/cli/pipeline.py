"""`noria pipeline`: run, watch, cancel, resume; schedules and triggers."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from noria.cli import pipeline_control, pipeline_starts
from noria.cli.base import Group, api, emit, json_option
from noria.cli.pipeline_file import is_id, load, parse_params
from noria.kernel.errors import Invalid

FOLLOW_S = 0.5


@click.group(cls=Group)
def group() -> None:
    """Pipelines: run, watch, cancel, resume."""


@group.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List registered pipelines.

    \b
    Example:
      noria pipeline list
    """
    emit(list(api().items("/pipelines")), as_json=as_json, columns=["name", "version", "description", "updated_at_ms"])


@group.command()
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Show a pipeline with its steps, or a run with their states.

    \b
    Example:
      noria pipeline show flights
      noria pipeline show 0197c0de4f2a7b5e9d3c1a2b3c4d5e6f
    """
    if is_id(name):
        _show_run(name, as_json)
        return
    found = api().get(f"/pipelines/{name}")
    if as_json:
        emit(found, as_json=True)
        return
    spec = found.pop("spec")
    emit(found, columns=["name", "version", "description", "owner", "updated_at_ms"])
    click.echo(f"code         {spec['code'].get('commit', '')[:12] or 'no git'} {spec['code']['archive_digest'][:12]}")
    click.echo(f"parameters   {json.dumps({n: p.get('default') for n, p in spec['params'].items()})}\n")
    emit(
        [
            {"step": s["name"], "what": s.get("description", ""), "after": ", ".join(_parents(s)) or "–"}
            for s in spec["steps"]
        ],
        columns=["step", "after", "what"],
    )


def _parents(step: dict[str, Any]) -> list[str]:
    found = [source["step"] for source in _leaves(list(step.get("inputs", {}).values())) if source["from"] == "step"]
    return list(dict.fromkeys([*found, *step.get("after", [])]))


def _leaves(sources: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for source in sources:
        inner = source.get("items") if source["from"] in ("list", "dict") else None
        if inner is None:
            yield source
        else:
            yield from _leaves(list(inner.values()) if isinstance(inner, dict) else inner)


def _show_run(run_id: str, as_json: bool) -> None:
    view = api().get(f"/pipeline-runs/{run_id}")
    if as_json:
        emit(view, as_json=True)
        return
    emit(
        view["run"],
        columns=["id", "pipeline", "version", "state", "params", "actor", "created_at_ms", "ended_at_ms", "error"],
    )
    click.echo()
    rows = [
        {
            **s["step"],
            "took": _took(s["step"]),
            "where": _where(s["attempts"]),
            "why": s["waiting"] or s["step"].get("error") or s["step"].get("reason"),
        }
        for s in view["steps"]
    ]
    where = ["where"] if any(row["where"] for row in rows) else []  # in jobs of a cluster
    emit(rows, columns=["name", "state", "attempt", "took", *where, "id", "why"])
    if view["waiting"]:
        click.echo(f"\n{view['waiting']}", err=True)
    if not view["workers"] and view["run"]["state"] in ("queued", "running"):
        click.echo("\nNo worker is running; start one with: noria server", err=True)


def _where(attempts: list[dict[str, Any]]) -> str:
    """`slurm 4711 on node-3`; '' for a process of the worker's machine."""
    place = attempts[-1]["place"] if attempts else {}
    if not place.get("executor"):
        return ""
    return f"{place['executor']} {place['job']}" + (f" on {place['node']}" if place["node"] else "")


def _queues(given: tuple[str, ...]) -> dict[str, str]:
    """`kubernetes` and `train=gpu`, as a submission says it."""
    pairs = [text.rpartition("=")[::2] for text in given]
    return {step or "*": queue for step, queue in pairs}


def _took(step: dict[str, Any]) -> str:
    if not step.get("started_at_ms") or not step.get("ended_at_ms"):
        return "–"
    return f"{(step['ended_at_ms'] - step['started_at_ms']) / 1000:.2f} s"


@group.command()
@click.argument("what")
@click.option("--param", "params", multiple=True, help="key=value; the value is JSON, or else a text.")
@click.option("--name", default="", help="Which pipeline, when the file has several.")
@click.option(
    "--queue",
    "queues",
    multiple=True,
    help="Where steps go: NAME for all that name no queue, or STEP=NAME. Several times for several.",
)
@click.option("--wait/--no-wait", default=True, show_default=True, help="Follow the run to its end.")
@json_option
def run(what: str, params: tuple[str, ...], name: str, queues: tuple[str, ...], wait: bool, as_json: bool) -> None:
    """Run a pipeline: a FILE with its code, or the NAME of a registered one.

    \b
    Example:
      noria pipeline run pipeline.py --param dataset=flights@2
      noria pipeline run flights --no-wait
      noria pipeline run pipeline.py --queue kubernetes --queue train=gpu
    """
    given, sent = parse_params(params), _queues(queues)
    if what.endswith(".py"):
        submitted = load(Path(what), name).submit(given, api=api(), queues=sent)
    else:
        submitted = api().post(f"/pipelines/{what}/runs", {"params": given, "queues": sent})
    if not wait:
        emit(submitted, as_json=as_json, columns=["id", "pipeline", "version", "state"])
        return
    from noria.client.following import PipelineFailed, follow

    try:
        ended = follow(api(), submitted["id"], show=lambda line: click.echo(line, err=True))
    except PipelineFailed as failed:
        if as_json:
            emit(failed.run, as_json=True)
        raise click.ClickException(str(failed)) from None
    if as_json:
        emit(ended, as_json=True)
    else:
        click.echo(f"The run {ended['id']} succeeded.")


@group.command()
@click.argument("pipeline", required=False, default="")
@click.option("--state", default="", help="waiting, queued, running, succeeded, failed or cancelled.")
@click.option("--limit", default=20, show_default=True)
@json_option
def runs(pipeline: str, state: str, limit: int, as_json: bool) -> None:
    """List runs, newest first.

    \b
    Example:
      noria pipeline runs flights --state failed
    """
    found = api().get("/pipeline-runs", pipeline=pipeline or None, state=state or None, limit=limit)["items"]
    emit(found, as_json=as_json, columns=["id", "pipeline", "version", "state", "actor", "created_at_ms", "error"])


@group.command()
@click.argument("run_id")
@click.argument("step", required=False, default="")
@click.option("--follow", "-f", is_flag=True, help="Go on until the run ends.")
def logs(run_id: str, step: str, follow: bool) -> None:
    """Print what the steps of a run printed; one step's, if named.

    \b
    Example:
      noria pipeline logs 0197c0de4f2a7b5e9d3c1a2b3c4d5e6f train --follow
    """
    offsets: dict[str, int] = {}
    current = ""
    while True:
        view = api().get(f"/pipeline-runs/{run_id}")
        wanted = [s["step"] for s in view["steps"] if not step or s["step"]["name"] == step]
        if step and not wanted:
            raise Invalid(f"The run has no step {step!r}.", hint=", ".join(s["step"]["name"] for s in view["steps"]))
        for each in wanted:
            for text in _new_text(each, offsets):
                if each["name"] != current and not step:
                    current = each["name"]
                    click.secho(f"== {current}", bold=True)
                click.echo(text, nl=False)
        if not follow or view["run"]["state"] in ("succeeded", "failed", "cancelled"):
            return
        time.sleep(FOLLOW_S)


def _new_text(step: dict[str, Any], offsets: dict[str, int]) -> Iterator[str]:
    while step["log_bytes"] > offsets.get(step["id"], 0):
        found = api().get(f"/step-runs/{step['id']}/logs", offset=offsets.get(step["id"], 0))
        if not found["text"]:
            return
        offsets[step["id"]] = found["next"]
        yield found["text"]


for command in (*pipeline_control.COMMANDS, pipeline_starts.schedule, pipeline_starts.trigger, *pipeline_starts.COMMANDS):
    group.add_command(command)
