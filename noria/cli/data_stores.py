"""`noria data push`, `pull`, `clone`, `link`, `repair`, `gc`, `du`: where versions are kept."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import click
import msgspec

from noria.cli.base import api, emit, json_option, progress
from noria.cli.data_group import group, size
from noria.client.repositories import local_repository, user
from noria.kernel.errors import Invalid
from noria.repository.repository import NewCommit, Repository, open_repository

_TIME = re.compile(r"^(\d+)\s*([smhd]?)\Z")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


TRANSFER_S = 6 * 3600.0  # how long a server may take; what was interrupted goes on when it is asked again


def _through_server(path: str, body: object) -> Any:
    """The answer of the server that keeps the datasets."""
    return api().post(path, body, timeout_s=TRANSFER_S)


def own_repository(what: str) -> Repository:
    """The repository of the home. Raises Invalid when a server keeps it: this is done where the bytes are."""
    found = local_repository()
    if found is None:
        raise Invalid(
            f"{what} works on a repository, and NORIA_URL (or the server on this home) keeps it.",
            hint="Unset NORIA_URL, or set NORIA_HOME to another home; a server's bucket can be cloned: noria data clone.",
        )
    return found


@group.command()
@click.argument("name")
@click.argument("remote")
@json_option
def push(name: str, remote: str, as_json: bool) -> None:
    """Bring the repository REMOTE (s3://, gs://, az://, file:// or a folder) up to what is here of NAME.

    Only packs that it lacks travel. Interrupted, it goes on where it stopped. Refused when REMOTE has versions that are not here.

    \b
    Example:
      noria data push flights s3://bucket/data
    """
    with progress(f"Pushing {name}") as say:
        if (mine := local_repository()) is None:
            done = _through_server(f"/datasets/{quote(name, safe='')}/push", {"remote": remote})
        else:
            from noria.repository.transfer import push as run

            done = run(mine, open_repository(remote), name, say=say)
    _report(done, f"pushed to {remote}", as_json)


@group.command()
@click.argument("name")
@click.argument("remote")
@json_option
def pull(name: str, remote: str, as_json: bool) -> None:
    """Bring NAME here up to the repository REMOTE.

    Branches that went apart are merged when no file was changed by both. Else the other head is kept as the branch
    remote.BRANCH, to merge with --ours or --theirs. Versions that were not pushed yet get numbers after those of REMOTE.

    \b
    Example:
      noria data pull flights s3://bucket/data
    """
    with progress(f"Pulling {name}") as say:
        done = _pull(name, remote, say)
    _report(done, f"pulled from {remote}", as_json)


@group.command()
@click.argument("remote")
@click.argument("names", nargs=-1)
@json_option
def clone(remote: str, names: tuple[str, ...], as_json: bool) -> None:
    """Copy datasets, all or those NAMES, with their history from the repository REMOTE.

    \b
    Example:
      noria data clone s3://bucket/data
      noria data clone s3://bucket/data flights
    """
    if not names and local_repository() is None:
        names = tuple(d["name"] for d in api().get("/datasets/blobs/remote", remote=remote))
    done = []
    for name in names or [refs.dataset for refs in open_repository(remote, create=False).datasets()]:
        with progress(f"Cloning {name}") as say:
            done.append(_pull(name, remote, say))
    if as_json:
        emit([msgspec.to_builtins(d) for d in done], as_json=True)
        return
    for each in done:
        _report(each, f"cloned from {remote}", as_json)


def _pull(name: str, remote: str, say: Callable[[str], None]) -> object:
    if (mine := local_repository()) is None:
        return _through_server(f"/datasets/{quote(name, safe='')}/pull", {"remote": remote})
    from noria.repository.transfer import pull as run

    return run(mine, open_repository(remote, create=False), name, actor=user(), say=say)


def _report(done: object, what: str, as_json: bool) -> None:
    found = msgspec.to_builtins(done)
    if as_json:
        emit(found, as_json=True)
        return
    moved = f"; moved: {', '.join(found['moved'])}" if found["moved"] else ""
    click.echo(
        f"{found['dataset']} {what}: {found['commits_count']:,} versions, {found['packs_count']:,} packs, "
        f"{size(found['sent_bytes'])}{moved}."
    )
    for old, new in found["renumbered"].items():
        click.echo(f"Your version {old} was not pushed yet; it is {new} now.")


@group.command()
@click.argument("name")
@click.argument("uri")
@click.option("-m", "--message", default="", help="What it is, for the log.")
@click.option("--alias", default="", help="Also point this alias at the version.")
@click.option("--at", default="", help="Of a Delta, Iceberg or Lance table: this version or snapshot; the newest otherwise.")
@click.option("--as-files", is_flag=True, help="Take a Delta, Iceberg or Lance table as the files that lie there.")
@json_option
def link(name: str, uri: str, message: str, alias: str, at: str, as_files: bool, as_json: bool) -> None:
    """Make a version of NAME from the files below URI without copying them; they stay where they are.

    Size and ETag of each file are part of the version: one that changes later cannot be read from it any more. A Delta, Iceberg or
    Lance table is linked at one of its versions.

    \b
    Example:
      noria data link raw s3://bucket/raw/2026 -m "As delivered"
      noria data link orders s3://bucket/orders --at 12
    """
    with progress(f"Linking {uri}") as say:
        say("listing")
        if (mine := local_repository()) is None:
            body = {"uri": uri, "message": message, "alias": alias, "as_files": as_files, "at": at}
            answer = _through_server(f"/datasets/{quote(name, safe='')}/link", body)
            found, is_new = answer["version"], answer["is_new"]
        else:
            from noria.repository.links import link_files

            files, table = link_files(uri, as_files=as_files, at=at)
            with mine.writing() as writing:
                new = NewCommit(message=message, alias=alias, actor=user(), link=uri, table=table)
                made, is_new = writing.commit(name, files, new)
            found = msgspec.to_builtins(made.info())
    if as_json:
        emit({"version": found, "link": uri, "is_new": is_new}, as_json=True)
        return
    label = f"{found['dataset']}@{found['number']}"
    table = f" ({found['table']})" if found.get("table") else ""
    said = f"{found['files_count']:,} files, {size(found['size_bytes'])} at {uri}{table}"
    click.echo(f"{label}  {said}" if is_new else f"{label} is exactly this already.")


def verify_repository(as_json: bool) -> None:
    """Everything in the repository of the home, for `noria data verify` without a version."""
    from noria.repository.check import verify

    with progress("Verifying") as say:
        found = verify(own_repository("Verify"), say=say)
    if as_json:
        emit(msgspec.to_builtins(found), as_json=True)
    else:
        for fault in found.faults:
            place = f" ({fault.dataset} {fault.path})" if fault.path else f" ({fault.dataset})" if fault.dataset else ""
            click.secho(f"{fault.kind} {fault.name[:16]} is {fault.problem}{place}", fg="red")
        click.echo(
            f"{found.versions_count:,} versions, {found.packs_count:,} packs, {size(found.size_bytes)} read, "
            f"{len(found.faults)} faults."
        )
    if found.faults:
        raise SystemExit(1)


@group.command()
@click.argument("remote")
@json_option
def repair(remote: str, as_json: bool) -> None:
    """Put back what is damaged or missing here from the repository REMOTE. Exit code 1 when something could not be healed.

    \b
    Example:
      noria data repair s3://bucket/data
    """
    from noria.repository.check import Repaired
    from noria.repository.check import repair as run

    with progress("Repairing") as say:
        if (mine := local_repository()) is None:
            done = msgspec.convert(_through_server("/datasets/blobs/repair", {"remote": remote}), Repaired)
        else:
            done = run(mine, open_repository(remote, create=False), say=say)
    if as_json:
        emit(msgspec.to_builtins(done), as_json=True)
    else:
        for fault in done.left:
            click.secho(f"{fault.kind} {fault.name[:16]} is {fault.problem}, and {remote} does not have it.", fg="red")
        click.echo(f"{len(done.healed):,} healed, {len(done.left):,} left.")
    if done.left:
        raise SystemExit(1)


@group.command()
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option("--grace", default="24h", show_default=True, help="Keep what is younger than this: 90s, 30m, 24h, 7d.")
@json_option
def gc(dry_run: bool, grace: str, as_json: bool) -> None:
    """Remove bytes that no version needs: of deleted versions, of commits and uploads that died.

    Versions in the history, branches, tags, aliases, and what runs and models need are never touched.

    \b
    Example:
      noria data gc --dry-run
      noria data gc --grace 7d
    """
    from noria.repository.collect import Collected, collect

    grace_s = _seconds(grace)
    with progress("Collecting") as say:
        if (mine := local_repository()) is None:
            at = f"/datasets/blobs/collect?grace_s={grace_s}&dry_run={str(dry_run).lower()}"
            done = msgspec.convert(_through_server(at, {}), Collected)
        else:
            done = collect(mine, grace_s=grace_s, dry_run=dry_run, say=say)
    if as_json:
        emit({"is_dry_run": dry_run, **msgspec.to_builtins(done)}, as_json=True)
        return
    would = "would be " if dry_run else ""
    click.echo(
        f"{size(done.freed_bytes)} {would}freed: {done.packs_count:,} packs removed, {done.rewritten_count:,} rewritten, "
        f"{done.objects_count:,} other objects. {size(done.kept_bytes)} are needed."
    )
    if done.waiting_count:
        click.echo(
            f"{done.waiting_count:,} packs ({size(done.waiting_bytes)}) are needed by nothing, but younger than {grace}."
        )


def _seconds(text: str) -> float:
    found = _TIME.match(text.strip())
    if not found:
        raise Invalid(f"{text!r} is no time.", where="grace", hint="Write 90s, 30m, 24h or 7d.")
    return float(int(found[1]) * _SECONDS[found[2]])


@group.command()
@click.option("--remote", default="", help="Of this repository instead.")
@json_option
def du(remote: str, as_json: bool) -> None:
    """What each dataset takes: as files, stored, and stored for it alone.

    \b
    Example:
      noria data du
    """
    from noria.repository.collect import usage

    there = open_repository(remote, create=False) if remote else local_repository()
    rows = api().get("/datasets/blobs/usage") if there is None else [msgspec.to_builtins(u) for u in usage(there)]
    if as_json:
        emit(rows, as_json=True)
        return
    for row in rows:
        row |= {
            "files": size(row["size_bytes"]),
            "stored": size(row["stored_bytes"]),
            "only here": size(row["only_here_bytes"]),
        }
    emit(rows, columns=["dataset", "versions_count", "files", "stored", "only here"])
