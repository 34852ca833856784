"""`noria model scan`, `sign`, `verify`, `bom`: what is in the files of a version, and where they come from."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import click

from noria.cli.base import api, emit, json_option
from noria.cli.model_group import group, path_of, version_handle
from noria.governance.keys import EcSigner, hint_of, split_pem
from noria.governance.signatures import bundle, read_bundle, statement
from noria.governance.verify import Unreadable, parse_keys
from noria.governance.verify_model import compare, differences, hashes, read_statement
from noria.kernel.errors import Invalid


@group.command()
@click.argument("handle")
@click.option("--again", is_flag=True, help="Look through the files anew.")
@click.option(
    "--accept",
    "reason",
    default="",
    help="Take the findings in these bytes as they are; the reason, at least ten characters.",
)
@json_option
def scan(handle: str, again: bool, reason: str, as_json: bool) -> None:
    """What the files of a version would do when they are read: import, call, unpack. Nothing of them is run.

    Ends with 1 when something was found and nobody accepted it.

    \b
    Example:
      noria model scan flights@8
      noria model scan flights@8 --accept "read by Bea, review 214: our own transformer"
    """
    path = f"{path_of(version_handle(handle))}/scan"
    if reason:
        found = api().post(f"{path}/accept", {"reason": reason})
    else:
        found = api().post(path, {}) if again else api().get(path)
    if as_json:
        emit(found, as_json=True)
    else:
        for line in _scan_sentences(found):
            click.echo(line)
    if found["status"] == "suspicious" and not found["accepted_by"]:
        click.get_current_context().exit(1)


@group.command()
@click.argument("handle")
@click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Verify the files here, not those of the server.",
)
@click.option(
    "--provenance",
    "envelope",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A saved envelope: then no server is asked.",
)
@click.option(
    "--signature",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A model signature (OpenSSF), as noria model sign or model_signing writes it: only the files are verified.",
)
@click.option(
    "--pub",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The public key, from a place you trust; else the server's own.",
)
@click.option("--save", type=click.Path(path_type=Path), help="Keep envelope and public key in this folder.")
@json_option
def verify(
    handle: str, folder: Path | None, envelope: Path | None, signature: Path | None, pub: Path | None, save: Path | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Verify where a version comes from: the signature, and that the files are those that were signed.

    Offline with --folder, --provenance and --pub; python -m noria.governance.verify_model does the same with no more than Python.

    \b
    Example:
      noria model verify flights@champion --save proof
      noria model verify flights@7 --folder model --provenance proof/provenance.json --pub proof/models.pub
      noria model verify flights@7 --folder model --signature model.sig --pub signatures.pub
    """
    if signature:
        _verify_signature(handle, folder, signature, pub, as_json)
        return
    if envelope and not (folder and pub):
        raise Invalid("--provenance needs --folder and --pub.", where="provenance")
    path = path_of(version_handle(handle))
    signed = json.loads(envelope.read_text()) if envelope else None
    key_text = pub.read_text() if pub else ""
    if signed is None:
        found = api().get(f"{path}/provenance")
        signed, key_text = found["envelope"], key_text or found["public_key"]
    try:
        statement = read_statement(signed, parse_keys(key_text))
    except Unreadable as error:
        raise Invalid(f"Not verified: {error}.") from error
    there = hashes(folder) if folder else _hashes_of(path)
    faults = compare(statement, there)
    if save:
        save.mkdir(parents=True, exist_ok=True)
        (save / "provenance.json").write_text(json.dumps(signed))
        (save / "models.pub").write_text(f"{key_text.strip()}\n")
    if as_json:
        emit({"is_verified": not faults, "faults": faults, "statement": statement}, as_json=True)
    else:
        for line in [f"Not verified: {fault}." for fault in faults] or _provenance_sentences(statement):
            click.echo(line)
    if faults:
        click.get_current_context().exit(1)


def _verify_signature(handle: str, folder: Path | None, file: Path, pub: Path | None, as_json: bool) -> None:
    path = path_of(version_handle(handle))
    keys = split_pem(pub.read_text() if pub else str(api().get(f"{path}/signature")["public_key"]))
    try:
        signed = read_bundle(json.loads(file.read_text()), keys)
    except (Unreadable, ValueError) as error:
        raise Invalid(f"Not verified: {error}.") from error
    found = hashes(folder) if folder else _hashes_of(path)
    if folder and file.resolve().is_relative_to(folder.resolve()):
        found.pop(file.resolve().relative_to(folder.resolve()).as_posix(), None)
    faults = differences(signed, found)
    if as_json:
        emit({"is_verified": not faults, "faults": faults, "files": signed}, as_json=True)
    else:
        verified = f"Verified: {len(signed)} files are those that were signed."
        click.echo("\n".join(f"Not verified: {fault}." for fault in faults) or verified)
    if faults:
        click.get_current_context().exit(1)


@group.command()
@click.argument("handle")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("model.sig"),
    show_default=True,
    help="Where the signature goes.",
)
@click.option("--pub", type=click.Path(dir_okay=False, path_type=Path), help="Where the public key goes, as PEM.")
@click.option(
    "--key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Sign with this private key (EC P-256, PEM) instead; it does not leave this machine.",
)
@json_option
def sign(handle: str, output: Path, pub: Path | None, key: Path | None, as_json: bool) -> None:
    """Write the signature of a version's files, as OpenSSF's model signing verifies it: the server's, or one by your own key.

    \b
    Example:
      noria model sign flights@7 --output model.sig --pub signatures.pub
      model_signing verify key model --signature model.sig --public_key signatures.pub
      noria model sign flights@7 --key release.pem
    """
    parsed = version_handle(handle)
    if key:
        try:
            signer = EcSigner(key.read_bytes())
        except (ValueError, TypeError) as cause:
            raise Invalid(f"{key} is no private key that signs models: {cause}.", where="key") from cause
        made, public = (
            bundle(statement(f"{parsed.name}-{parsed.selector}", _hashes_of(path_of(parsed))), signer),
            signer.public,
        )
    else:
        found = api().get(f"{path_of(parsed)}/signature")
        made = found["bundle"]
        hint = made["verificationMaterial"]["publicKey"]["hint"]
        public = next((pem for pem in split_pem(found["public_key"]) if hint_of(pem) == hint), "")
    output.write_text(json.dumps(made))
    if pub:
        pub.write_text(public)
    if as_json:
        emit({"signature": str(output), "public_key": public}, as_json=True)
    else:
        click.echo(f"The signature of {handle} is in {output}" + (f", the public key in {pub}." if pub else "."))


@group.command()
@click.argument("handle")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="A file for it; else it is printed.")
def bom(handle: str, output: Path | None) -> None:
    """The bill of materials of a version (CycloneDX 1.6): its files, packages, data, base models and numbers.

    \b
    Example:
      noria model bom flights@champion --output flights.cdx.json
    """
    text = b"".join(api().get_bytes(f"{path_of(version_handle(handle))}/bom")).decode()
    if output:
        output.write_text(text)
        click.echo(f"The bill of materials of {handle} is in {output}.")
    else:
        click.echo(text)


def _hashes_of(path: str) -> dict[str, str]:
    """The SHA-256 of each file of a version, as the server gives them."""
    found = {}
    for file in api().items(f"{path}/files"):
        hasher = hashlib.sha256()
        for chunk in api().get_bytes(f"{path}/content", path=file["path"]):
            hasher.update(chunk)
        found[file["path"]] = hasher.hexdigest()
    return found


def _provenance_sentences(statement: dict[str, Any]) -> list[str]:
    build = statement["predicate"]["buildDefinition"]
    details = statement["predicate"]["runDetails"]
    lines = [f"Verified: {len(statement['subject'])} files are those that were signed."]
    lines.append(
        f"Built by {details['builder']['id'].rsplit('/', 1)[-1]}, {details['metadata'].get('invocationId', 'no run')}."
    )
    for used in build["resolvedDependencies"]:
        algorithm, digest = next(iter(used.get("digest", {"": "not known"}).items()))
        lines.append(f"  {used['name']}: {algorithm} {digest}")
    return lines


def _scan_sentences(scan: dict[str, Any]) -> list[str]:
    if scan["is_pending"]:
        return ["It is being looked through; ask again in a moment."]
    lines = [f"{scan['status'].capitalize()}." + (f" {scan['why']}." if scan["why"] else "")]
    for found in scan["findings"]:
        place = f" ({found['opcode']} at byte {found['at']})" if found["opcode"] else ""
        lines.append(f"  {found['file']}: {found['reason']}{place}")
    if scan["accepted_by"]:
        lines.append(f"Accepted by {scan['accepted_by']}: {scan['accepted_reason']}")
    lines += [
        f"  {path}: {format}" for path, format in sorted(scan["formats"].items()) if format not in ("text", "yaml", "json")
    ]
    if any(
        f in ("pickle", "torch", "zlib", "gzip", "bz2", "xz", "lzma", "code", "npy with objects")
        for f in scan["formats"].values()
    ):
        lines.append("Reading a pickle runs what it names. Formats that cannot: safetensors, ONNX, skops, XGBoost's JSON.")
    return lines
