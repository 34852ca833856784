"""The queries of scans."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from noria.governance.pickles import ScanFinding
from noria.governance.scan import SAFE_FORMATS
from noria.governance.scan_model import Scan, Status
from noria.kernel.db import Read, Write, js


class _Row(Struct, frozen=True, kw_only=True):
    digest: str
    status: Status
    rules: int
    formats: dict[str, str]
    findings: list[ScanFinding]
    why: str
    at_ms: int
    took_ms: int
    accepted_by: str
    accepted_reason: str
    accepted_at_ms: int | None


class Unscanned(Struct, frozen=True, kw_only=True):
    """A version whose files were not looked through by the present rules."""

    id: str
    digest: str


_SCAN = "digest, status, rules, formats, findings, why, at_ms, took_ms, accepted_by, accepted_reason, accepted_at_ms"


def scan(tx: Read, digest: str) -> Scan | None:
    row = tx.one(_Row, f"select {_SCAN} from model_scan where digest = :digest", digest=digest)
    if row is None:
        return None
    is_safe = row.status == "clean" and all(f in SAFE_FORMATS for f in row.formats.values())
    return Scan(**{name: getattr(row, name) for name in row.__struct_fields__}, is_safe=is_safe)


def is_registered(tx: Read, digest: str) -> bool:
    """Is there a model version with these bytes?"""
    return bool(tx.scalar("select 1 from model_version where digest = :digest limit 1", digest=digest))


def unscanned(tx: Read, rules: int, *, limit: int) -> list[Unscanned]:
    """Versions that the present rules have not seen, oldest first, one per digest."""
    return tx.all(
        Unscanned,
        """select min(v.id) as id, v.digest from model_version v left join model_scan s on s.digest = v.digest
            where s.digest is null or s.rules < :rules
            group by v.digest order by min(v.id) limit :limit""",
        rules=rules, limit=limit,
    )  # fmt: skip


def save(tx: Write, made: Scan) -> Scan:
    """Keep a scan; an acceptance stays while the findings are the same."""
    before = scan(tx, made.digest)
    if before is not None and before.accepted_by and before.findings == made.findings:
        made = replace(
            made, accepted_by=before.accepted_by, accepted_reason=before.accepted_reason,
            accepted_at_ms=before.accepted_at_ms,
        )  # fmt: skip
    tx.run(
        f"""insert into model_scan ({_SCAN})
            values (:digest, :status, :rules, :formats, :findings, :why, :at_ms, :took_ms, :by, :reason, :accepted_at)
            on conflict (digest) do update set
                status = excluded.status, rules = excluded.rules, formats = excluded.formats, findings = excluded.findings,
                why = excluded.why, at_ms = excluded.at_ms, took_ms = excluded.took_ms, accepted_by = excluded.accepted_by,
                accepted_reason = excluded.accepted_reason, accepted_at_ms = excluded.accepted_at_ms""",
        digest=made.digest, status=made.status, rules=made.rules, formats=js(made.formats), findings=js(made.findings),
        why=made.why, at_ms=made.at_ms, took_ms=made.took_ms, by=made.accepted_by, reason=made.accepted_reason,
        accepted_at=made.accepted_at_ms,
    )  # fmt: skip
    return made


def forget_rules(tx: Write, digest: str) -> None:
    """Have it looked through again."""
    tx.run("update model_scan set rules = 0 where digest = :digest", digest=digest)


def accept(tx: Write, digest: str, *, by: str, reason: str, at_ms: int) -> None:
    tx.run(
        """update model_scan set accepted_by = :by, accepted_reason = :reason, accepted_at_ms = :at_ms
            where digest = :digest""",
        digest=digest, by=by, reason=reason, at_ms=at_ms,
    )  # fmt: skip
