"""Scans of model versions: made when one is registered, kept by content, asked by the gate.

Small versions are scanned before the registration answers; what takes longer is done by a reconciler, large files in a process
of their own with limits on memory and time. Invariant: a version that was not looked through by any rules does not get
traffic; one with findings does so only when an administrator accepted them, or the setting `suspicious_models` says warn.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from noria.governance import scan_store
from noria.governance.allowed import RULES
from noria.governance.pickles import FINDINGS_MAX, OutOfBudget, ScanFinding
from noria.governance.scan import Budget, FileScan, flavor_findings, is_safetensors, pickled_paths, scan_file
from noria.governance.scan_model import (
    FINDINGS_PER_FACT,
    REASON_LENGTH_MAX,
    REASON_LENGTH_MIN,
    Acceptance,
    Scan,
    Status,
)
from noria.kernel.blobs import BlobStore
from noria.kernel.db import Database
from noria.kernel.errors import Conflict, Invalid, NoriaError, NotFound
from noria.kernel.ids import Ref
from noria.kernel.op import Op, Ops
from noria.registry.model import ModelFile, ModelVersion
from noria.registry.service import Registry

log = logging.getLogger("noria.scans")

QUICK_BYTES = 16 << 20  # of all files: beyond it, the registration does not wait
QUICK = (300_000, 64 << 20)  # steps (about half a second) and bytes unpacked
IN_PROCESS_BYTES = 1 << 20  # a larger file is scanned in a process of its own
SCAN_TIMEOUT_S = 1_900.0
SCANS_PER_TURN = 20
HEAD_BYTES = 17 << 20  # enough for the header of any safetensors file that is taken for one


class Scans:
    """What the files of versions are. Also the reconciler that scans, and the registry's inspector."""

    name = "governance.scans"
    every_s = 15.0
    wake_on = frozenset({"model_version.created", "model_version.imported"})

    def __init__(self, db: Database, ops: Ops, blobs: BlobStore, registry: Registry) -> None:
        self._db, self._ops, self._blobs, self._registry = db, ops, blobs, registry

    # --- reading ----------------------------------------------------------------------------------------------------

    def scan(self, op: Op, version: str) -> Scan:
        """What was found in a version; pending when nobody looked yet. Raises NotFound, Forbidden."""
        return self._of(self._registry.version(op, version))

    def _of(self, version: ModelVersion) -> Scan:
        with self._db.read() as tx:
            found = scan_store.scan(tx, version.digest)
        if found is None or not found.rules:
            return Scan(digest=version.digest, status="unscanned", why="it is being looked through", is_pending=True)
        return found

    # --- scanning ---------------------------------------------------------------------------------------------------

    def registered(self, version: ModelVersion, files: list[ModelFile]) -> None:
        """A version was made: look through it now if that is quick; else the reconciler does."""
        with self._db.read() as tx:
            known = scan_store.scan(tx, version.digest)
        if known is not None and known.rules == RULES:
            self._tell(version, known)
        elif sum(f.size_bytes for f in files) <= QUICK_BYTES:
            self._scan(version, files, is_final=False)

    def reconcile(self) -> None:
        """Look through what the present rules have not seen."""
        with self._db.read() as tx:
            waiting = scan_store.unscanned(tx, RULES, limit=SCANS_PER_TURN)
        op = self._ops.system("scan")
        for row in waiting:
            try:
                version = self._registry.version(op, f"model_version:{row.id}")
                files = self._registry.files(op, version)
            except NotFound:
                continue  # deleted since
            self._scan(version, files, is_final=True)

    def rescan(self, op: Op, version: str) -> Scan:
        """Look through a version again, now or as soon as there is time. Raises NotFound, Forbidden."""
        found = self._registry.version(op, version)
        op.require("model.tag", Ref("model", found.model))
        with self._db.write(op) as tx:
            scan_store.forget_rules(tx, found.digest)
        files = self._registry.files(op, found)
        if sum(f.size_bytes for f in files) <= QUICK_BYTES:
            self._scan(found, files, is_final=False)
        return self._of(found)

    def _scan(self, version: ModelVersion, files: list[ModelFile], *, is_final: bool) -> None:
        started_s = self._db.clock.monotonic_s()
        budget = Budget() if is_final else Budget(steps=QUICK[0], unpacked_bytes=QUICK[1], is_final=False)
        pickled = pickled_paths(version.flavors)
        try:
            looked = [self._file(f, budget, is_pickle=f.path in pickled, is_final=is_final) for f in files]
        except OutOfBudget:
            if not is_final:
                return  # the reconciler has more time
            looked = [FileScan(path="", status="unscanned", format="unknown", why="it takes longer than there is time for")]
        made = _joined(version.digest, looked, flavor_findings(version.flavors))
        took_ms = int((self._db.clock.monotonic_s() - started_s) * 1000)
        op = self._ops.system("scan")
        with self._db.write(op) as tx:
            scan_store.save(tx, msgspec.structs.replace(made, at_ms=op.at_ms, took_ms=took_ms))
        self._tell(version, made)

    def _tell(self, version: ModelVersion, scan: Scan) -> None:
        with self._db.write(self._ops.system("scan")) as tx:
            tx.emit(
                "model_version.scanned", version.ref, model=version.model, number=version.number, digest=scan.digest,
                status=scan.status, findings=_said(scan.findings), formats=sorted(set(scan.formats.values())),
                why=scan.why,
            )  # fmt: skip

    def _file(self, file: ModelFile, budget: Budget, *, is_pickle: bool, is_final: bool) -> FileScan:
        """One file, from a copy on this disk. Raises OutOfBudget."""
        with tempfile.TemporaryDirectory(prefix="noria-scan-") as folder:
            copy = Path(folder) / "file"
            try:
                if file.size_bytes > HEAD_BYTES and self._is_tensors(file):
                    return FileScan(path=file.path, status="clean", format="safetensors")
                with copy.open("wb") as into:
                    for chunk in self._blobs.open(file.digest):
                        into.write(chunk)
            except NoriaError as error:
                return FileScan(path=file.path, status="unscanned", format="unknown", why=f"{file.path}: {error.message}")
            if is_final and file.size_bytes > IN_PROCESS_BYTES:
                return _elsewhere(copy, file.path, is_pickle=is_pickle)
            return scan_file(copy, file.path, budget, is_pickle=is_pickle)

    def _is_tensors(self, file: ModelFile) -> bool:
        """Is a large file one of tensors? Its beginning tells, and it need not be copied."""
        import io

        head = io.BytesIO(b"".join(self._blobs.open(file.digest, 0, HEAD_BYTES)))
        return is_safetensors(head, file.size_bytes)

    # --- accepting --------------------------------------------------------------------------------------------------

    def accept(self, op: Op, version: str, acceptance: Acceptance) -> Scan:
        """Take the findings in these bytes as they are, with a reason. Raises NotFound, Forbidden, Invalid, Conflict."""
        op.require("policy.write")
        found = self._registry.version(op, version)
        reason = acceptance.reason.strip()
        if not REASON_LENGTH_MIN <= len(reason) <= REASON_LENGTH_MAX:
            raise Invalid(
                f"The reason has between {REASON_LENGTH_MIN} and {REASON_LENGTH_MAX} characters.", where="reason",
                hint="Say who looked at the code, and where that is written down.",
            )  # fmt: skip
        with self._db.write(op) as tx:
            scan = scan_store.scan(tx, found.digest)
            if scan is None or scan.status != "suspicious":
                raise Conflict(
                    f"There is nothing to accept in {found.label}.", ref=found.ref,
                    hint=f"Its scan says: {scan.status if scan else 'not looked through yet'}.",
                )  # fmt: skip
            scan_store.accept(tx, found.digest, by=op.actor.label, reason=reason, at_ms=op.at_ms)
            tx.emit(
                "model_version.scan_accepted", found.ref, model=found.model, number=found.number, digest=found.digest,
                reason=reason, findings=_said(scan.findings),
            )  # fmt: skip
        return self._of(found)


def _said(findings: list[ScanFinding]) -> list[str]:
    return [f"{f.file}: {f.reason}" for f in findings[:FINDINGS_PER_FACT]]


def _joined(digest: str, looked: list[FileScan], described: list[ScanFinding]) -> Scan:
    """The scan of a version from those of its files, and from what its description asks for."""
    findings = [*described, *(f for file in looked for f in file.findings)][:FINDINGS_MAX]
    why = "; ".join(file.why for file in looked if file.why)[:1_000]
    status: Status = "suspicious" if findings else "unscanned" if why else "clean"
    formats = {file.path: file.format for file in looked}
    return Scan(digest=digest, status=status, rules=RULES, formats=formats, findings=findings, why=why)


def _elsewhere(copy: Path, path: str, *, is_pickle: bool) -> FileScan:
    """Scan a file in a process of its own: what it takes, the server does not."""
    command = [sys.executable, "-m", "noria.governance.scan", str(copy), path, str(int(is_pickle))]
    try:
        done = subprocess.run(command, capture_output=True, timeout=SCAN_TIMEOUT_S, check=False, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        done = None
    if done is None or done.returncode:
        log.error(
            "the scan of %s did not end: %s", path, done.stderr[-2_000:].decode("utf-8", "replace") if done else "time"
        )
        why = f"{path} takes more time or memory to look through than there is"
        return FileScan(path=path, status="unscanned", format="unknown", why=why)
    return msgspec.json.decode(done.stdout, type=FileScan)
