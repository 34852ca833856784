"""`noria audit`: what happened, exported and verified."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import click

from noria.cli.base import CliError, Group, api, emit, json_option
from noria.governance import verify as verifier
from noria.kernel.errors import Invalid

README = """An audit log of Noria, {size} facts.

  python verify.py events.jsonl checkpoint.txt --pub audit.pub

needs nothing but Python 3.11. Take audit.pub from a place you trust, not from whoever gave you this folder; verify.py too.
"""


@click.group(cls=Group)
def group() -> None:
    """The audit log: every fact, sealed and signed."""


@group.command()
@click.option("--kind", "kinds", multiple=True, help="Only facts of this kind, such as model_version.promoted or approval.*")
@click.option("--subject", default="", help="Only facts about this, such as model_version:0197…")
@click.option("--actor", default="", help="Only facts by this actor, such as user:ada")
@click.option("--since", default="", help="Only facts after this, such as 2026-03-01 or 2026-03-01T12:00 (UTC).")
@click.option("--until", default="", help="Only facts before this.")
@click.option("--limit", type=int, default=50, show_default=True, help="How many.")
@json_option
def log(
    kinds: tuple[str, ...], subject: str, actor: str, since: str, until: str, limit: int, as_json: bool
) -> None:  # fmt: skip
    """Show facts, newest first.

    \b
    Example:
      noria audit log --kind 'approval.*' --since 2026-03-01
      noria audit log --actor user:ada
    """
    found: list[Any] = []
    for item in api().items(
        "/audit", kinds=",".join(kinds), subject=subject, actor=actor, limit=min(limit, 1000),
        from_ms=_time(since, "--since"), to_ms=_time(until, "--until"),
    ):  # fmt: skip
        found.append(item)
        if len(found) >= limit:
            break
    emit(found, as_json=as_json, columns=["seq", "at_ms", "kind", "subject", "actor", "data"])


@group.command()
@json_option
def status(as_json: bool) -> None:
    """Show how far the log is sealed, and by which key.

    \b
    Example:
      noria audit status
    """
    found = api().get("/audit/status")
    checkpoint = found.pop("checkpoint") or {}
    emit(found | {"root": checkpoint.get("root"), "signed_at_ms": checkpoint.get("at_ms")}, as_json=as_json)


@group.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--also",
    multiple=True,
    type=click.Choice(["ocsf", "cloudevents"]),
    help="Add the facts in this form too, for other tools.",
)
@click.option("--without-personal", is_flag=True, help="Leave out personal values: facts hold only salted hashes of them.")
@json_option
def export(folder: Path, also: tuple[str, ...], without_personal: bool, as_json: bool) -> None:
    """Copy the log into FOLDER, with its checkpoint, its key and the program that verifies it.

    \b
    Example:
      noria audit export audit-2026-03
      noria audit export audit-2026-03 --also ocsf
      python audit-2026-03/verify.py audit-2026-03/events.jsonl audit-2026-03/checkpoint.txt --pub audit-2026-03/audit.pub
    """
    if folder.exists() and any(folder.iterdir()):
        raise CliError(Invalid(f"{folder} is not empty.", hint="Name a new folder."))
    connection = api()
    checkpoint = connection.post("/audit/exports")
    folder.mkdir(parents=True, exist_ok=True)
    for part, name in (("events", "events.jsonl"), ("hashes", "hashes.txt"), ("checkpoints", "checkpoints.jsonl"),
                       ("personal", "personal.jsonl"),
                       *((form, f"events.{form}.jsonl") for form in also)):  # fmt: skip
        if part == "personal" and without_personal:
            continue
        with (folder / name).open("wb") as file:
            for chunk in connection.get_bytes(f"/audit/exports/{checkpoint['size']}/{part}"):
                file.write(chunk)
    (folder / "checkpoint.txt").write_text(checkpoint["note"])
    (folder / "audit.pub").write_text(connection.get("/audit/status")["public_key"] + "\n")
    (folder / "README.txt").write_text(README.format(size=checkpoint["size"]))
    shutil.copyfile(verifier.__file__, folder / "verify.py")
    if as_json:
        emit({"folder": str(folder), "size": checkpoint["size"], "root": checkpoint["root"]}, as_json=True)
    else:
        click.echo(f"{checkpoint['size']} facts are in {folder}. Verify them with: noria audit verify --offline {folder}")


@group.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.option("--offline", is_flag=True, help="Verify an exported folder, or its events.jsonl and checkpoint.txt.")
@click.option("--pub", type=click.Path(path_type=Path, exists=True), help="The public key, from a place you trust.")
@json_option
def verify(files: tuple[Path, ...], offline: bool, pub: Path | None, as_json: bool) -> None:
    """Verify the log: that no fact was changed, removed, inserted or reordered.

    Without --offline the server compares its live database with what was sealed. Exits with 1 when the log is not intact.

    \b
    Example:
      noria audit verify
      noria audit verify --offline audit-2026-03 --pub audit.pub
      noria audit verify --offline events.jsonl checkpoint.txt --pub audit.pub
    """
    if offline:
        is_intact = _verify_files(files, pub, as_json)
    else:
        is_intact = _verify_live(as_json)
    if not is_intact:
        raise click.exceptions.Exit(1)


@group.command()
@click.argument("value")
@click.option("--reason", default="", help="Which request this is; it is kept, so it does not name the person.")
@click.option("--look", is_flag=True, help="Only say how much there is.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def forget(value: str, reason: str, look: bool, yes: bool, as_json: bool) -> None:
    """Take personal values away that lie beside the log and hold VALUE as a word: names, comments, reasons. The log still verifies.

    \b
    Example:
      noria audit forget "Erika Mustermann" --reason "request 2026-118"
      noria audit forget 4711 --look
    """
    if not (look or yes or as_json):
        click.confirm("Take them away? This cannot be undone", abort=True)
    found = api().post("/audit/forget", {"value": value, "reason": reason, "look": look})
    if as_json:
        emit(found, as_json=True)
    else:
        done = "hold it" if look else "were taken away"
        click.echo(f"{found['values']} values beside the log and {found['comments']} comments of approvals {done}.")


def _verify_live(as_json: bool) -> bool:
    report = api().post("/audit/verify", timeout_s=3600.0)
    if as_json:
        emit(report, as_json=True)
        return bool(report["is_intact"])
    for fault in report["faults"]:
        click.secho(f"BAD     {fault['message']}", fg="red")
    for warning in report["warnings"]:
        click.echo(f"NOTE    {warning['message']}")
    if report["is_intact"]:
        unsealed = f"; {report['unsealed']} newer ones wait for the next seal" if report["unsealed"] else ""
        click.secho(f"INTACT  {report['sealed']} facts give the signed root{unsealed}.", fg="green")
    return bool(report["is_intact"])


def _verify_files(files: tuple[Path, ...], pub: Path | None, as_json: bool) -> bool:
    if len(files) == 1 and files[0].is_dir():
        folder = files[0]
        files = (folder / "events.jsonl", folder / "checkpoint.txt")
        if pub is None:
            pub = folder / "audit.pub"
            click.echo("NOTE    The key comes from the export itself; name one you trust with --pub.", err=True)
    if len(files) != 2:
        raise click.UsageError("Name the exported folder, or its events.jsonl and checkpoint.txt.")
    if pub is None:
        raise click.UsageError("Name the public key with --pub.")
    try:
        result = verifier.verify_files(files[0], files[1], pub)
    except (OSError, verifier.Unreadable, UnicodeDecodeError) as cause:
        raise CliError(Invalid(f"The export cannot be read: {cause}.")) from cause
    if as_json:
        faults = [f._asdict() for f in result.faults]
        emit(result._asdict() | {"faults": faults, "warnings": [w._asdict() for w in result.warnings]}, as_json=True)
    else:
        click.echo(verifier.report(result), nl=False)
    return result.is_intact


def _time(text: str, option: str) -> int | None:
    if not text:
        return None
    for form in ("%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M"):
        try:
            parsed = time.strptime(text.removesuffix("Z"), form)
        except ValueError:
            continue
        import calendar

        return calendar.timegm(parsed) * 1000
    raise click.BadParameter(f"{text!r} is no date; write 2026-03-01 or 2026-03-01T12:00 (UTC).", param_hint=option)
