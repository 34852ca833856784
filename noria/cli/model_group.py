"""What the commands of `noria model` share: the group, and how a version is named."""

from __future__ import annotations

from urllib.parse import quote

import click

from noria.cli.base import Group
from noria.kernel.errors import Invalid
from noria.kernel.ids import Handle, parse_handle


@click.group(cls=Group)
def group() -> None:
    """Models: versions, aliases, timeline, passport."""


def version_handle(text: str) -> Handle:
    parsed = parse_handle(text, kind="model")
    if not parsed.selector:
        raise Invalid(f"{text!r} names a model, but a version of it is needed here.", hint=f"Write {parsed.name}@latest.")
    return parsed


def path_of(handle: Handle) -> str:
    return f"/models/{quote(handle.name)}/versions/{quote(handle.selector)}"
