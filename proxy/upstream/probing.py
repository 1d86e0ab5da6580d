"""A GET request of which only the status matters."""

import asyncio
from typing import Final

import httpx

_PATIENCE: Final = 2.0  # seconds; Docker gives a health check three, Python's start included


async def status_of(url: str) -> int:
    """The status of a GET by http; 0: no answer in time."""
    try:
        async with (
            asyncio.timeout(_PATIENCE),
            httpx.AsyncClient(trust_env=False, timeout=None, verify=False) as client,  # verify: http has nothing to
        ):
            return (await client.get(url)).status_code
    except (TimeoutError, httpx.HTTPError, httpx.InvalidURL):
        return 0
