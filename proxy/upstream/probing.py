"""A GET request of which only the status matters."""

import httpx

_PATIENCE = 3.0  # seconds for each step of the request


async def status_of(url: str) -> int:
    """The status of a GET; 0: no answer in time."""
    async with httpx.AsyncClient(trust_env=False, timeout=_PATIENCE) as client:
        try:
            return (await client.get(url)).status_code
        except httpx.HTTPError:
            return 0
