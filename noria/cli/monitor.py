"""`noria monitor`: watch an endpoint, read windows and alerts, see how good it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from noria.cli.base import Group, api, emit, json_option
from noria.client.durations import seconds
from noria.kernel.errors import Invalid
from noria.monitoring.model import MonitorSpec

LIST = ["name", "endpoint", "metric", "limit", "k_of_n", "state"]
WINDOWS = ["start_at_ms", "verdict", "value", "limit", "count", "coverage", "judgements", "why"]
ALERTS = ["id", "monitor", "state", "severity", "value", "limit", "opened_at_ms", "why"]
DRIFT = ["column", "is_drifted", "psi", "js", "ks", "wasserstein", "l_infinity", "q_value", "null_share", "explains"]
ESTIMATES = ["model_version", "start_at_ms", "estimated", "low", "high", "realised", "count", "labels", "note"]
LABELS = ["model_version", "start_at_ms", "predictions", "labels", "coverage", "delay_s_p50", "delay_s_p90", "delay_s_p99"]
SLICES = ["slice", "start_at_ms", "value", "low", "high", "count", "coverage"]
SKEW = ["column", "compared", "differ", "share", "low", "high", "example"]
GROUPS = ["group", "count", "positive", "low", "high", "deserving", "opportunity", "is_counted"]
GAPS = ["measure", "value", "low", "high", "p_value", "between"]
PERFORMANCE = ["group", "model_version", "start_at_ms", "value", "low", "high", "count", "coverage"]


@click.group(cls=Group)
def group() -> None:
    """Monitors and alerts."""


@group.command("list")
@click.option("--endpoint", default="", help="Only of this endpoint.")
@json_option
def list_(endpoint: str, as_json: bool) -> None:
    """List monitors and where they stand.

    \b
    Example:
      noria monitor list --endpoint flights
    """
    found = api().get("/monitors", endpoint=endpoint)["items"]
    emit(found if as_json else [_line(m) for m in found], as_json=as_json, columns=LIST)


@group.command()
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Show one monitor.

    \b
    Example:
      noria monitor show calibration
    """
    found = api().get(f"/monitors/{name}")
    emit(found if as_json else {**found.pop("spec"), **found}, as_json=as_json)


@group.command()
@click.argument("name")
@click.option("--limit", type=int, default=30, show_default=True)
@json_option
def windows(name: str, limit: int, as_json: bool) -> None:
    """List the judged windows of a monitor, newest first.

    \b
    Example:
      noria monitor windows calibration --limit 10
    """
    found = api().get(f"/monitors/{name}/windows", limit=limit)["items"]
    emit(found if as_json else [_dated(w) for w in found], as_json=as_json, columns=WINDOWS)


@group.command()
@click.argument("name", required=False)
@click.option(
    "-f", "--file", "path", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="The monitor as JSON."
)
@click.option("--endpoint", help="What to watch.")
@click.option("--metric", help="A metric: docs/guides/monitoring.md lists them.")
@click.option("--limit", type=float, help="Where too much begins.")
@click.option("--column", "columns", multiple=True, help="A feature to compare; all of the reference by default.")
@click.option("--reference", default="", help="dataset:NAME@VERSION, model:NAME@VERSION or traffic:FROM_MS-TO_MS.")
@click.option("--group", default="", help="Of a fairness metric: the input that names the groups.")
@click.option(
    "--alpha", type=float, default=0.01, show_default=True, help="How often chance may explain what opens an alert."
)
@click.option("--window", "window_s", type=int, default=86_400, show_default=True, help="Seconds of event time.")
@click.option("--lateness", "lateness_s", type=int, default=0, show_default=True, help="Seconds to wait for late truth.")
@click.option("--origin-ms", type=int, default=0, help="A time at which a window starts.")
@click.option("-k", "k", type=int, default=1, show_default=True, help="Windows over the limit that open an alert …")
@click.option("-n", "n", type=int, default=None, help="… among this many. Default: k.")
@click.option("--min-count", type=int, default=100, show_default=True, help="Fewer rows are not judged.")
@click.option("--severity", type=click.Choice(["warn", "alert"]), default="alert", show_default=True)
@click.option("--description", default="")
@json_option
def create(path: Path | None, n: int | None, columns: tuple[str, ...], as_json: bool, **fields: Any) -> None:
    """Watch an endpoint.

    \b
    Example:
      noria monitor create calibration --endpoint flights --metric calibration_gap --limit 0.1 --window 604800 -k 2 -n 3
      noria monitor create temperature --endpoint flights --metric psi --limit 0.25 --column temp --reference dataset:flights@1
    """
    if path is not None:
        body = msgspec.json.decode(path.read_bytes())
    else:
        missing = [f"--{name}" for name in ("endpoint", "metric", "limit") if fields[name] is None]
        if missing or not fields["name"]:
            raise click.UsageError("Give NAME, --endpoint, --metric and --limit, or a file with -f.")
        body = {**fields, "columns": list(columns), "n": n or fields["k"]}
    try:
        spec = msgspec.convert(body, MonitorSpec)
    except msgspec.ValidationError as cause:
        raise Invalid(f"The monitor cannot be read: {cause}.") from cause
    made = api().post("/monitors", msgspec.to_builtins(spec))
    if as_json:
        emit(made, as_json=True)
    else:
        click.echo(f"Watching. See it with: noria monitor windows {made['name']}")


@group.command()
@click.argument("name")
def remove(name: str) -> None:
    """Stop watching; windows and alerts stay.

    \b
    Example:
      noria monitor remove calibration
    """
    api().delete(f"/monitors/{name}")
    click.echo("No longer watching.")


@group.command()
@click.option("--monitor", default="", help="Only of this monitor.")
@click.option("--state", type=click.Choice(["open", "resolved"]), default=None)
@click.option("--limit", type=int, default=30, show_default=True)
@json_option
def alerts(monitor: str, state: str | None, limit: int, as_json: bool) -> None:
    """List alerts, newest first.

    \b
    Example:
      noria monitor alerts --state open
    """
    found = api().get("/alerts", monitor=monitor, state=state, limit=limit)["items"]
    emit(found, as_json=as_json, columns=ALERTS)


@group.command()
@click.argument("alert_id")
@json_option
def alert(alert_id: str, as_json: bool) -> None:
    """Show an alert, what led to it and what it led to.

    \b
    Example:
      noria monitor alert 0197c0de0f0a7f3e9c1d2b4a5e6f7a8b
    """
    found = api().get(f"/alerts/{alert_id}")
    if as_json:
        emit(found, as_json=True)
        return
    emit(found["alert"])
    click.echo()
    emit([*found["before"], *found["after"]], columns=["seq", "at_ms", "kind", "subject", "actor", "cause"])


@group.command()
@click.argument("alert_id")
@click.option("--reason", required=True, help="Why it is closed; kept in the record.")
def resolve(alert_id: str, reason: str) -> None:
    """Close an open alert by hand.

    \b
    Example:
      noria monitor resolve 0197c0de0f0a7f3e9c1d2b4a5e6f7a8b --reason "the sensor was replaced"
    """
    api().post(f"/alerts/{alert_id}/resolve", {"reason": reason})
    click.echo("Resolved.")


@group.command()
@click.argument("name")
@click.option("--for", "span", required=True, help="How long: 30m, 8h, 7d.")
@click.option("--reason", required=True, help="Why nobody is to be told; kept in the record.")
def mute(name: str, span: str, reason: str) -> None:
    """Open no alert for a while; windows are judged all the same.

    \b
    Example:
      noria monitor mute calibration --for 8h --reason "a holiday"
    """
    api().post(f"/monitors/{name}/mute", {"for_s": seconds(span), "reason": reason})
    click.echo(f"Muted for {span}.")


@group.command()
@click.argument("name")
def unmute(name: str) -> None:
    """Open alerts again.

    \b
    Example:
      noria monitor unmute calibration
    """
    api().post(f"/monitors/{name}/unmute", {})
    click.echo("It may open alerts again.")


@group.command()
@click.argument("name", required=False)
@click.option(
    "-f",
    "--file",
    "path",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A monitor as JSON, that need not exist.",
)
@click.option("--days", type=float, default=30, show_default=True, help="Days of event time before the latest answer.")
@click.option("--limit", type=float, default=None, help="Another limit.")
@click.option("--clear-limit", type=float, default=None, help="Another limit to resolve at.")
@click.option("-k", "k", type=int, default=None, help="Another k …")
@click.option("-n", "n", type=int, default=None, help="… of another n.")
@click.option("--window", "window_s", type=int, default=None, help="Another length of windows, in seconds.")
@click.option("--min-count", type=int, default=None, help="Another minimum of rows.")
@json_option
def backtest(name: str | None, path: Path | None, days: float, as_json: bool, **changes: Any) -> None:
    """Say how often a monitor would have opened an alert; nothing is written.

    \b
    Example:
      noria monitor backtest calibration --days 90 --limit 0.05
      noria monitor backtest -f monitor.json
    """
    if (name is None) == (path is None):
        raise click.UsageError("Give NAME of a monitor, or a file with -f.")
    spec = msgspec.json.decode(path.read_bytes()) if path is not None else api().get(f"/monitors/{name}")["spec"]
    spec |= {field: value for field, value in changes.items() if value is not None}
    spec["n"] = max(spec.get("n", 1), spec.get("k", 1))
    found = api().post("/monitors/backtest", {"spec": spec, "days": days})
    if as_json:
        emit(found, as_json=True)
        return
    emit(found["alerts"], columns=["opened_event_at_ms", "resolved_event_at_ms", "value", "why"])
    if found["words"]:
        click.echo(found["words"])
    if found["note"]:
        click.echo(found["note"])


@group.command()
@click.argument("endpoint")
@click.option("--metric", default="brier", show_default=True)
@click.option("--by", type=click.Choice(["revision"]), default=None, help="One line per revision.")
@click.option("--window", "window_s", type=int, default=86_400, show_default=True, help="Seconds of event time.")
@json_option
def performance(endpoint: str, metric: str, by: str | None, window_s: int, as_json: bool) -> None:
    """Show how good an endpoint's answers were, with late truth as far as it has come.

    \b
    Example:
      noria monitor performance flights --metric auc --by revision --window 604800
    """
    found = api().get(f"/endpoints/{endpoint}/performance", metric=metric, by=by, window_s=window_s)
    emit(found if as_json else [_dated(w) for w in found["items"]], as_json=as_json, columns=PERFORMANCE)


@group.command()
@click.argument("endpoint")
@click.option("--reference", default="", help="What to compare with; what the model was trained on by default.")
@click.option("--by", type=click.Choice(["version", "revision"]), default=None, help="One table per version or revision.")
@click.option("--window", "window_s", type=int, default=86_400, show_default=True, help="Seconds of event time.")
@click.option("--windows", type=int, default=1, show_default=True, help="How many windows, the latest first.")
@json_option
def drift(endpoint: str, reference: str, by: str | None, window_s: int, windows: int, as_json: bool) -> None:
    """Show how an endpoint's columns differ from what its model was trained on.

    \b
    Example:
      noria monitor drift flights --window 604800
      noria monitor drift flights --by version --reference dataset:flights@1
    """
    found = api().get(f"/endpoints/{endpoint}/drift", reference=reference, by=by, window_s=window_s, windows=windows)
    if as_json:
        emit(found, as_json=True)
        return
    for item in found["items"]:
        _drift_table(item)
    if not found["items"]:
        click.echo("No answers in these windows.")


@group.command()
@click.argument("endpoint")
@click.option("--metric", default="accuracy", show_default=True, help="accuracy, auc, f1, precision, recall, mae or rmse.")
@click.option(
    "--reference", default="", help="traffic:FROM_MS-TO_MS whose labels are learnt from; all before the windows by default."
)
@click.option("--by", type=click.Choice(["version", "revision"]), default=None, help="One line per version or revision.")
@click.option("--window", "window_s", type=int, default=86_400, show_default=True, help="Seconds of event time.")
@click.option("--windows", type=int, default=7, show_default=True, help="How many windows, the latest first.")
@json_option
def estimate(endpoint: str, as_json: bool, **query: Any) -> None:
    """Show how good answers are before their labels arrive, beside what the labels say by now.

    \b
    Example:
      noria monitor estimate flights --metric auc --window 604800
    """
    found = api().get(f"/endpoints/{endpoint}/estimates", **query)
    emit(found if as_json else [_dated(w) for w in found["items"]], as_json=as_json, columns=ESTIMATES)


@group.command()
@click.argument("endpoint")
@click.option("--by", type=click.Choice(["version", "revision"]), default=None, help="One line per version or revision.")
@click.option("--window", "window_s", type=int, default=86_400, show_default=True, help="Seconds of event time.")
@click.option("--windows", type=int, default=30, show_default=True, help="How many windows, the latest first.")
@json_option
def labels(endpoint: str, as_json: bool, **query: Any) -> None:
    """Show for how many answers the truth is known, and how late it comes.

    \b
    Example:
      noria monitor labels flights --windows 10
    """
    found = api().get(f"/endpoints/{endpoint}/labels", **query)
    emit(found if as_json else [_dated(w) for w in found["items"]], as_json=as_json, columns=LABELS)


@group.command()
@click.argument("endpoint")
@click.argument("column")
@click.option("--metric", default="accuracy", show_default=True)
@click.option("--window", "window_s", type=int, default=86_400, show_default=True, help="Seconds of event time.")
@click.option("--windows", type=int, default=1, show_default=True, help="How many windows, the latest first.")
@json_option
def slices(endpoint: str, column: str, as_json: bool, **query: Any) -> None:
    """Show how good answers are for each value, or range, of an input.

    \b
    Example:
      noria monitor slices flights carrier --metric auc --window 604800
    """
    found = api().get(f"/endpoints/{endpoint}/slices", column=column, **query)
    emit(found if as_json else [_dated(w) for w in found["items"]], as_json=as_json, columns=SLICES)


@group.command()
@click.argument("endpoint")
@click.option("--key", required=True, help="The dataset's column of what callers send as x-noria-key.")
@click.option("--reference", default="", help="dataset:NAME@VERSION; what the model was trained on by default.")
@click.option("--window", "window_s", type=int, default=86_400, show_default=True, help="Seconds of event time.")
@json_option
def skew(endpoint: str, as_json: bool, **query: Any) -> None:
    """Compare what the model was asked with what it was trained on, of the same entities, row by row.

    \b
    Example:
      noria monitor skew flights --key flight_id --window 604800
    """
    found = api().get(f"/endpoints/{endpoint}/skew", **query)
    if as_json:
        emit(found, as_json=True)
        return
    emit([{**c, "example": c["examples"][:1]} for c in found["items"]], columns=SKEW)
    click.echo(f"{found['matched']} of {found['answers']} answers have a row in {found['reference']}.")


@group.command()
@click.argument("endpoint")
@click.argument("column")
@click.option("--window", "window_s", type=int, default=86_400, show_default=True, help="Seconds of event time.")
@click.option("--windows", type=int, default=1, show_default=True, help="How many windows, the latest first.")
@click.option("--min-group", type=int, default=30, show_default=True, help="Groups with fewer answers are not compared.")
@json_option
def fairness(endpoint: str, column: str, as_json: bool, **query: Any) -> None:
    """Show how the groups that an input names are treated.

    \b
    Example:
      noria monitor fairness flights carrier --window 604800
    """
    found = api().get(f"/endpoints/{endpoint}/fairness", column=column, **query)
    if as_json:
        emit(found, as_json=True)
        return
    for item in found["items"]:
        rates = item["rates"]
        emit(rates["groups"], columns=GROUPS)
        emit([{"measure": n, **rates[n]} for n in ("parity_gap", "parity_ratio", "opportunity_gap")], columns=GAPS)


def _drift_table(item: dict[str, Any]) -> None:
    click.echo(
        f"{item['model_version']} against {item['reference']}: {len(item['drifted'])} of {len(item['columns'])} columns drifted, "
        f"{item['count']} answers."
    )
    emit(item["columns"], columns=DRIFT)
    if item["together"]:
        click.echo(f"Together: shift {item['together']['shift']:.3f}, p = {item['together']['p_value']:.2g}.")
    if item["note"]:
        click.echo(item["note"])
    click.echo()


def _line(monitor: dict[str, Any]) -> dict[str, Any]:
    spec = monitor["spec"]
    return {**monitor, "metric": spec["metric"], "limit": spec["limit"], "k_of_n": f"{spec['k']} of {spec['n']}"}


def _dated(window: dict[str, Any]) -> dict[str, Any]:
    return {**window, "start_at_ms": window["start_ms"]}
