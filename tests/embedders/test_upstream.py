"""Embeddings of an upstream, asked through the gateway."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from proxy.embedders.upstream import UpstreamEmbedder
from proxy.errors import SluiceError


def embedded(answer: bytes) -> tuple[Any, list[tuple[str, Mapping[str, Any]]]]:
    """The vector that comes of an answer, and what was asked."""
    asked: list[tuple[str, Mapping[str, Any]]] = []

    async def ask(endpoint: str, fields: Mapping[str, Any]) -> bytes:
        asked.append((endpoint, fields))
        return answer

    return asyncio.run(UpstreamEmbedder("east/e", ask).embed("owl")), asked


def test_one_text_is_one_call() -> None:
    vector, asked = embedded(b'{"data":[{"embedding":[1,2.5]}]}')
    assert vector == [1, 2.5]
    assert asked == [("embeddings", {"model": "east/e", "input": "owl", "encoding_format": "float"})]


@pytest.mark.parametrize(
    "answer", [b"", b"{}", b"[]", b'{"data":[]}', b'{"data":[{"embedding":[]}]}', b'{"data":[{"embedding":["a"]}]}']
)
def test_what_is_no_vector_is_an_error(answer: bytes) -> None:
    with pytest.raises(SluiceError, match="upstream_malformed"):
        embedded(answer)
