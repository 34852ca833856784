"""`noria doctor`: what is wrong with this installation, and what to do."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import click
from msgspec import Struct, to_builtins

from noria.cli.base import emit, json_option
from noria.config import Config
from noria.kernel.clock import SystemClock
from noria.kernel.errors import NoriaError

DISK_LOW_BYTES = 1 << 30
DISK_OUT_BYTES = 64 << 20
CLOCK_BACK_MS = 60_000
State = Literal["ok", "warn", "fail"]


class Check(Struct, frozen=True):
    """One finding."""

    name: str
    state: State
    message: str
    hint: str = ""


@click.command()
@click.option("--home", help="The home to look at.  [default: ./noria-home]")
@json_option
def group(home: str | None, as_json: bool) -> None:
    """Check this installation and say what to do. Changes nothing; the server may run meanwhile. Exits with 1 on a failure.

    \b
    Example:
      noria doctor
      noria doctor --home /srv/noria --json
    """
    from noria.config import load_config

    try:
        found = list(examine(load_config(home=home)))
    except NoriaError as error:
        found = [Check("settings", "fail", error.message, error.hint)]
    if as_json:
        emit(to_builtins(found), as_json=True)
    else:
        for check in found:
            mark, colour = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "red")}[check.state]
            click.echo(click.style(mark, fg=colour) + f" {check.name:<12} {check.message}")
            if check.hint:
                click.echo(f"  {'':<12} {check.hint}")
    if any(check.state == "fail" for check in found):
        raise click.exceptions.Exit(1)


def examine(config: Config) -> Iterator[Check]:
    """Every check, in the order in which one would repair."""
    yield _python()
    if not config.home.is_dir():
        yield Check("home", "warn", f"There is no home at {config.home} yet.", "noria server makes it.")
        yield from _ports(config)
        return
    yield from (_home(config), _disk(config), _keys(config), *_ports(config))
    schema, database = _database(config)
    yield database
    yield _attempt("blobs", lambda: _blobs(config))
    if schema == "current":
        yield from _log(config)


def _attempt(name: str, look: Callable[[], Check]) -> Check:
    """A check whose failure is its finding."""
    try:
        return look()
    except NoriaError as error:
        return Check(name, "fail", error.message, error.hint)
    except Exception as error:  # what a check trips over is what the user needs to see
        return Check(name, "fail", f"{type(error).__name__}: {error}")


def _python() -> Check:
    from noria import __version__

    version = ".".join(map(str, sys.version_info[:3]))
    return Check("noria", "ok", f"Noria {__version__} on Python {version}.")


def _home(config: Config) -> Check:
    if not os.access(config.home, os.W_OK | os.X_OK):
        return Check(
            "home",
            "fail",
            f"{config.home} cannot be written to.",
            f"Give it to the user who runs Noria: chown {os.getuid()}.",
        )
    return Check("home", "ok", f"{config.home} can be written to.")


def _disk(config: Config) -> Check:
    free = shutil.disk_usage(config.home).free
    text = f"{free / 1e9:.1f} GB free."
    if free < DISK_OUT_BYTES:
        return Check("disk", "fail", text, "Free some space: nothing can be stored.")
    if free < DISK_LOW_BYTES:
        return Check("disk", "warn", text, "Less than 1 GiB is left.")
    return Check("disk", "ok", text)


def _keys(config: Config) -> Check:
    folder = config.home / "keys"
    private = sorted(folder.glob("*.key")) if folder.is_dir() else []
    open_ = [path for path in private if stat.S_IMODE(path.stat().st_mode) & 0o077]
    if open_:
        return Check("keys", "fail", f"{open_[0]} can be read by others.", f"chmod 600 {open_[0]}")
    if not private:
        return Check("keys", "ok", "No key yet; the first start makes one.")
    return Check("keys", "ok", f"{len(private)} for their owner only.")


def _ports(config: Config) -> list[Check]:
    port, gateway_port, grpc_port = _running_ports(config.home) or (config.port, config.gateway_port, config.grpc_port)
    found = [_port(config, "port", port), _port(config, "gateway port", gateway_port)]
    return [*found, _port(config, "grpc port", grpc_port)] if grpc_port else found


def _running_ports(home: Path) -> tuple[int, int, int] | None:
    """The ports that a running server wrote down, which need not be those of the settings."""
    if not _is_running(home):
        return None
    try:
        note = json.loads((home / "server.json").read_text())
        grpc = urlsplit(f"//{note.get('grpc', '')}").port or 0
        return urlsplit(note["url"]).port or 0, urlsplit(note["gateway"]).port or 0, grpc
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _port(config: Config, name: str, port: int) -> Check:
    """Free, ours, or somebody else's."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((config.host, port))
        except OverflowError:
            return Check(name, "fail", f"{port} is no port.", "Choose one between 1 and 65535.")
        except OSError as error:
            if _is_running(config.home):
                return Check(name, "ok", f"{port} is in use by this Noria.")
            return Check(
                name,
                "fail",
                f"{port} on {config.host}: {error.strerror}.",
                f"Stop what uses it, or choose another --{name.replace(' ', '-')}.",
            )
    return Check(name, "ok", f"{port} is free.")


def _is_running(home: Path) -> bool:
    """Does the server that wrote down its process still run?"""
    try:
        os.kill(int(json.loads((home / "server.json").read_text())["pid"]), 0)
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return True


def _database(config: Config) -> tuple[str, Check]:
    """Can it be reached, and is its schema this program's? Looked at without changing it."""
    from noria.kernel.db import Database
    from noria.migrations import schema_versions

    if config.database_url.startswith("sqlite:///") and not Path(config.database_url.removeprefix("sqlite:///")).exists():
        return "none", Check("database", "warn", "There is no database yet.", "The first start makes it.")
    try:
        database = Database(config.database_url)
        try:
            current, head = schema_versions(database)
        finally:
            database.close()
    except NoriaError as error:
        return "none", Check("database", "fail", error.message, error.hint)
    except Exception as error:
        hint = "Is the server running, and the address in NORIA_DATABASE right?"
        return "none", Check("database", "fail", f"It cannot be read: {str(error).splitlines()[0]}", hint)
    if current == head:
        return "current", Check("database", "ok", f"{database.dialect} at schema {head}.")
    if current is None or current < head:
        return "old", Check(
            "database",
            "warn",
            f"Its schema is {current or 'empty'}; this Noria has {head}.",
            "The next start brings it up to date. Back up first: noria backup create FILE.",
        )
    return "new", Check(
        "database",
        "fail",
        f"Its schema is {current}, newer than this Noria's {head}.",
        "Start the version that wrote it, or a newer one.",
    )


def _blobs(config: Config) -> Check:
    """Write, read back and remove a few bytes."""
    from noria.kernel.blobs import open_blobs

    store = open_blobs(config.blobs_url)
    data = b"noria doctor " + os.urandom(16)
    clock = SystemClock()
    started_s = clock.monotonic_s()
    info = store.put(data)
    is_same = store.get(info.digest) == data
    store.delete(info.digest)
    if not is_same:
        return Check("blobs", "fail", f"{config.blobs_url} gave back other bytes than were stored.")
    return Check("blobs", "ok", f"Stored, read back and removed in {(clock.monotonic_s() - started_s) * 1000:.0f} ms.")


def _log(config: Config) -> Iterator[Check]:
    """The clock against the last fact, and the audit log against what was signed."""
    from noria.app import build

    app: Any = build(config)
    try:
        op = app.ops.system("doctor")
        latest = app.audit.facts(op, limit=1).items
        if latest and latest[0].at_ms > op.at_ms + CLOCK_BACK_MS:
            behind = (latest[0].at_ms - op.at_ms) / 1000
            yield Check(
                "clock",
                "fail",
                f"The clock is {behind:.0f} s behind the last fact.",
                "Set it right: new facts would lie before old ones.",
            )
        else:
            yield Check("clock", "ok", time.strftime("%Y-%m-%d %H:%M:%S UTC.", time.gmtime(op.at_ms / 1000)))
        yield _attempt("audit", lambda: _audit(app, op))
    finally:
        app.db.close()


def _audit(app: Any, op: Any) -> Check:
    report = app.audit.verify(op)
    if not report.is_intact:
        return Check(
            "audit",
            "fail",
            report.faults[0].message,
            "Compare with a backup before anything else: noria backup verify FILE.",
        )
    if report.warnings:
        return Check("audit", "warn", report.warnings[0].message)
    return Check("audit", "ok", f"{report.facts} facts, {report.sealed} sealed and intact.")
