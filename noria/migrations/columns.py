"""The column types of the schema, so that both databases get the same ones."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa


def ident(name: str, **options: Any) -> sa.Column[str]:
    """A 32-hex id, or the ref of one."""
    return sa.Column(name, sa.Text(), nullable=options.pop("nullable", False), **options)


def text(name: str, default: str | None = None, **options: Any) -> sa.Column[str]:
    """Text; not null, with a server default when given."""
    return sa.Column(name, sa.Text(), nullable=options.pop("nullable", False), server_default=default, **options)


json = text  # JSON is kept as text: the same bytes on both databases, decoded by `tx.all`.


def at_ms(name: str, **options: Any) -> sa.Column[int]:
    """UTC milliseconds since 1970."""
    return sa.Column(name, sa.BigInteger(), nullable=options.pop("nullable", False), **options)


def integer(name: str, default: int | None = None, **options: Any) -> sa.Column[int]:
    server_default = None if default is None else str(default)
    return sa.Column(
        name, sa.BigInteger(), nullable=options.pop("nullable", False), server_default=server_default, **options
    )


def real(name: str, **options: Any) -> sa.Column[float]:
    """A 64-bit float. NaN and infinities need a flag column: SQLite turns NaN into null."""
    return sa.Column(name, sa.Double(), nullable=options.pop("nullable", False), **options)


def boolean(name: str, default: bool = False) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean(), nullable=False, server_default=sa.true() if default else sa.false())
