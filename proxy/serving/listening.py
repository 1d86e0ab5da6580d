"""Opens the listening sockets, or explains in one line why that is impossible."""

import errno
import socket
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any, Final

from proxy.hosts import url_host

BACKLOG: Final = 2048
"""Connections that the kernel queues until they are accepted."""


Address = tuple[socket.AddressFamily, tuple[Any, ...]]


class CannotListen(Exception):
    """An address is not available; the text names it and the cause."""


def listen(host: str, port: int) -> list[socket.socket]:
    """Listening sockets for every address of `host`, all at one port; port 0: a free one."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        return listen_at(dict.fromkeys((info[0], info[4]) for info in found), port)
    except OSError as error:
        raise CannotListen(f"cannot listen on {url_host(host)}:{port}: {error.strerror or error}") from None


def listen_at(addresses: Iterable[Address], port: int) -> list[socket.socket]:
    """Listening sockets for those of the addresses that this machine has. Raises OSError if there is none.

    Many hosts files list ::1 as localhost even where IPv6 is disabled.
    """
    with ExitStack() as opened:
        sockets: list[socket.socket] = []
        absent: OSError | None = None
        for family, address in addresses:
            at = sockets[0].getsockname()[1] if sockets else port
            try:
                sockets.append(opened.enter_context(_open(family, (address[0], at, *address[2:]))))
            except OSError as error:
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                absent = error
        if absent is not None and not sockets:
            raise absent
        opened.pop_all()
        return sockets


def inherited_sockets(fds: tuple[int, ...]) -> list[socket.socket]:
    """The listening sockets that the parent process has opened and passed on."""
    sockets = [socket.socket(fileno=fd) for fd in fds]
    for sock in sockets:
        sock.setblocking(False)
    return sockets


def _open(family: socket.AddressFamily, address: tuple[Any, ...]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock
