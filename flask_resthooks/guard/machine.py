"""Ground: the addresses of this machine.

One of them may be public, and what listens at it, or at all addresses, listens for the machine's
neighbours as well: a firewall keeps the world out, and a hook from inside passes it. What a router
translates to this machine (an elastic or floating address) cannot be seen from here: that is for
`RESTHOOKS_DENIED_NETWORKS`.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from ipaddress import IPv6Address, ip_address, ip_network
from pathlib import Path

from .networks import Network

REFRESH = 30.0
"""Seconds for which what was found is believed."""

FIB_TRIE = Path("/proc/net/fib_trie")
IF_INET6 = Path("/proc/net/if_inet6")

# For documentation: a datagram socket that is connected sends nothing, but is given the address
# that it would send from.
_ELSEWHERE = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))

_LEAF = re.compile(r"\s*\|-- ([0-9.]+)")
_LOCAL = re.compile(r"\s*/([0-9]+) host LOCAL")


def find() -> frozenset[Network]:
    """Look for the networks whose every address is this machine's, mostly of one address each.

    On Linux the kernel lists them; elsewhere it is those that the machine's own name stands for,
    and those that it sends from. Nothing is sent, and on Linux no name is resolved.
    """
    found = set(from_fib_trie(_read(FIB_TRIE)))
    if not found:
        found.update(_named())
    found.update(from_if_inet6(_read(IF_INET6)))
    found.update(_sending())
    return frozenset(found)


def from_fib_trie(text: str) -> Iterator[Network]:
    """The local routes of Linux's IPv4 table: a leaf, and below it the lengths and kinds."""
    leaf = ""
    for line in text.splitlines():
        if match := _LEAF.match(line):
            leaf = match[1]
        elif match := _LOCAL.match(line):
            yield ip_network(f"{leaf}/{match[1]}", strict=False)


def from_if_inet6(text: str) -> Iterator[Network]:
    """The IPv6 addresses of Linux's interfaces: 32 digits at the beginning of each line."""
    for line in text.splitlines():
        yield ip_network(IPv6Address(int(line[:32], 16)))


def _read(path: Path) -> str:
    with suppress(OSError):
        return path.read_text("ascii", "replace")  # an interface's name may be any bytes
    return ""


def _named() -> Iterator[Network]:
    with suppress(OSError, UnicodeError):
        for *_, sockaddr in socket.getaddrinfo(socket.gethostname(), None):
            yield ip_network(ip_address(str(sockaddr[0]).partition("%")[0]))


def _sending() -> Iterator[Network]:
    for family, address in _ELSEWHERE:
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
            yield ip_network(ip_address(probe.getsockname()[0].partition("%")[0]))


class Own:
    """What `find` finds, looked for again every `REFRESH` seconds.

    :param look: stands in for `find`.
    :param clock: stands in for `time.monotonic`.
    """

    def __init__(
        self,
        look: Callable[[], frozenset[Network]] = find,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look = look
        self._clock = clock
        self._found: tuple[float, frozenset[Network]] | None = None

    def __call__(self) -> frozenset[Network]:
        now = self._clock()
        if self._found is None or now - self._found[0] >= REFRESH:
            # Threads that come at once look each for themselves: no harm in that.
            self._found = (now, self._look())
        return self._found[1]


own = Own()
"""This machine's, for all guards of the process."""
