"""Runs a program that can reach only what it was granted: files by Landlock, sockets by seccomp, no capabilities. Linux.

    python -I -S confine.py '{"read": […], "list": […], "write": […], "ports": […], "limits": {…}}' PROGRAM ARGUMENT…

It is a file of its own, with the standard library alone, because it runs before anything of a model's environment does: that could
hold code which runs when its Python starts. What it puts on itself survives `exec` and cannot be taken off. It grants, and refuses
everything else:

- files: below `read` they can be read and run, below `list` only their names, below `write` they can be made, changed and removed;
- connections: TCP to `ports` (0: any) and UDP when there are any, for names must be resolved; no other sockets at all, so neither
  the machine's services nor other workers can be spoken to. Pairs of sockets, pipes and what was handed over stay;
- other processes: no signal, no look into their memory or environment;
- of its own processes none leaves the group or outlives its parent unseen, so that `bounds.py` finds and ends them all;
- what one process may take at the most (`limits`), and that the kernel ends these first when the machine has no memory left.

With `is_open` only the last of these.

Where the kernel cannot do one of these, the others still hold; `offers()` says what, and a caller decides whether that is enough.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import platform
import resource
import stat
import struct
import sys
from collections.abc import Iterable
from typing import Any

# landlock(7); the numbers are the same on every architecture.
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
VERSION_FLAG = 1
RULE_PATH, RULE_PORT = 1, 2
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
TRUNCATE, IOCTL_DEVICE = 1 << 14, 1 << 15
# How many of the rights to files each version of Landlock knows.
RIGHTS_KNOWN = {1: 13, 2: 14, 3: 15, 4: 15}
RIGHTS_MOST = 16
MAKE_DEVICES = 1 << 6 | 1 << 11
OF_A_FILE = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEVICE  # the others are for folders only
BIND_TCP, CONNECT_TCP = 1, 2
SCOPED = 1 | 2  # abstract unix sockets and signals stay within
TCP_FROM, SCOPES_FROM = 4, 6

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_FILTER = 38, 22, 2
CAPABILITY_VERSION = 0x20080522
PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER = 4, 36
OOM_SCORE = 500  # of 1000; the server has 0
AF_INET, AF_INET6, SOCK_STREAM = 2, 10, 1
PROTOCOLS = (0, 6, 17)  # the usual one, TCP, UDP; Landlock's ports do not bind others, such as MPTCP
# Per architecture: its name for seccomp, and the numbers of the system calls that are looked at.
CALLS: dict[str, tuple[int, dict[str, int]]] = {
    "x86_64": (0xC000003E, {
        "socket": 41, "socketpair": 53, "ptrace": 101, "mount": 165, "keyctl": 250, "unshare": 272, "setns": 308,
        "process_vm_readv": 310, "process_vm_writev": 311, "bpf": 321, "io_uring_setup": 425, "pidfd_getfd": 438,
        "setpgid": 109, "setsid": 112, "prctl": 157,
    }),
    "aarch64": (0xC00000B7, {
        "socket": 198, "socketpair": 199, "ptrace": 117, "mount": 40, "keyctl": 219, "unshare": 97, "setns": 268,
        "process_vm_readv": 270, "process_vm_writev": 271, "bpf": 280, "io_uring_setup": 425, "pidfd_getfd": 438,
        "setpgid": 154, "setsid": 157, "prctl": 167,
    }),
}  # fmt: skip
X32_BIT = 0x40000000
ALLOW, REFUSE = 0x7FFF0000, 0x00050000

# What any program needs of the machine, and nothing of it is anybody's.
MACHINE = (
    "/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime",
    "/etc/timezone", "/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/hosts",
    "/etc/host.conf", "/etc/gai.conf", "/etc/resolv.conf", "/etc/services", "/etc/protocols", "/etc/mime.types", "/etc/os-release",
    "/etc/alternatives", "/etc/fonts", "/etc/OpenCL", "/etc/vulkan", "/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat",
    "/proc/filesystems", "/proc/version", "/proc/loadavg", "/proc/sys/kernel", "/proc/sys/vm", "/proc/driver/nvidia",
    "/sys/devices/system", "/sys/fs/cgroup", "/sys/bus/pci", "/sys/class/drm", "/sys/class/kfd", "/sys/module/nvidia",
)  # fmt: skip
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/dri", "/dev/kfd")
GPU_DEVICES = "nvidia"  # /dev/nvidia0, /dev/nvidiactl, …


def offers() -> tuple[bool, str]:
    """(whether all of it can be enforced here, what is enforced in words)."""
    if sys.platform != "linux":
        return False, "not confined: this system has neither Landlock nor seccomp"
    version = _version()
    has = {
        "files": version > 0,
        "sockets": _calls() is not None,
        "ports": version >= TCP_FROM,
        "signals": version >= SCOPES_FROM,
    }
    said, lacks = [n for n, ok in has.items() if ok], [n for n, ok in has.items() if not ok]
    words = f"confined: {', '.join(said)}" if said else "not confined"
    return not lacks, words + (f"; not {', '.join(lacks)}, which this kernel cannot" if lacks else "")


def _version() -> int:
    """Of Landlock; 0 without it."""
    libc = ctypes.CDLL(None, use_errno=True)
    found: int = libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(VERSION_FLAG))
    return max(0, found)


def _calls() -> tuple[int, dict[str, int]] | None:
    return CALLS.get(platform.machine()) if sys.maxsize > 2**32 else None


def confine(rules: dict[str, Any]) -> None:
    """From now on, and for ever. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    version = _version()
    ports: list[int] = rules.get("ports") or []
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise _error("prctl")
    if version:
        _landlock(libc, version, rules, ports)
    _drop_capabilities(libc)
    calls = _calls()
    if calls is not None:
        _seccomp(libc, *calls, has_network=bool(ports))


def bound(limits: dict[str, int]) -> None:
    """What the kernel is to refuse this process and those that come of it; a lower limit that it has stays."""
    for name, number in (
        ("data", resource.RLIMIT_DATA), ("file", resource.RLIMIT_FSIZE), ("files", resource.RLIMIT_NOFILE),
        ("tasks", resource.RLIMIT_NPROC),
    ):  # fmt: skip
        _, most = resource.getrlimit(number)
        wanted = limits[name] if most == resource.RLIM_INFINITY else min(limits[name], most)
        resource.setrlimit(number, (wanted, wanted))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        with open("/proc/self/oom_score_adj", "w") as file:  # noqa: PTH123 - pathlib doubles the start of each worker
            file.write(str(OOM_SCORE))
    except OSError:  # some containers keep it; the watch is still there
        return


def _landlock(libc: Any, version: int, rules: dict[str, Any], ports: list[int]) -> None:
    known = (1 << RIGHTS_KNOWN.get(version, RIGHTS_MOST)) - 1
    has_tcp = version >= TCP_FROM and 0 not in ports
    attributes = struct.pack(
        "=QQQ", known, (BIND_TCP | CONNECT_TCP) if has_tcp else 0, SCOPED if version >= SCOPES_FROM else 0
    )
    size = 24 if version >= SCOPES_FROM else 16 if version >= TCP_FROM else 8
    ruleset = libc.syscall(CREATE_RULESET, ctypes.c_char_p(attributes), ctypes.c_size_t(size), ctypes.c_uint32(0))
    if ruleset < 0:
        raise _error("landlock_create_ruleset")
    reading, writing = EXECUTE | READ_FILE | READ_DIR, known & ~(EXECUTE | MAKE_DEVICES)
    devices = [*DEVICES, *(f"/dev/{n}" for n in _names("/dev") if n.startswith(GPU_DEVICES))]
    wanted = [(path, reading) for path in (*MACHINE, *rules["read"])]
    wanted += [(path, READ_DIR) for path in rules["list"]]
    wanted += [(path, writing) for path in (*rules["write"], *devices)]
    for path, rights in wanted:
        _grant(libc, ruleset, path, rights & known)
    for port in ports if has_tcp else ():
        rule = struct.pack("=QQ", CONNECT_TCP, port)
        if libc.syscall(ADD_RULE, ruleset, RULE_PORT, ctypes.c_char_p(rule), ctypes.c_uint32(0)):
            raise _error(f"landlock_add_rule for port {port}")
    if libc.syscall(RESTRICT_SELF, ruleset, ctypes.c_uint32(0)):
        raise _error("landlock_restrict_self")
    os.close(ruleset)


def _grant(libc: Any, ruleset: int, path: str, rights: int) -> None:
    """What is not there needs no grant."""
    try:
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError, NotADirectoryError):
        return
    try:
        if not stat.S_ISDIR(os.fstat(opened).st_mode):
            rights &= OF_A_FILE
        rule = struct.pack("=Qi", rights, opened)
        if rights and libc.syscall(ADD_RULE, ruleset, RULE_PATH, ctypes.c_char_p(rule), ctypes.c_uint32(0)):
            raise _error(f"landlock_add_rule for {path}")
    finally:
        os.close(opened)


def _names(folder: str) -> Iterable[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208 - pathlib doubles the start of each worker
    except OSError:
        return ()


def _drop_capabilities(libc: Any) -> None:
    """Root without its powers; whoever had none keeps none."""
    header = struct.pack("=Ii", CAPABILITY_VERSION, 0)
    if libc.capset(ctypes.c_char_p(header), ctypes.c_char_p(bytes(24))):
        raise _error("capset")


def _seccomp(libc: Any, architecture: int, calls: dict[str, int], *, has_network: bool) -> None:
    """Refuse calls that lead around the rest: sockets of other kinds, io_uring (which can open them), looking into processes."""
    load, equal, at_least, mask, give = 0x20, 0x15, 0x35, 0x54, 0x06  # ld [k]; jeq k; jge k; and k; ret k
    program: list[tuple[int, int, int, int]] = [
        (load, 0, 0, 4), (equal, 1, 0, architecture), (give, 0, 0, REFUSE | errno.EPERM), (load, 0, 0, 0),
    ]  # fmt: skip
    if architecture == CALLS["x86_64"][0]:
        program += [(at_least, 0, 1, X32_BIT), (give, 0, 0, REFUSE | errno.EPERM)]
    for name, number in calls.items():
        if name not in ("socket", "socketpair", "prctl"):
            refusal = errno.ENOSYS if name == "io_uring_setup" else errno.EPERM
            program += [(equal, 0, 1, number), (give, 0, 0, REFUSE | refusal)]
    # 16: the lower half of the first argument. Whoever may not be looked into cannot be measured.
    program += [(equal, 0, 5, calls["prctl"]), (load, 0, 0, 16), (equal, 1, 0, PR_SET_DUMPABLE)]
    program += [(equal, 0, 1, PR_SET_CHILD_SUBREAPER), (give, 0, 0, REFUSE | errno.EPERM), (give, 0, 0, ALLOW)]
    # A pair of datagram sockets is no pair: either end can be connected elsewhere. 16, 24, 32: the lower halves of arguments.
    program += [(equal, 0, 5, calls["socketpair"]), (load, 0, 0, 24), (mask, 0, 0, 0xF)]
    program += [(equal, 0, 1, SOCK_STREAM), (give, 0, 0, ALLOW), (give, 0, 0, REFUSE | errno.EACCES)]
    program += [(equal, 1, 0, calls["socket"]), (give, 0, 0, ALLOW), (load, 0, 0, 16)]
    if has_network:
        program += [(equal, 2, 0, AF_INET), (equal, 1, 0, AF_INET6), (give, 0, 0, REFUSE | errno.EACCES), (load, 0, 0, 32)]
        for protocol in PROTOCOLS:
            program += [(equal, 0, 1, protocol), (give, 0, 0, ALLOW)]
    program.append((give, 0, 0, REFUSE | errno.EACCES))
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in program))
    holder = struct.pack("HxxxxxxP", len(program), ctypes.addressof(code))
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_FILTER, ctypes.c_char_p(holder), 0, 0):
        raise _error("seccomp")


def _error(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}")


def main() -> None:
    rules = json.loads(sys.argv[1])
    if limits := rules.get("limits"):
        bound(limits)
    if not rules.get("is_open"):
        confine(rules)
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 - there is no shell


if __name__ == "__main__":
    main()
