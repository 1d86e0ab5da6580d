"""Asks an address for nothing but its status."""

import httpx


async def status_of(url: str, seconds: float = 3.0) -> int:
    """The status of a GET; 0 where there is no answer."""
    async with httpx.AsyncClient(trust_env=False, timeout=seconds) as client:
        try:
            return (await client.get(url)).status_code
        except httpx.HTTPError:
            return 0
