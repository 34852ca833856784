"""`noria pipeline`: run, watch, cancel, resume; schedules and triggers."""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from noria.cli.base import Group, api, emit, json_option
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
    if len(name) == 32 and all(c in "0123456789abcdef" for c in name):
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
        {**s["step"], "took": _took(s["step"]), "why": s["waiting"] or s["step"].get("error") or s["step"].get("reason")}
        for s in view["steps"]
    ]
    emit(rows, columns=["name", "state", "attempt", "took", "id", "why"])
    if not view["workers"] and view["run"]["state"] in ("queued", "running"):
        click.echo("\nNo worker is running; start one with: noria server", err=True)


def _took(step: dict[str, Any]) -> str:
    if not step.get("started_at_ms") or not step.get("ended_at_ms"):
        return "–"
    return f"{(step['ended_at_ms'] - step['started_at_ms']) / 1000:.2f} s"


@group.command()
@click.argument("what")
@click.option("--param", "params", multiple=True, help="key=value; the value is JSON, or else a text.")
@click.option("--name", default="", help="Which pipeline, when the file has several.")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Follow the run to its end.")
@json_option
def run(what: str, params: tuple[str, ...], name: str, wait: bool, as_json: bool) -> None:
    """Run a pipeline: a FILE with its code, or the NAME of a registered one.

    \b
    Example:
      noria pipeline run pipeline.py --param dataset=flights@2
      noria pipeline run flights --no-wait
    """
    given = parse_params(params)
    if what.endswith(".py"):
        submitted = _load(Path(what), name).submit(given, api=api())
    else:
        submitted = api().post(f"/pipelines/{what}/runs", {"params": given})
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


def parse_params(params: tuple[str, ...]) -> dict[str, Any]:
    """`a=1` as {"a": 1}; what is not JSON is a text. Raises Invalid."""
    found: dict[str, Any] = {}
    for text in params:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise Invalid(f"{text!r} is not key=value.", where="param")
        try:
            found[key] = json.loads(value)
        except ValueError:
            found[key] = value
    return found


def _load(file: Path, name: str) -> Any:
    """The pipeline in a file. Its folder comes first on the path, as when Python runs it."""
    from noria.client.pipeline import Pipeline

    if not file.is_file():
        raise Invalid(f"There is no file {file}.")
    root, parts = file.resolve().parent, [file.stem]
    while (root / "__init__.py").exists():
        parts.insert(0, root.name)
        root = root.parent
    sys.path.insert(0, str(root))
    module = importlib.import_module(".".join(parts))
    found = {
        p.name: p for p in vars(module).values() if isinstance(p, Pipeline) and p.function.__module__ == module.__name__
    }
    if name:
        if name not in found:
            raise Invalid(f"{file} has no pipeline {name!r}.", hint="It has: " + (", ".join(found) or "none") + ".")
        return found[name]
    if len(found) != 1:
        has = "no pipeline" if not found else "several pipelines: " + ", ".join(found)
        raise Invalid(
            f"{file} has {has}.", hint="Decorate one with @noria.pipeline." if not found else "Pick one with --name."
        )
    return next(iter(found.values()))


@group.command()
@click.argument("pipeline", required=False, default="")
@click.option("--state", default="", help="queued, running, succeeded, failed or cancelled.")
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


@group.command()
@click.argument("run_id")
@json_option
def cancel(run_id: str, as_json: bool) -> None:
    """Stop a run; its running steps are stopped too.

    \b
    Example:
      noria pipeline cancel 0197c0de4f2a7b5e9d3c1a2b3c4d5e6f
    """
    emit(api().post(f"/pipeline-runs/{run_id}/cancel"), as_json=as_json, columns=["id", "pipeline", "state"])


@group.command()
@click.argument("run_id")
@click.option("--file", "file", default="", help="Go on with the code of this file, which must have the same steps.")
@click.option("--name", default="", help="Which pipeline, when the file has several.")
@json_option
def resume(run_id: str, file: str, name: str, as_json: bool) -> None:
    """Go on with a failed or cancelled run; steps that succeeded are not repeated.

    \b
    Example:
      noria pipeline resume 0197c0de4f2a7b5e9d3c1a2b3c4d5e6f --file pipeline.py
    """
    version = None
    if file:
        params = api().get(f"/pipeline-runs/{run_id}")["run"]["params"]
        version = _load(Path(file), name).register(api(), params)["version"]
    found = api().post(f"/pipeline-runs/{run_id}/resume", {"version": version})
    emit(found, as_json=as_json, columns=["id", "pipeline", "version", "state"])


@group.group(cls=Group)
def schedule() -> None:
    """Runs at the times of a cron expression."""


@schedule.command("list")
@json_option
def list_schedules(as_json: bool) -> None:
    """List schedules.

    \b
    Example:
      noria pipeline schedule list
    """
    columns = ["name", "pipeline", "cron", "time_zone", "is_enabled", "next_at_ms", "last_at_ms", "error"]
    emit(list(api().items("/schedules")), as_json=as_json, columns=columns)


@schedule.command("create")
@click.argument("name")
@click.argument("pipeline")
@click.argument("cron")
@click.option("--time-zone", default="UTC", show_default=True)
@click.option("--param", "params", multiple=True, help="key=value; the value is JSON, or else a text.")
@json_option
def create_schedule(name: str, pipeline: str, cron: str, time_zone: str, params: tuple[str, ...], as_json: bool) -> None:
    """Run PIPELINE at the times of CRON.

    \b
    Example:
      noria pipeline schedule create weekly flights "0 3 * * 1" --time-zone Europe/Paris
    """
    body = {"name": name, "pipeline": pipeline, "cron": cron, "time_zone": time_zone, "params": parse_params(params)}
    emit(api().post("/schedules", body), as_json=as_json, columns=["name", "pipeline", "cron", "time_zone", "next_at_ms"])


@group.group(cls=Group)
def trigger() -> None:
    """Runs when something happens."""


@trigger.command("list")
@json_option
def list_triggers(as_json: bool) -> None:
    """List triggers.

    \b
    Example:
      noria pipeline trigger list
    """
    columns = ["name", "pipeline", "kinds", "is_enabled", "cooldown_s", "last_at_ms", "skipped", "error"]
    emit(list(api().items("/triggers")), as_json=as_json, columns=columns)


@trigger.command("create")
@click.argument("name")
@click.argument("pipeline")
@click.argument("kinds", nargs=-1, required=True)
@click.option(
    "--where", "conditions", multiple=True, help='A condition: "data.dataset = flights", "subject like monitor:*".'
)
@click.option("--param", "params", multiple=True, help='key=value; the value may hold parts of the fact: "${data.number}".')
@click.option("--cooldown", default="0s", show_default=True, help="How long to rest after a run, such as 6h.")
@json_option
def create_trigger(
    name: str, pipeline: str, kinds: tuple[str, ...], conditions: tuple[str, ...], params: tuple[str, ...], cooldown: str,
    as_json: bool,
) -> None:  # fmt: skip
    """Run PIPELINE when a fact of one of KINDS matches.

    \b
    Example:
      noria pipeline trigger create on-data flights dataset_version.committed \\
        --where "data.dataset = flights" --param 'dataset=flights@${data.number}' --cooldown 1h
    """
    from noria.client.durations import seconds

    body = {
        "name": name, "pipeline": pipeline, "kinds": list(kinds), "filter": [parse_condition(c) for c in conditions],
        "params": parse_params(params), "cooldown_s": seconds(cooldown),
    }  # fmt: skip
    emit(api().post("/triggers", body), as_json=as_json, columns=["name", "pipeline", "kinds", "filter", "cooldown_s"])


def parse_condition(text: str) -> dict[str, Any]:
    """`data.value >= 0.2` as its parts. Raises Invalid."""
    parts = text.split(None, 2)
    if len(parts) != 3 or parts[1] not in ("=", "!=", ">", ">=", "<", "<=", "like"):
        raise Invalid(f"{text!r} is not a condition.", where="where", hint='Write it as "data.dataset = flights".')
    try:
        value = json.loads(parts[2])
    except ValueError:
        value = parts[2]
    return {"field": parts[0], "op": parts[1], "value": value}


def _switches(parent: click.Group, path: str, what: str) -> None:
    """enable, disable and delete: the same for both."""

    def declare(verb: str, text: str, act: Any) -> None:
        @parent.command(verb, help=f"{text}\n\n\b\nExample:\n  noria pipeline {what} {verb} NAME")
        @click.argument("name")
        def command(name: str) -> None:
            act(name)
            click.echo(f"The {what} {name} is {verb}d.")

    declare("enable", f"Turn a {what} on.", lambda name: api().patch(f"/{path}/{name}", {"is_enabled": True}))
    declare("disable", f"Turn a {what} off.", lambda name: api().patch(f"/{path}/{name}", {"is_enabled": False}))
    declare("delete", f"Remove a {what}.", lambda name: api().delete(f"/{path}/{name}"))


_switches(schedule, "schedules", "schedule")
_switches(trigger, "triggers", "trigger")
