"""Given: the registry's versions."""

from tests.registry.conftest import given_run, given_version, tracking

__all__ = ["given_run", "given_version", "tracking"]
