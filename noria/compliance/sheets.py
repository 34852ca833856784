"""Data sheets: what they must say, and what looks like personal data. Pure."""

from __future__ import annotations

import re
from datetime import date

from noria.compliance.model import TEXT_LENGTH_MAX, DataSheetSpec
from noria.kernel.errors import Invalid

COLUMNS_MAX = 5_000
_DATE = re.compile(r"^\d{4}-\d{2}-\d{2}\Z")
# What a column's name says when it holds personal data, in the languages of those who wrote this; a name is a hint, not a proof.
_NAMES = re.compile(
    r"(?:^|_)(?:e_?mail|phone|mobile|fax|ssn|social_security|passport|iban|first_?name|last_?name|full_?name|surname|given_?name|"
    r"birth_?(?:date|day)|date_of_birth|dob|street|address|postcode|zip(?:_?code)?|ip_?(?:addr(?:ess)?)?|gender|sex|ethnicity|race|"
    r"religion|patient(?:_?id)?|mrn|diagnosis|national_id|tax_id|licen[cs]e_plate|user_?name)(?:_|\Z)",
    re.IGNORECASE,
)
_VALUES = {
    "e-mail addresses": re.compile(r"^[^@\s]{1,64}@[^@\s]{1,255}\.[a-z]{2,}\Z", re.IGNORECASE),
    "IBANs": re.compile(r"^[A-Z]{2}\d{2}[A-Z0-9]{11,30}\Z"),
    "IP addresses": re.compile(r"^(?:\d{1,3}\.){3}\d{1,3}\Z"),
    "telephone numbers": re.compile(r"^\+\d[\d ()-]{7,18}\Z"),
    "social security numbers": re.compile(r"^\d{3}-\d{2}-\d{4}\Z"),
}


def check_sheet(spec: DataSheetSpec) -> DataSheetSpec:
    """Raises Invalid for dates that are none, or too much text."""
    for name in ("description", "licence", "source", "biases"):
        if len(getattr(spec, name)) > TEXT_LENGTH_MAX:
            raise Invalid(f"{name} has at most {TEXT_LENGTH_MAX} characters.", where=name)
    for name in ("collected_from", "collected_to"):
        if value := getattr(spec, name):
            _day(name, value)
    if spec.collected_from and spec.collected_to and spec.collected_from > spec.collected_to:
        raise Invalid("The collection ends before it begins.", where="collected_to")
    if len(spec.personal_columns) > COLUMNS_MAX:
        raise Invalid(f"At most {COLUMNS_MAX} columns are named.", where="personal_columns")
    if spec.retention_days is not None and not 1 <= spec.retention_days <= 36_600:
        raise Invalid("retention_days is between 1 and 36600.", where="retention_days")
    return spec


def _day(name: str, value: str) -> None:
    try:
        if not _DATE.match(value):
            raise ValueError(value)
        date.fromisoformat(value)
    except ValueError as cause:
        raise Invalid(f"{value[:40]!r} is no day.", where=name, hint="Write YYYY-MM-DD.") from cause


def missing_in(spec: DataSheetSpec) -> list[str]:
    """What a whole data sheet says and this one does not."""
    said = {"description": spec.description, "licence": spec.licence, "source": spec.source,
            "collected_from": spec.collected_from, "collected_to": spec.collected_to}  # fmt: skip
    return [name for name, value in said.items() if not value.strip()]


def looks_personal(column: str, values: list[str]) -> str:
    """Why a column looks like personal data; '' when it does not."""
    if found := _NAMES.search(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", column).replace("-", "_").replace(" ", "_")):
        return f"its name has {found.group().strip('_')!r}"
    texts = [v for v in values if isinstance(v, str) and v]
    for what, pattern in _VALUES.items():
        if texts and sum(bool(pattern.match(t)) for t in texts) * 2 > len(texts):
            return f"its values look like {what}"
    return ""
