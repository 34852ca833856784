"""One message through Apprise, in a process of its own that reaches nothing else.

Apprise's address decides which of a hundred services is spoken to and how, and some of them open files or start programs. So the
services are a list of our own, and a hook in this process (which cannot be taken out again) refuses every connection to an address
that webhooks do not go to either, every other kind of socket, every program, and every file but those of Python itself. That holds
for redirects, for names that change their mind, and for whatever Apprise learns next.

Reads a task from standard input, answers on standard output, ends.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import sysconfig
from typing import Any

import msgspec
from msgspec import Struct

from noria.governance.sending import is_public
from noria.kernel.processes import die_with_parent

SERVICES = frozenset({
    "mailto", "mailtos", "slack", "msteams", "workflow", "workflows", "discord", "tgram", "gchat", "wxteams", "webex", "zulip",
    "mmost", "mmosts", "rocket", "rockets", "matrix", "matrixs", "gotify", "gotifys", "ntfy", "ntfys", "pagerduty", "opsgenie",
    "pover", "twilio", "sns", "ses", "sendgrid", "mailgun", "sparkpost", "signal", "signals", "guilded", "ryver", "splunk",
    "victorops", "json", "jsons", "form", "forms", "xml", "xmls",
})  # fmt: skip
PLAIN_FILES = ("/etc/ssl", "/etc/pki", "/usr/share/ca-certificates", "/usr/share/zoneinfo", "/usr/lib/ssl", "/dev/null")
NAMES = frozenset(
    {"/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf", "/etc/mime.types"}
)
FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "subprocess.Popen", "pty.spawn")
ERROR_LENGTH_MAX = 300


class Task(Struct, frozen=True, kw_only=True):
    """What is to be said where; without a title the address is looked at only."""

    url: str
    title: str = ""
    body: str = ""
    tone: str = "info"
    allow_private: bool = False


class Told(Struct, kw_only=True):
    """`refused`: trying again is useless."""

    ok: bool = False
    refused: bool = False
    error: str = ""
    service: str = ""
    shown: str = ""


class Guard:
    """What the hook refused."""

    def __init__(self, *, allow_private: bool) -> None:
        self.allow_private = allow_private
        self.refused = ""
        paths = sysconfig.get_paths()
        folders = {paths["stdlib"], paths["platstdlib"], paths["purelib"], paths["platlib"], sys.prefix, sys.base_prefix}
        self._folders = tuple(os.path.realpath(f) + os.sep for f in folders | set(filter(None, sys.path)) | set(PLAIN_FILES))

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "socket.connect" or (
            event in ("socket.sendto", "socket.sendmsg", "socket.bind") and len(args) > 1 and args[1]
        ):
            self._connect(args[0], args[1])
        elif event == "open":
            self._open(args[0], args[1])
        elif event.startswith(FORBIDDEN):
            self._refuse(f"A channel starts no program ({event}).")

    def _connect(self, made: Any, address: Any) -> None:
        if made.family not in (socket.AF_INET, socket.AF_INET6):
            self._refuse("A channel goes to the network only.")
        if not self.allow_private and not is_public(str(address[0])):
            self._refuse(f"It leads to {address[0]}, where channels do not go.")

    def _open(self, path: Any, mode: Any) -> None:
        if not isinstance(path, str | bytes):
            return  # a number that is open already
        found = os.path.realpath(os.fsdecode(path))
        is_writing = isinstance(mode, str) and any(letter in mode for letter in "wax+")
        if found == "/dev/null" or (not is_writing and (found in NAMES or (found + os.sep).startswith(self._folders))):
            return
        self._refuse("A channel reads and writes no files.")

    def _refuse(self, why: str) -> None:
        self.refused = self.refused or why
        raise PermissionError(why)


class Kept(logging.Handler):
    """The last thing that Apprise complained of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text = record.getMessage()


def main() -> None:
    die_with_parent()
    task = msgspec.json.decode(sys.stdin.buffer.read(), type=Task)
    sys.stdout.buffer.write(msgspec.json.encode(tell(task)))


def tell(task: Task) -> Told:
    """Look at the address, and send if there is something to say."""
    try:
        import apprise
    except ImportError:
        return Told(refused=True, error="Channels speak through Apprise, which is not installed here.")
    kept = Kept()
    logging.getLogger("apprise").handlers = [kept]
    logging.getLogger("apprise").propagate = False
    asset = apprise.AppriseAsset(
        storage_mode=apprise.PersistentStoreMode.MEMORY, async_mode=False, app_id="Noria", app_desc="Noria"
    )
    apprise.Apprise.instantiate("json://localhost", asset=asset)  # loads every plugin, before the hook is there
    guard = Guard(allow_private=task.allow_private)
    sys.addaudithook(guard)
    try:
        made: Any = apprise.Apprise.instantiate(task.url, asset=asset)
    except Exception as error:  # a hundred plugins by as many people
        return Told(refused=True, error=guard.refused or f"The address cannot be read: {type(error).__name__}.")
    if made is None or guard.refused:
        return Told(refused=True, error=guard.refused or f"The address is not one of {task.url.partition(':')[0]}.")
    told = Told(ok=True, service=str(made.service_name), shown=str(made.url(privacy=True)).partition("?")[0])
    if not task.title:
        return told
    try:
        told.ok = bool(made.notify(title=task.title, body=task.body, notify_type=apprise.NotifyType(task.tone)))
    except Exception as error:
        told.ok, kept.text = False, f"{type(error).__name__}: {error}"
    if not told.ok:
        told.refused = bool(guard.refused)
        told.error = (guard.refused or kept.text or f"{told.service} did not take it.")[:ERROR_LENGTH_MAX]
    return told


if __name__ == "__main__":
    main()
