"""Opens one TCP or TLS connection: addresses tried in parallel (Happy Eyeballs, RFC 8305), certificates checked."""

import asyncio
import logging
import os
import socket
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from itertools import chain, zip_longest
from typing import Final

import certifi

from proxy.upstream.connection import Connection
from proxy.upstream.resolving import Address, Resolver

log = logging.getLogger("sluice")

HEAD_START: Final = 0.25  # seconds before the next address is tried in parallel


def trust() -> ssl.SSLContext:
    """A TLS context that checks certificates and host names, by the system's authorities, or else certifi's."""
    context = _default_context()
    context.set_alpn_protocols(["http/1.1"])
    if not context.cert_store_stats()["x509_ca"]:
        context.load_verify_locations(certifi.where())
    return context


def _default_context() -> ssl.SSLContext:
    """Python's default context, without SSLKEYLOGFILE if that cannot be written, which is logged once."""
    try:
        return ssl.create_default_context()
    except OSError as error:
        if os.environ.pop("SSLKEYLOGFILE", None) is None:
            raise
        log.warning("SSLKEYLOGFILE cannot be written to and is not used: %s", error.strerror)
        return ssl.create_default_context()


async def dial(resolver: Resolver, tls: ssl.SSLContext | None, made: Callable[[], Connection]) -> Connection:
    """A connection to a host. Raises OSError (ssl.SSLError included), or UnicodeError for an invalid host name."""
    loop = asyncio.get_running_loop()
    sock = await first_connected(interleave_families(await resolver.addresses()))
    name = resolver.host if tls is not None else None
    _, connection = await loop.create_connection(made, sock=sock, ssl=tls, server_hostname=name)  # now owns `sock`
    return connection


def interleave_families(addresses: Sequence[Address]) -> list[Address]:
    """IPv6 and IPv4 alternating, beginning with the family that the resolver put first."""
    first = [item for item in addresses if item[0] == addresses[0][0]]
    others = [item for item in addresses if item[0] != addresses[0][0]]
    return [item for item in chain.from_iterable(zip_longest(first, others)) if item is not None]


async def first_connected(addresses: Sequence[Address]) -> socket.socket:
    """The first successful one of connection attempts started one after another; the others are closed."""
    waiting = deque(addresses)
    running: set[asyncio.Task[socket.socket]] = set()
    failures: list[BaseException] = []
    won: socket.socket | None = None
    try:
        while won is None:
            if waiting:
                running.add(asyncio.create_task(_connected(waiting.popleft())))
            elif not running:
                raise failures[0]
            patience = HEAD_START if waiting else None
            done, running = await asyncio.wait(running, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                error = task.exception()
                if error is not None:
                    failures.append(error)
                elif won is None:
                    won = task.result()
                else:
                    task.result().close()
    finally:
        for task in running:
            task.cancel()
            task.add_done_callback(_close_late)
    return won


def _close_late(task: "asyncio.Task[socket.socket]") -> None:
    """Closes a connection that was made although no longer wanted."""
    if not task.cancelled() and task.exception() is None:
        task.result().close()


async def _connected(address: Address) -> socket.socket:
    family, kind, protocol, _, where = address
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(sock, where)
    except BaseException:
        sock.close()
        raise
    return sock
