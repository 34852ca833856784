"""`noria pipeline schedule`, `trigger` and `backfill`: what starts runs without a person at each."""

from __future__ import annotations

import time
from typing import Any

import click

from noria.cli.base import Group, api, emit, json_option
from noria.cli.pipeline_file import is_id, parse_params

FOLLOW_S = 1.0


@click.group(cls=Group)
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
@click.option(
    "--catch-up",
    type=click.Choice(["latest", "all", "none"]),
    default="latest",
    show_default=True,
    help="Which of the times that pass while no server runs are run.",
)
@click.option("--param", "params", multiple=True, help="key=value; the value is JSON, or else a text.")
@json_option
def create_schedule(
    name: str, pipeline: str, cron: str, time_zone: str, catch_up: str, params: tuple[str, ...], as_json: bool
) -> None:  # fmt: skip
    """Run PIPELINE at the times of CRON. A parameter may hold ${date} or ${at}: the time, in the time zone.

    \b
    Example:
      noria pipeline schedule create weekly flights "0 3 * * 1" --time-zone Europe/Paris
    """
    body = {
        "name": name, "pipeline": pipeline, "cron": cron, "time_zone": time_zone, "catch_up": catch_up,
        "params": parse_params(params),
    }  # fmt: skip
    emit(api().post("/schedules", body), as_json=as_json, columns=["name", "pipeline", "cron", "time_zone", "next_at_ms"])


@click.group(cls=Group)
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
@click.argument("kinds", nargs=-1)
@click.option("--files", "url", default="", help="Instead of KINDS: a folder or store in which files arrive.")
@click.option("--pattern", default="*", show_default=True, help="Which files: * stands for anything.")
@click.option("--hook", "is_hook", is_flag=True, help="Instead of KINDS: signed messages to /api/v1/hooks/NAME.")
@click.option(
    "--where", "conditions", multiple=True, help='A condition: "data.dataset = flights", "subject like monitor:*".'
)
@click.option("--param", "params", multiple=True, help='key=value; the value may hold parts of the fact: "${data.number}".')
@click.option("--cooldown", default="0s", show_default=True, help="How long to rest after a run, such as 6h.")
@json_option
def create_trigger(
    name: str, pipeline: str, kinds: tuple[str, ...], url: str, pattern: str, is_hook: bool, conditions: tuple[str, ...],
    params: tuple[str, ...], cooldown: str, as_json: bool,
) -> None:  # fmt: skip
    """Run PIPELINE when a fact of one of KINDS matches, when a file arrives, or when a signed message comes.

    \b
    Example:
      noria pipeline trigger create on-data flights dataset_version.committed \\
        --where "data.dataset = flights" --param 'dataset=flights@${data.number}' --cooldown 1h
      noria pipeline trigger create on-file flights --files /data/in --pattern '*.csv' --param 'file=${data.url}'
      noria pipeline trigger create on-push flights --hook --where "data.body.ref = refs/heads/main"
    """
    from noria.client.durations import seconds

    body = {
        "name": name, "pipeline": pipeline, "kinds": list(kinds), "filter": [parse_condition(c) for c in conditions],
        "params": parse_params(params), "cooldown_s": seconds(cooldown), "is_hook": is_hook,
        "files": {"url": url, "pattern": pattern} if url else None,
    }  # fmt: skip
    found = api().post("/triggers", body)
    emit(found, as_json=as_json, columns=["name", "pipeline", "kinds", "filter", "cooldown_s"])
    if found.get("secret") and not as_json:
        _show_secret(name, found["secret"])


def _show_secret(name: str, secret: str) -> None:
    click.echo(f"\nMessages go to {api().url}/api/v1/hooks/{name}, signed with {secret}\nIt is not shown again.")


@trigger.command("secret")
@click.argument("name")
@json_option
def renew_secret(name: str, as_json: bool) -> None:
    """Make the secret of a hook, or make it anew; the one before is void.

    \b
    Example:
      noria pipeline trigger secret on-push
    """
    found = api().post(f"/triggers/{name}/secret")
    if as_json:
        emit(found, as_json=True)
    else:
        _show_secret(name, found["secret"])


def parse_condition(text: str) -> dict[str, Any]:
    """`data.value >= 0.2` as its parts. Raises Invalid."""
    from noria.client.starts import condition

    found = condition(text)
    return {"field": found.field, "op": found.op, "value": found.value}


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


@click.command()
@click.argument("pipeline")
@click.option("--param", "param", required=True, help="The parameter that is the date.")
@click.option("--from", "first", required=True, help="The first date: 2026-03-01, or 2026-03-01T05:00.")
@click.option("--to", "last", required=True, help="The last one; it is done too.")
@click.option("--step", type=click.Choice(["hour", "day", "week"]), default="day", show_default=True)
@click.option("--parallel", default=1, show_default=True, help="How many runs go on at once.")
@click.option("-p", "params", multiple=True, help="key=value: another parameter, the same for every date.")
@click.option("--again", is_flag=True, help="Also what an earlier backfill did.")
@click.option("--wait/--no-wait", default=False, show_default=True, help="Show the progress until it ends.")
@json_option
def backfill(
    pipeline: str, param: str, first: str, last: str, step: str, parallel: int, params: tuple[str, ...], again: bool,
    wait: bool, as_json: bool,
) -> None:  # fmt: skip
    """Run PIPELINE once for each date. The server does it; this command may end.

    \b
    Example:
      noria pipeline backfill flights --param day --from 2026-03-01 --to 2026-03-31 --parallel 4
    """
    body = {
        "param": param, "first": first, "last": last, "step": step, "parallel": parallel, "params": parse_params(params),
        "again": again,
    }  # fmt: skip
    found = api().post(f"/pipelines/{pipeline}/backfills", body)
    said = ""
    while wait and found["state"] == "running":
        time.sleep(FOLLOW_S)
        found = api().get(f"/backfills/{found['id']}")
        if said != (said := _progress(found)):
            click.echo(said, err=True)
    emit(found, as_json=as_json, columns=_BACKFILL_COLUMNS)
    if wait and found["state"] != "succeeded":
        raise click.ClickException(f"The backfill {found['state']}: noria pipeline backfills {found['id']}")


_BACKFILL_COLUMNS = ["id", "pipeline", "param", "first", "last", "step", "state", "counts", "error"]


def _progress(found: dict[str, Any]) -> str:
    counts = found["counts"]
    ended = sum(count for state, count in counts.items() if state not in ("waiting", "running"))
    return f"{ended} of {sum(counts.values())}: " + ", ".join(f"{count} {state}" for state, count in counts.items())


@click.command()
@click.argument("what", required=False, default="")
@json_option
def backfills(what: str, as_json: bool) -> None:
    """List backfills, newest first: all, or those of a pipeline; or by its id show one with its dates.

    `noria pipeline cancel ID` stops one.

    \b
    Example:
      noria pipeline backfills flights
      noria pipeline backfills 0197c0de4f2a7b5e9d3c1a2b3c4d5e6f
    """
    if not is_id(what):
        found = list(api().items("/backfills", pipeline=what or None))
        emit(found, as_json=as_json, columns=_BACKFILL_COLUMNS)
        return
    one = api().get(f"/backfills/{what}")
    parts = list(api().items(f"/backfills/{what}/parts"))
    if as_json:
        emit({**one, "parts": parts}, as_json=True)
        return
    emit(one, columns=_BACKFILL_COLUMNS)
    click.echo()
    emit(parts, columns=["value", "state", "run_id", "reason"])


COMMANDS = (backfill, backfills)
