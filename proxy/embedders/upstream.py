"""Embeddings from an upstream's /v1/embeddings, asked through the gateway like any other call."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson

from proxy.errors import SluiceError

Ask = Callable[[str, Mapping[str, Any]], Awaitable[bytes]]
"""Asks the gateway for a whole answer: (endpoint, body). Raises SluiceError."""


class UpstreamEmbedder:
    """`name`: UPSTREAM/MODEL, as a client would call it."""

    asks = True

    def __init__(self, name: str, ask: Ask) -> None:
        self.name = name
        self._ask = ask

    def begin(self) -> None:
        """Does nothing: it is always ready."""

    async def embed(self, text: str) -> list[float]:
        """A vector of the length that the model has.

        Raises the error of the call, or upstream_malformed for an invalid vector.
        """
        answer = await self._ask("embeddings", {"model": self.name, "input": text, "encoding_format": "float"})
        try:
            vector = orjson.loads(answer)["data"][0]["embedding"]
        except (orjson.JSONDecodeError, LookupError, TypeError):
            vector = None
        if not isinstance(vector, list) or not vector or not all(isinstance(number, int | float) for number in vector):
            raise SluiceError("upstream_malformed", f"{self.name} returned no embedding.")
        return vector
