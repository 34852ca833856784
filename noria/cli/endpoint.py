"""`noria endpoint`: models that answer."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import click
import httpx

from noria.cli.base import Group, api, emit, json_option
from noria.cli.endpoint_example import example
from noria.cli.endpoint_log import log, query, recording
from noria.client.api import token_for
from noria.kernel.errors import Invalid, Unavailable

WAIT_S = 120.0
BUILD_WAIT_S = 1800.0  # for the next step of what a node is doing, such as a large package that is fetched
POLL_S = 0.2


@click.group(cls=Group)
def group() -> None:
    """Endpoints: models that answer."""


@group.command()
@click.argument("model")
@click.option("--name", default="", help="The endpoint; the model's name by default.")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Until it answers, or says why it cannot.")
@click.option("--max-in-flight", type=int, default=1024, show_default=True, help="Requests that may wait; then 429.")
@click.option("--timeout-ms", type=int, default=30_000, show_default=True, help="Deadline of a request that brings none.")
@click.option(
    "--engine", type=click.Choice(["original", "onnx"]), default="original", show_default=True,
    help="onnx: converted, if the answers stay the same.",
)  # fmt: skip
@click.option(
    "--environment", type=click.Choice(["default", "auto", "own", "server", "offline"]), default="default", show_default=True,
    help="Where it runs; auto: its own environment unless the server's has what it needs.",
)  # fmt: skip
@click.option(
    "--network-port",
    "network_ports",
    type=int,
    multiple=True,
    help="A TCP port that the model's code may connect to; 0: any.",
)
@click.option("--min-replicas", type=int, default=1, show_default=True, help="Workers; 0: none while nobody asks.")
@click.option("--max-replicas", type=int, default=1, show_default=True, help="Workers when many ask.")
@click.option("--target-in-flight", type=int, default=8, show_default=True, help="Requests per worker that start another.")
@click.option(
    "--idle-s", type=float, default=300.0, show_default=True, help="How long a worker must be dispensable to be ended."
)
@click.option(
    "--rate", "rate_per_s", type=float, default=0.0, help="Requests a second of each caller; then 429.  [default: any]"
)
@click.option("--burst", type=int, default=0, help="How many of them at once.  [default: those of a second]")
@click.option("--memory-mb", type=int, default=0, help="Memory of a worker; beyond it it is ended.  [default: the node's]")
@click.option("--disk-mb", type=int, default=0, help="What it may keep in files, the same.  [default: the node's]")
@click.option("--max-tasks", type=int, default=0, help="Its processes and threads, the same.  [default: the node's]")
@json_option
def deploy(model: str, name: str, wait: bool, as_json: bool, **config: Any) -> None:
    """Serve MODEL@SELECTOR with all the traffic.

    \b
    Example:
      noria endpoint deploy flights@champion --name flights
      noria endpoint deploy flights@champion --min-replicas 0 --max-replicas 4 --rate 50
    """
    name = name or model.removeprefix("model:").partition("@")[0]
    body = {"model": model, "config": {**config, "network_ports": list(config["network_ports"])}}
    revision = api().post(f"/endpoints/{name}/deploy", body)
    if wait:
        revision = _wait(revision["id"], name)
    if as_json:
        emit(revision, as_json=True)
    else:
        click.echo(f"{name} serves {revision['model']}@{revision['model_version']}" + (" now." if wait else " soon."))
        if row := example(api(), revision["model"], revision["model_version"]):
            click.echo(f"       Ask it: noria endpoint predict {name} {shlex.quote(row)}")


def _wait(revision_id: str, name: str) -> Any:
    """The revision once it is ready; tells what it waits for. Raises Invalid with the worker's words."""
    until_s, told = time.monotonic() + WAIT_S, ""
    while time.monotonic() < until_s:
        found = api().get(f"/revisions/{revision_id}")
        if found["state"] == "failed":
            last = found["error"].strip().splitlines()[-1:]
            raise Invalid(
                f"{found['model']}@{found['model_version']} cannot be loaded: {''.join(last)}", hint=found["error"].strip()
            )
        if found["state"] != "pending":
            return found
        doing = next(
            (r["doing"] for r in api().get(f"/endpoints/{name}")["replicas"] if r["revision_id"] == revision_id), ""
        )
        if doing and doing != told:
            told, until_s = doing, time.monotonic() + BUILD_WAIT_S
            click.echo(f"  {doing}", err=True)
        time.sleep(POLL_S)
    raise Unavailable(
        f"No serving node loaded it within {WAIT_S:.0f} s.", hint="Is a server running? noria server starts one."
    )


@group.command()
@click.argument("name")
@json_option
def status(name: str, as_json: bool) -> None:
    """Show the workers of an endpoint: state, what they wait for, where they run, what is kept from them.

    \b
    Example:
      noria endpoint status flights
    """
    found = api().get(f"/endpoints/{name}")
    versions = {r["id"]: f"{r['model']}@{r['model_version']}" for r in found["revisions"]}
    roles = {r["revision_id"]: r["role"] for r in found["endpoint"]["routes"]}
    rows = [
        {"model": versions.get(r["revision_id"], ""), "role": roles.get(r["revision_id"], "–"), **r}
        for r in found["replicas"]
    ]
    if as_json:
        emit(rows, as_json=True)
        return
    for row in rows:
        click.echo(
            f"{row['model']} ({row['role']}) on {row['node']}: {row['state']}"
            + (f", pid {row['pid']}" if row["pid"] else "")
        )
        for what in ("doing", "environment", "engine", "isolation", "error"):
            if row[what]:
                click.echo(f"  {what}: {row[what]}")
    failed = next((r for r in found["revisions"] if r["state"] == "failed"), None)
    if failed is not None and failed["number"] == max(r["number"] for r in found["revisions"]):
        click.echo(f"{versions[failed['id']]} failed: {failed['error'].strip()}")


@group.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List endpoints.

    \b
    Example:
      noria endpoint list
    """
    found = list(api().items("/endpoints"))
    if as_json:
        emit(found, as_json=True)
        return
    emit([{"name": e["name"], "status": e["status"], "routes": _shares(e["routes"]), "model": e["model"]} for e in found])


def _shares(routes: list[Any]) -> str:
    return ", ".join(f"{r['role']} {r['model_version']} {r['weight']} %" for r in routes) or "none yet"


@group.command()
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Show an endpoint: routes, revisions, canary, workers.

    \b
    Example:
      noria endpoint show flights
    """
    found = api().get(f"/endpoints/{name}")
    if as_json:
        emit(found, as_json=True)
        return
    endpoint, canary = found["endpoint"], found["canary"]
    emit(
        {
            "name": name,
            "status": endpoint["status"],
            "routes": _shares(endpoint["routes"]),
            "generation": endpoint["generation"],
        }
    )
    if canary:
        click.echo(
            f"canary: version {canary['model_version']}, {canary['state']}, step {canary['step'] + 1} of {canary['steps']}"
        )
    click.echo()
    emit(found["revisions"], columns=["number", "model", "model_version", "state", "created_at_ms", "actor"])
    click.echo()
    emit(found["replicas"], columns=["node", "revision_id", "state", "pid", "restarts", "engine", "error"])


@group.command()
@click.argument("model")
@click.option("--name", default="", help="The endpoint; the model's name by default.")
@click.option(
    "--step", "steps", type=int, multiple=True, help="A share in percent; may be given several times. Default: 25, 50."
)
@click.option("--max-error-share", type=float, default=0.02, show_default=True, help="How much more of it may fail.")
@click.option("--metric", default="brier", show_default=True, help="Whose loss is tested as truth arrives: brier, accuracy.")
@click.option("--max-worse", type=float, default=0.0, show_default=True, help="How much worse that loss may be.")
@click.option("--min-labels", type=int, default=100, show_default=True, help="Labels of the canary before each step.")
@click.option("--max-latency-ratio", type=float, default=None, help="Its p95 over the champion's.  [default: any]")
@click.option(
    "--max-score-psi", type=float, default=None, help="How far its scores may be from the champion's.  [default: any]"
)
@click.option("--max-fairness-gap", type=float, default=None, help="How much more groups may differ.  [default: any]")
@click.option("--fairness-column", default="", help="The input that names the groups.")
@json_option
def canary(model: str, name: str, steps: tuple[int, ...], as_json: bool, **guard: Any) -> None:
    """Try MODEL@SELECTOR on a share of the traffic.

    \b
    Example:
      noria endpoint canary flights@4 --name flights --step 25 --step 50
    """
    name = name or model.removeprefix("model:").partition("@")[0]
    body = {"model": model, "steps": list(steps) or [25, 50], "guard": guard}
    made = api().post(f"/endpoints/{name}/canary", body)
    if as_json:
        emit(made, as_json=True)
    else:
        click.echo(f"{name} tries version {made['model_version']} on {made['steps'][0]} % once it is loaded.")


@group.command()
@click.argument("name")
def advance(name: str) -> None:
    """Give the canary its next share.

    \b
    Example:
      noria endpoint advance flights
    """
    moved = api().post(f"/endpoints/{name}/advance")
    click.echo(f"Version {moved['model_version']} gets {moved['steps'][moved['step']]} % of {name}.")


@group.command()
@click.argument("name")
def promote(name: str) -> None:
    """Make the canary the champion.

    \b
    Example:
      noria endpoint promote flights
    """
    ended = api().post(f"/endpoints/{name}/promote")
    click.echo(f"Version {ended['model_version']} is the champion of {name}.")


@group.command()
@click.argument("name")
@click.option("--reason", default="asked for on the command line", show_default=True, help="Kept in the record.")
def rollback(name: str, reason: str) -> None:
    """End the canary, or return to the previous champion; at once.

    \b
    Example:
      noria endpoint rollback flights --reason "customers complain"
    """
    now = api().post(f"/endpoints/{name}/rollback", {"reason": reason})
    click.echo(f"{name}: {_shares(now['routes'])}.")


@group.command()
@click.argument("model")
@click.option("--name", required=True, help="The endpoint.")
def shadow(model: str, name: str) -> None:
    """Let MODEL@SELECTOR answer copies of all requests, to nobody; 'none' ends it.

    \b
    Example:
      noria endpoint shadow flights@5 --name flights
    """
    now = api().post(f"/endpoints/{name}/shadow", {"model": "" if model == "none" else model})
    click.echo(f"{name}: {_shares(now['routes'])}.")


@group.command()
@click.argument("name")
@click.argument("rows")
@click.option("--key", default="", help="Sticky key and entity key.")
@click.option("--gateway", envvar="NORIA_GATEWAY_URL", default="", help="The gateway; the server's port + 1 by default.")
@click.option("--token", default="", help="The token, where accounts exist.  [default: NORIA_TOKEN, or of noria login]")
@json_option
def predict(name: str, rows: str, key: str, gateway: str, token: str, as_json: bool) -> None:
    """Ask an endpoint. ROWS is a JSON list of records, a file of them, or - for standard input.

    \b
    Example:
      noria endpoint predict flights '[{"hour": 17, "distance": 733, "backlog": 12, "temp": 39,
        "wind_speed": 11.5, "precip": 0, "visib": 10}]'
    """
    text = sys.stdin.read() if rows == "-" else rows
    if not text.lstrip().startswith(("[", "{")) and Path(text).is_file():
        text = Path(text).read_text()
    try:
        records = json.loads(text)
    except ValueError as cause:
        raise Invalid(
            "ROWS is neither a file nor JSON.", where="ROWS", hint="Write it as '[{\"column\": value}]'."
        ) from cause
    token = token or token_for(api().url)
    headers = {k: v for k, v in (("x-noria-key", key), ("authorization", f"Bearer {token}" if token else "")) if v}
    url = (gateway or _gateway()).rstrip("/") + f"/endpoints/{name}/invocations"
    try:
        answer = httpx.post(
            url, json={"dataframe_records": records if isinstance(records, list) else [records]}, headers=headers
        )
    except httpx.TransportError as cause:
        raise Unavailable(f"No gateway answers at {url}.", hint="Start one with: noria server.") from cause
    if answer.is_error:
        raise Invalid(answer.json().get("message", answer.text))
    found = answer.json()["predictions"]
    if as_json:
        emit({"predictions": found, "prediction_id": answer.headers["x-noria-prediction-id"]}, as_json=True)
    else:
        for value in found:
            click.echo(json.dumps(value))
        click.echo(f"{answer.headers['x-noria-model']}, prediction {answer.headers['x-noria-prediction-id']}", err=True)


@group.command()
@click.argument("model")
@click.argument("dataset")
@click.option("--output", default="", help="The dataset that gets the predictions.  [default: DATASET-scored]")
@click.option(
    "--keep", multiple=True, help="A column to keep beside them; '*' for all, 'none' for none.  [default: the key, or all]"
)
@click.option("--chunk-rows", type=int, default=100_000, show_default=True, help="Rows in one step.")
@click.option("--record", is_flag=True, help="Also into the endpoint's record, like live predictions.")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Follow the run to its end.")
@json_option
def score(
    model: str, dataset: str, output: str, keep: tuple[str, ...], chunk_rows: int, record: bool, wait: bool, as_json: bool
) -> None:
    """Score every row of a dataset version; the predictions become a dataset version.

    MODEL is a version, such as flights@champion, or the name of an endpoint, for what it serves. What was scored once by the
    same model is not scored again; a run that was interrupted goes on.

    \b
    Example:
      noria endpoint score flights@champion arrivals@latest --keep id
      noria endpoint score flights arrivals@3 --output arrivals-predicted --record
    """
    from noria.client.following import PipelineFailed, follow
    from noria.client.scoring.request import scored, submit

    kept = [] if list(keep) == ["none"] else list(keep) or None
    run = submit(api(), model, dataset, output=output, keep=kept, chunk_rows=chunk_rows, record=record)
    if not wait:
        emit(run, as_json=as_json, columns=["id", "pipeline", "version", "state"])
        return
    try:
        ended = follow(api(), run["id"], show=lambda line: click.echo(line, err=True))
    except PipelineFailed as failed:
        if as_json:
            emit(failed.run, as_json=True)
        raise click.ClickException(f"{failed} Go on with: noria pipeline resume {failed.run['id']}") from None
    version = scored(api(), ended)
    if as_json:
        emit({"run": ended["id"], "version": version.handle, "id": version.id, "rows": version.rows_count}, as_json=True)
    else:
        click.echo(f"{version.handle}: {version.rows_count:,} rows")


def _gateway() -> str:
    """Beside the server the CLI talks to: what it wrote down, if it runs here, else the next port."""
    from noria.client.api import home_folder

    server, note = str(api().url), home_folder() / "server.json"
    said = json.loads(note.read_text()) if note.is_file() else {}
    if said.get("gateway") and server in ("", said.get("url")):
        return str(said["gateway"])
    url = httpx.URL(server)
    return str(url.copy_with(port=(url.port or 5000) + 1))


@group.command()
@click.argument("name")
@click.confirmation_option(prompt="Stop answering there?")
def delete(name: str) -> None:
    """Stop answering at NAME. What it recorded stays.

    \b
    Example:
      noria endpoint delete flights --yes
    """
    api().delete(f"/endpoints/{name}")
    click.echo(f"{name} no longer answers.")


@group.command()
@click.argument("name")
@click.option("--format", "form", type=click.Choice(["kserve", "ray"]), required=True, help="Whose words.")
@click.option("--url", default="", help="Where nodes elsewhere reach this server. Default: where this command does.")
@click.option("--image", default="", help="KServe: a container image with Noria and what the models need.")
@click.option("--namespace", default="default", show_default=True, help="KServe: where the objects go.")
@click.option(
    "--secret", default="noria", show_default=True, help="KServe: a secret whose key `token` is that of a node's account."
)
@click.option("--host", "hosts", multiple=True, help="A name under which callers reach it; may be given several times.")
@json_option
def export(
    name: str, form: str, url: str, image: str, namespace: str, secret: str, hosts: tuple[str, ...], as_json: bool
) -> None:  # fmt: skip
    """Print an endpoint for another system: KServe's objects or a configuration of Ray Serve.

    What that system cannot say is told on standard error, and at the top of what is printed.

    \b
    Example:
      noria endpoint export flights --format kserve --image registry.example.org/noria:1 | kubectl apply -f -
      noria endpoint export flights --format ray > flights.yaml && serve deploy flights.yaml
    """
    asked = {"url": url or api().url, "image": image, "namespace": namespace, "secret": secret, "hosts": ",".join(hosts)}
    found = api().get(f"/endpoints/{name}/export", format=form, **asked)
    if as_json:
        emit(found, as_json=True)
        return
    import yaml

    told = [f"{item['field']}: {item['why']} {item['instead']}" for item in found["left_out"]]
    for line in told:
        click.echo(f"# {line}")
        click.echo(f"not in {form}: {line}", err=True)
    click.echo("\n---\n".join(yaml.safe_dump(o, sort_keys=False).rstrip() for o in found["objects"]))


@group.command()
@click.option("--only", default="", envvar="NORIA_SERVE_ONLY", help="An endpoint, or endpoint:revision. Default: all.")
@click.option("--url", default="", help="The server. Default: NORIA_URL.")
@click.option("--home", type=click.Path(path_type=Path), default=None, help="Where models and what is recorded are kept.")
def serve(only: str, url: str, home: Path | None) -> None:
    """Answer on this machine, for a server elsewhere: a gateway, its workers and a recorder.

    NORIA_TOKEN is that of a service account with the role node. Ports are NORIA_GATEWAY_PORT and NORIA_GRPC_PORT.

    \b
    Example:
      export NORIA_URL=https://noria.example.org NORIA_TOKEN=nrk_…
      noria endpoint serve --only flights
    """
    where = url or os.environ.get("NORIA_URL", "")
    if not where:
        raise Invalid("Which server?", where="url", hint="Set NORIA_URL, or give --url https://noria.example.org.")
    kept = home or Path(os.environ.get("NORIA_HOME") or Path.home() / ".noria" / "node")
    environment = {**os.environ, "NORIA_URL": where, "NORIA_HOME": str(kept), "NORIA_SERVE_ONLY": only}
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, "-m", "noria.serving.elsewhere"], environment)  # noqa: S606  # becomes the node


for _command in (query, recording, log):
    group.add_command(_command)
