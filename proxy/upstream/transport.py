"""What httpx's own transports need of us, where a target is asked by one of them."""

from collections.abc import AsyncIterator

import httpx


class BytesBody(httpx.AsyncByteStream):
    """A request's body that is there already."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.data
