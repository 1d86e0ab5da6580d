"""A body that is there already, as httpx's transports read it."""

import asyncio

from proxy.upstream.transport import BytesBody


def test_a_body_comes_in_one_piece() -> None:
    async def gathered() -> list[bytes]:
        return [piece async for piece in BytesBody(b"ab")]

    assert asyncio.run(gathered()) == [b"ab"]
