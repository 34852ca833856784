"""`noria data branch`, `tag`, `merge`: names of versions, and bringing two histories together."""

from __future__ import annotations

import click
import msgspec

from noria.cli.base import emit, json_option, progress
from noria.cli.data_group import group, open_dataset
from noria.client.datasets import Version
from noria.kernel.ids import parse_handle


@group.command()
@click.argument("handle")
@click.argument("branch", required=False, default="")
@click.option("--delete", "is_delete", is_flag=True, help="Delete the branch; its versions stay.")
@json_option
def branch(handle: str, branch: str, is_delete: bool, as_json: bool) -> None:
    """List the branches of NAME, or make BRANCH at NAME@SELECTOR.

    \b
    Example:
      noria data branch flights
      noria data branch flights@3 trial
      noria data branch flights trial --delete
    """
    wanted = parse_handle(handle, kind="dataset")
    data = open_dataset(wanted.name)
    if is_delete:
        data.delete_branch(branch)
    elif branch:
        data.branch(branch, wanted.selector or "latest")
    _show(data.branches(), "branch", as_json)


@group.command()
@click.argument("handle")
@click.argument("tag", required=False, default="")
@click.option("--delete", "is_delete", is_flag=True, help="Delete the tag.")
@json_option
def tag(handle: str, tag: str, is_delete: bool, as_json: bool) -> None:
    """List the tags of NAME, or give NAME@SELECTOR a name that never moves; it cannot be deleted then.

    \b
    Example:
      noria data tag flights
      noria data tag flights@3 paper-2026
      noria data tag flights paper-2026 --delete
    """
    wanted = parse_handle(handle, kind="dataset")
    data = open_dataset(wanted.name)
    if is_delete:
        data.delete_tag(tag)
    elif tag:
        data.tag(tag, wanted.selector or "latest")
    _show(data.tags(), "tag", as_json)


def _show(named: dict[str, Version], what: str, as_json: bool) -> None:
    if as_json:
        emit({name: msgspec.to_builtins(version.info) for name, version in named.items()}, as_json=True)
        return
    rows = [{what: name, "version": v.handle, "id": v.id, "message": v.message} for name, v in named.items()]
    emit(rows, columns=[what, "version", "id", "message"])


@group.command()
@click.argument("name")
@click.argument("theirs")
@click.option("--into", default="main", show_default=True, help="The branch that takes the other in.")
@click.option("-m", "--message", default="", help="What the merge is for, for the log.")
@click.option("--ours", "strategy", flag_value="ours", help="Where both changed a file, keep that of --into.")
@click.option("--theirs", "strategy", flag_value="theirs", help="Where both changed a file, take that of THEIRS.")
@json_option
def merge(name: str, theirs: str, into: str, message: str, strategy: str | None, as_json: bool) -> None:
    """Bring the branch or version THEIRS of NAME into another branch, file by file.

    Files that only one side changed since the version both come from are taken from that side. Exit code 8 names the files that
    both changed, and changes nothing.

    \b
    Example:
      noria data merge flights trial
      noria data merge flights trial --into main --theirs
    """
    data = open_dataset(name)
    with progress(f"Merging {theirs} into {into}") as say:
        say("comparing")
        made, outcome = data.merge(theirs, into=into, message=message, strategy=strategy or "")  # type: ignore[arg-type]
    if as_json:
        emit({"outcome": outcome, "version": msgspec.to_builtins(made.info)}, as_json=True)
        return
    said = {"nothing": f"{into} has all of {theirs} already", "fast-forward": f"{into} moved on to {made.handle}"}
    click.echo(said.get(outcome, f"{made.handle} joins both: {made.files_count:,} files") + ".")
