"""One POST to an address that somebody typed in: signed, bounded, and never to where it should not go.

Against SSRF: the name is resolved once, every address it has is checked, and the connection is made to a checked address, so a
name that changes its mind (DNS rebinding) changes nothing. Redirects are not followed. The deny list is our own: Python's
`is_global` says yes to NAT64 (`64:ff9b::/96`), IPv4-compatible (`::127.0.0.1`) and multicast addresses.

What is sent is signed as noria/kernel/signing.py says.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
from collections.abc import Callable
from urllib.parse import urlsplit

from msgspec import Struct

from noria.kernel.clock import Clock
from noria.kernel.errors import Invalid, Unavailable

TIMEOUT_S = 7.0
ANSWER_BYTES_MAX = 100_000
URL_LENGTH_MAX = 2_000
_REFUSED = tuple(
    ipaddress.ip_network(n)
    for n in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
        "224.0.0.0/4", "240.0.0.0/4",
        # Of IPv6 only global unicast is left by what follows; these lie inside it, and can carry an IPv4 address.
        "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
    )
)  # fmt: skip
_GLOBAL_V6 = ipaddress.ip_network("2000::/3")
Resolve = Callable[[str, int], list[str]]


class Answer(Struct, frozen=True):
    """What the other side said."""

    status: int
    body: str


def is_public(address: str) -> bool:
    """May a webhook go to this IP address?"""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address) and found not in _GLOBAL_V6:
        return False
    return not any(found in network for network in _REFUSED if network.version == found.version)


def check_url(url: str) -> str:
    """`url` if a webhook could go there; else Invalid. Whether its address is allowed is decided when it is resolved."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as cause:
        raise Invalid("The address cannot be read.", where="url") from cause
    if len(url) > URL_LENGTH_MAX or not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise Invalid(f"An address has at most {URL_LENGTH_MAX} plain characters.", where="url")
    if parts.scheme not in ("https", "http") or not parts.hostname or port == 0:
        raise Invalid("A webhook goes to an https:// or http:// address.", where="url")
    if parts.username is not None or parts.password is not None:
        raise Invalid(
            "An address must not hold a password.", where="url", hint="Deliveries are signed; check the signature."
        )
    return url


def resolve(host: str, port: int) -> list[str]:
    """Every address of a name. Raises Unavailable."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as cause:
        raise Unavailable(f"The name {host} cannot be resolved.") from cause
    return list(dict.fromkeys(str(info[4][0]) for info in found))


def send(
    url: str, body: bytes, headers: dict[str, str], *, allow_private: bool, clock: Clock, resolve: Resolve = resolve,
    timeout_s: float = TIMEOUT_S,
) -> Answer:  # fmt: skip
    """POST `body`. Raises Invalid (the address is not allowed: trying again is useless) or Unavailable (trying again may help)."""
    parts = urlsplit(check_url(url))
    host, is_tls = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if is_tls else 80)
    until_s = clock.monotonic_s() + timeout_s
    addresses = resolve(host, port)
    refused = [a for a in addresses if not allow_private and not is_public(a)]
    if refused or not addresses:
        raise Invalid(
            f"{host} leads to {refused[0] if refused else 'nowhere'}, where webhooks do not go.", where="url",
            hint="An administrator can allow private addresses for this webhook: allow_private.",
        )  # fmt: skip
    try:
        with socket.create_connection((addresses[0], port), timeout=timeout_s) as plain:
            # Certificates are checked for the name, not for the address that was connected to.
            stream = ssl.create_default_context().wrap_socket(plain, server_hostname=host) if is_tls else plain
            with stream:
                return _exchange(stream, parts.netloc, parts.path or "/", parts.query, body, headers, clock, until_s)
    except (OSError, http.client.HTTPException) as cause:
        raise Unavailable(f"{host} did not answer: {type(cause).__name__}.") from cause


def _exchange(
    stream: socket.socket, netloc: str, path: str, query: str, body: bytes, headers: dict[str, str], clock: Clock,
    until_s: float,
) -> Answer:  # fmt: skip
    connection = http.client.HTTPConnection(netloc)
    connection.sock = stream
    connection.request("POST", path + (f"?{query}" if query else ""), body=body, headers=headers)
    answer = connection.getresponse()
    read = b""
    while len(read) < ANSWER_BYTES_MAX:
        left_s = until_s - clock.monotonic_s()
        if left_s <= 0:
            raise TimeoutError
        stream.settimeout(left_s)
        chunk = answer.read1(min(16_384, ANSWER_BYTES_MAX - len(read)))
        if not chunk:
            break
        read += chunk
    return Answer(answer.status, read.decode("utf-8", "replace"))
