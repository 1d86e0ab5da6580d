"""Calls the HTTP tools of voice assistants."""

import asyncio
import ssl
from typing import Final

import httpx

from proxy.errors import SluiceError
from proxy.upstream.dialing import trust

_LARGEST: Final = 256 * 1024  # largest answer in bytes: it is spoken, or read by a model
_HEADERS: Final = {"content-type": "application/json", "accept-encoding": "identity"}


class Tools:
    """Calls tools by a new connection each, since calls are rare; only the TLS context is kept."""

    __slots__ = ("_tls",)

    def __init__(self) -> None:
        self._tls: ssl.SSLContext | None = None  # created at the first call

    async def ask(self, url: str, timeout: float, body: bytes) -> bytes:
        """The answer to this JSON body, within `timeout` seconds in total.

        Raises SluiceError; redirects are not followed.
        """
        try:
            async with asyncio.timeout(timeout):
                return await self._asked(url, body)
        except TimeoutError:
            raise SluiceError("upstream_timeout", "It did not answer in time.") from None
        except (httpx.HTTPError, httpx.InvalidURL):
            raise SluiceError("upstream_unreachable", "It could not be reached.") from None

    async def _asked(self, url: str, body: bytes) -> bytes:
        if self._tls is None:
            self._tls = await asyncio.to_thread(trust)  # reads a large file
        async with (  # no timeout here: the caller has one
            httpx.AsyncClient(verify=self._tls, trust_env=False, follow_redirects=False, timeout=None) as client,
            client.stream("POST", url, content=body, headers=_HEADERS) as response,
        ):
            if not response.is_success:
                raise SluiceError("upstream_error", f"It answered with the status {response.status_code}.")
            if response.headers.get("content-encoding", "identity") != "identity":
                raise SluiceError("upstream_malformed", "It sent a compressed answer that was not requested.")
            answer = bytearray()
            async for piece in response.aiter_raw():
                answer += piece
                if len(answer) > _LARGEST:
                    raise SluiceError("upstream_malformed", f"Its answer is larger than {_LARGEST} bytes.")
            return bytes(answer)
