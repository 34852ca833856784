"""`noria run`: launch, list, show and compare runs, and send those that were kept offline."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from noria.cli.base import Group, api, emit, json_option
from noria.cli.run_export import export
from noria.cli.run_gc import gc
from noria.cli.run_reproduce import reproduce
from noria.cli.run_sync import sync
from noria.kernel.errors import Invalid

_STATUS = "name,status,started_at_ms,ended_at_ms,user"


class RunGroup(Group):
    """`noria run -- CMD` is `noria run exec -- CMD`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args and not any(a in self.commands for a in args[: args.index("--")]):
            args = ["exec", *args]
        return super().parse_args(ctx, args)


@click.group(cls=RunGroup)
def group() -> None:
    """Runs: launch, list, show. `noria run -- python train.py` launches one."""


@group.command("exec", context_settings={"ignore_unknown_options": True})
@click.option("--experiment", "-e", default="", help="The experiment, by name; made when it is missing. Default: Default.")
@click.option("--name", "-n", default="", help="The name of the run.")
@click.option("--tag", "tags", multiple=True, help="KEY=VALUE; may be given several times.")
@click.option("--data", "data", default="", help="The dataset version that it reads, such as flights@3.")
@click.option("--offline", is_flag=True, help="Send nothing now; `noria run sync` does it later.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_(
    experiment: str, name: str, tags: tuple[str, ...], data: str, offline: bool, command: tuple[str, ...]
) -> None:  # fmt: skip
    """Launch a command as a run and record what it was.

    \b
    Example:
      noria run -- python train.py --depth 3
      noria run -e flights -n first --data flights@3 -- python train.py
    """
    from noria.client.launch import launch

    known = _pairs(tags) | ({"noria.dataset_version": data} if data else {})
    code = launch(
        command, experiment=experiment, name=name, tags=known, mode="offline" if offline else None,
        say=lambda text: click.echo(text, err=True),
    )  # fmt: skip
    click.echo(f"Run {name} {'finished' if code == 0 else f'ended with code {code}'}.".replace("  ", " "), err=True)
    sys.exit(code if code >= 0 else 128 - code)


@group.command("list")
@click.option("--experiment", "-e", default="", help="Only of these experiments: names or ids, with commas.")
@click.option("--filter", "filter_", default="", help="Such as \"metrics.loss < 0.3 and params.model = 'forest'\".")
@click.option("--order-by", default="", help="Such as 'metrics.loss desc'.")
@click.option("--columns", default=_STATUS, show_default=True, help="Also metrics.…, params.…, tags.…")
@click.option("--deleted", is_flag=True, help="Those that were put away.")
@click.option("--limit", type=int, default=20, show_default=True)
@json_option
def list_(experiment: str, filter_: str, order_by: str, columns: str, deleted: bool, limit: int, as_json: bool) -> None:
    """List runs, latest first.

    \b
    Example:
      noria run list -e flights --order-by "metrics.log_loss" --columns name,metrics.log_loss
    """
    found = api().get(
        "/runs", experiment=experiment, filter=filter_, order_by=order_by, columns=columns, limit=limit,
        stage="deleted" if deleted else "active",
    )  # fmt: skip
    names = list(found["columns"])
    rows = [{"id": run_id, **{n: found["columns"][n][i] for n in names}} for i, run_id in enumerate(found["ids"])]
    emit(rows, as_json=as_json, columns=["id", *names])


@group.command()
@click.argument("run_id")
@json_option
def show(run_id: str, as_json: bool) -> None:
    """Show one run: settings, latest numbers, where it came from.

    \b
    Example:
      noria run show 0197c0de00007000800000000000abcd
    """
    found = api().get(f"/runs/{run_id}")
    if as_json:
        emit(found, as_json=True)
        return
    names = ["id", "name", "status", "stage", "experiment_id", "user", "started_at_ms", "ended_at_ms", "source_commit",
             "source_dirty", "argv"]  # fmt: skip
    emit({n: found[n] for n in names if found[n] not in ("", None)})
    for title in ("params", "metrics", "tags"):
        if found[title]:
            click.secho(f"\n{title}", bold=True)
            emit(found[title])
    for item in found["inputs"]:
        click.echo(f"\nread {item['name']} {item['digest']} {item['dataset_version']}".rstrip())


@group.command()
@click.argument("run_id")
@click.option("--key", default=None, help="Only these metrics, with commas.")
@json_option
def metrics(run_id: str, key: str | None, as_json: bool) -> None:
    """Show the metrics of a run: how many points, the last, the lowest, the highest.

    \b
    Example:
      noria run metrics 0197c0de00007000800000000000abcd
    """
    found = api().get(f"/runs/{run_id}/series", keys=key, buckets=1)["series"]
    rows = []
    for name, curve in found.items():
        at = {k: (curve[k][-1] if curve[k] else None) for k in ("last", "min", "max")}
        odd = {"nan": curve["nan_count"], "inf": curve["inf_count"], "-inf": curve["minus_inf_count"]}
        rows.append({"key": name, "points": curve["count"], "step": curve["step_last"], **at, **odd})
    emit(rows, as_json=as_json, columns=["key", "points", "step", "last", "min", "max", "nan", "inf"])


@group.command()
@click.argument("run_id")
@click.argument("path", default="")
@click.option("--output", "-o", type=click.Path(path_type=Path), help="Download the file, or the folder, to here.")
@json_option
def artifacts(run_id: str, path: str, output: Path | None, as_json: bool) -> None:
    """List the files of a run, or download them.

    \b
    Example:
      noria run artifacts 0197c0de00007000800000000000abcd model
      noria run artifacts 0197c0de00007000800000000000abcd model -o ./model
    """
    if output is None:
        emit(api().get(f"/runs/{run_id}/artifacts", path=path)["items"], as_json=as_json,
             columns=["path", "is_dir", "size_bytes", "digest"])  # fmt: skip
        return
    count = 0
    for file in _files(run_id, path):
        below = file[len(path) :].lstrip("/") if path else file
        target = output / below if below else output
        if not target.resolve().is_relative_to(output.resolve()):
            raise Invalid(f"The server names a file outside of the folder: {file!r}.")
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as out:
            for chunk in api().get_bytes(f"/runs/{run_id}/artifacts/content", path=file):
                out.write(chunk)
        count += 1
    click.echo(f"Downloaded {count} files to {output}.")


def _files(run_id: str, path: str) -> Iterator[str]:
    """Every file below `path`, or `path` itself when it is a file."""
    found = api().get(f"/runs/{run_id}/artifacts", path=path)["items"]
    if not found and path:
        yield path
    for item in found:
        if item["is_dir"]:
            yield from _files(run_id, item["path"])
        else:
            yield item["path"]


@group.command()
@click.argument("run_id")
@click.option("--offset", type=int, default=0, help="Start at this byte.")
def logs(run_id: str, offset: int) -> None:
    """Print what a run printed.

    \b
    Example:
      noria run logs 0197c0de00007000800000000000abcd
    """
    while True:
        page = api().get(f"/runs/{run_id}/logs", offset=offset)
        click.echo(page["text"], nl=False)
        if page["next_offset"] <= offset:
            return
        offset = page["next_offset"]


@group.command()
@click.argument("run_id")
@json_option
def delete(run_id: str, as_json: bool) -> None:
    """Put a run away, or a logged model (m-…). It can be restored; `noria run gc` removes it for good.

    \b
    Example:
      noria run delete 0197c0de00007000800000000000abcd
    """
    api().delete(f"/{_place(run_id)}/{run_id}")
    if as_json:
        emit({"id": run_id, "stage": "deleted"}, as_json=True)
        return
    click.echo(f"{_noun(run_id)} {run_id} is put away. Bring it back with: noria run restore {run_id}")


@group.command()
@click.argument("run_id")
@json_option
def restore(run_id: str, as_json: bool) -> None:
    """Bring a run back, or a logged model (m-…).

    \b
    Example:
      noria run restore 0197c0de00007000800000000000abcd
    """
    api().post(f"/{_place(run_id)}/{run_id}/restore")
    if as_json:
        emit({"id": run_id, "stage": "active"}, as_json=True)
        return
    click.echo(f"{_noun(run_id)} {run_id} is back.")


def _place(run_id: str) -> str:
    return "logged-models" if run_id.startswith("m-") else "runs"


def _noun(run_id: str) -> str:
    return "Logged model" if run_id.startswith("m-") else "Run"


def _pairs(tags: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for tag in tags:
        key, equals, value = tag.partition("=")
        if not equals or not key:
            raise Invalid(f"{tag!r} is not KEY=VALUE.", where="tag")
        found[key] = value
    return found


group.add_command(sync)
group.add_command(gc)
group.add_command(export)
group.add_command(reproduce)
