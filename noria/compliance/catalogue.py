"""The catalogue of checks, read once from its data file."""

from __future__ import annotations

import tomllib
from functools import lru_cache
from pathlib import Path

import msgspec

from noria.compliance.model import Catalogue, Check, Framework, SystemSpec
from noria.kernel.errors import NotFound

FILE = Path(__file__).parent / "catalogue" / "checks.toml"


@lru_cache(maxsize=1)
def catalogue() -> Catalogue:
    """Every check there is."""
    read = tomllib.loads(FILE.read_text())
    return Catalogue(
        version=read["version"], date=read["date"], frameworks=msgspec.convert(read["framework"], list[Framework]),
        checks=msgspec.convert(read["check"], list[Check]),
    )  # fmt: skip


def check(check_id: str) -> Check:
    """One check. Raises NotFound."""
    for found in catalogue().checks:
        if found.id == check_id:
            return found
    raise NotFound(f"There is no check {check_id[:40]!r}.", hint="noria compliance checks lists them.")


def applies(of: Check, spec: SystemSpec) -> bool:
    """Is a check for a system of this profile? A profile that nobody stated counts as one that is meant."""
    if not of.applies:
        return True
    said = {"risk": spec.risk, "personal_data": spec.personal_data, "health_data": spec.health_data, "sector": spec.sector}
    unsaid = ("unclassified", "unknown")
    return any(all(said.get(k) == v or said.get(k) in unsaid for k, v in profile.items()) for profile in of.applies)
