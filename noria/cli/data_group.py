"""What the commands of `noria data` share: the group, and where a dataset is found."""

from __future__ import annotations

import gc
from typing import Any

import click
import msgspec

from noria.cli.base import Group, api
from noria.client.datasets import Dataset, Version
from noria.client.repositories import LocalDataset, local_repository
from noria.kernel.ids import parse_handle


@click.group(cls=Group)
def group() -> None:
    """Versions of data: commit, log, diff, branch, merge, checkout, push.

    They are kept by the server that NORIA_URL or the project's noria.toml names or that runs on the local home; without one, in
    the home itself.
    """
    # A row for each of a hundred thousand files is no garbage: looking for it at every 700th costs a tenth of a commit.
    gc.set_threshold(100_000, 20, 20)


def open_dataset(name: str) -> Dataset:
    """The dataset where this command finds it: on a server, or in the repository of the home."""
    repository = local_repository()
    return Dataset(name, api()) if repository is None else LocalDataset(name, repository, api)


def resolve(handle: str) -> Version:
    """The version that NAME@SELECTOR names."""
    found = parse_handle(handle, kind="dataset")
    return open_dataset(found.name).version(found.selector or "latest")


def size(count: int) -> str:
    """Bytes as people read them: 1.4 MiB."""
    value, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{count} B" if unit == "B" else f"{value:.1f} {unit}"


def plain(version: Version) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(version.info)
    if version.link:
        found["link"] = version.link
    return found
