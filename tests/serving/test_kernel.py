"""The kernel's view of a connection, read through the event loop's transport."""

import asyncio
import socket
import sys

import pytest
import uvloop

from proxy.serving.kernel import ENDED, GONE, tcp_state, unsent
from tests.waiting import until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")


class Open(asyncio.Protocol):
    """Keeps its transport, also past the end of input."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert hasattr(transport, "write")
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]

    def eof_received(self) -> bool:
        return True


def test_states_and_unsent_bytes() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        made: list[Open] = []

        def make() -> Open:
            made.append(Open())
            return made[-1]

        listener = await loop.create_server(make, "127.0.0.1", 0)
        client = socket.create_connection(listener.sockets[0].getsockname())
        await until(lambda: made)
        transport = made[0].transport
        assert unsent(transport) == 0
        transport.write(bytes(2**25))
        await asyncio.sleep(0.05)
        before = unsent(transport)
        assert before > 2**20
        taken = 0
        while taken < 2**23:
            taken += len(client.recv(2**20))
            await asyncio.sleep(0)
        await asyncio.sleep(0.05)
        assert unsent(transport) < before
        client.shutdown(socket.SHUT_WR)
        await until(lambda: tcp_state(transport) == ENDED)
        client.close()  # with bytes unread: a reset
        await until(lambda: tcp_state(transport) == GONE)
        transport.abort()
        listener.close()

    uvloop.run(main())
