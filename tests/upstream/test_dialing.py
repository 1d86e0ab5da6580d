"""Addresses are tried side by side, certificates are checked."""

import socket
import ssl
from pathlib import Path

import httpx
import pytest

from proxy.upstream.client import Client
from proxy.upstream.connection import Connection
from proxy.upstream.dialing import dial, first_connected, interleave_families, trust
from proxy.upstream.resolving import Address, Resolver
from tests.upstream.conftest import Run, server_side
from tests.upstream.rawserver import HELLO, Peer, answering, read, serving


def address(port: int) -> Address:
    return socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port)


def test_the_families_take_turns() -> None:
    four = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (f"192.0.2.{number}", 1)) for number in range(3)]
    six = [(socket.AF_INET6, socket.SOCK_STREAM, 0, "", (f"2001:db8::{number}", 1, 0, 0)) for number in range(1)]
    assert interleave_families([*six, *four]) == [six[0], four[0], four[1], four[2]]
    assert interleave_families([*four, *six]) == [four[0], six[0], four[1], four[2]]


def test_an_address_that_refuses_is_followed_by_the_next(run: Run) -> None:
    async def main() -> None:
        async with serving(answering(HELLO)) as closed:
            pass
        async with serving(answering(HELLO)) as server:
            with await first_connected([address(closed.port), address(server.port)]) as sock:
                assert sock.getpeername() == ("127.0.0.1", server.port)
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        with pytest.raises(ConnectionRefusedError):
            await first_connected([address(closed.port), address(server.port)])

    run(main())


def test_an_address_that_is_silent_does_not_hold_up_the_next(run: Run) -> None:
    async def main() -> None:
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen(0)
            filling = []
            for _ in range(3):  # the queue of connections is full: more get no answer
                filler = socket.socket()
                filler.setblocking(False)
                filler.connect_ex(silent.getsockname())
                filling.append(filler)
            async with serving(answering(HELLO)) as server:
                dead = silent.getsockname()[1]
                with await first_connected([address(dead), address(dead), address(server.port)]) as sock:
                    assert sock.getpeername() == ("127.0.0.1", server.port)
                with pytest.raises(httpx.ConnectTimeout):
                    await Client().ask("GET", f"http://127.0.0.1:{dead}/", [], b"", 0.05)
            for filler in filling:
                filler.close()

    run(main())


async def asked(client: Client, url: str) -> bytes:
    response = await client.ask("GET", url, [], b"", 5)
    try:
        return b"".join([piece async for piece in response.stream])
    finally:
        await response.stream.aclose()


def test_a_certificate_that_nobody_vouches_for_is_refused(run: Run, certificate: Path) -> None:
    async def main() -> None:
        async with serving(answering(HELLO), server_side(certificate)) as server:
            with pytest.raises(httpx.ConnectError, match="SSLCertVerificationError"):
                await asked(Client(), f"https://localhost:{server.port}/")

    run(main())


def test_a_trusted_certificate_is_accepted_for_its_own_name_only(run: Run, certificate: Path) -> None:
    async def main() -> None:
        tls = trust()
        tls.load_verify_locations(certificate)
        client = Client(tls)
        async with serving(answering(HELLO), server_side(certificate)) as server:
            for _ in range(3):
                assert await asked(client, f"https://localhost:{server.port}/") == b"hello"
            assert server.connections == 1
            with pytest.raises(httpx.ConnectError, match="SSLCertVerificationError"):
                await asked(client, f"https://127.0.0.1:{server.port}/")
            await client.aclose()

    run(main())


def test_session_keys_that_cannot_be_written_are_told_of_once_and_break_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "nowhere" / "keys.log"))
    for _ in range(2):
        assert trust().verify_mode is ssl.CERT_REQUIRED
    (told,) = caplog.messages
    assert told == "SSLKEYLOGFILE cannot be written to and is not used: No such file or directory"


def test_a_server_without_tls_is_a_connect_error(run: Run) -> None:
    async def plain(peer: Peer) -> None:
        await peer.send(b"no tls here\r\n")
        await peer.left()

    async def main() -> None:
        async with serving(plain) as server:
            with pytest.raises(httpx.ConnectError):
                await asked(Client(), f"https://localhost:{server.port}/")

    run(main())


def test_every_address_of_a_name_is_resolved(run: Run) -> None:
    async def main() -> None:
        async with serving(answering(HELLO)) as server:
            connection = await dial(Resolver("localhost", server.port), None, lambda: Connection(lambda _: None))
            await connection.exchange(b"GET / HTTP/1.1\r\n\r\n", b"")
            assert await read(connection) == b"hello"
            connection.abort()

    run(main())
