"""The kind of a body, from its beginning."""

from collections.abc import AsyncIterator

import pytest

from proxy.upstream.bodies import peeked
from tests.upstream.conftest import Run


class Body:
    """These pieces."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece

    async def aclose(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize("before", [(), (b"",), (b"\n", b"", b" \n")])
def test_neither_blanks_nor_empty_pieces_say_what_comes(run: Run, before: tuple[bytes, ...]) -> None:
    async def main() -> None:
        for piece, is_one in ((b"data: {}\n\n", False), (b'{"id":1}', True)):
            body = await peeked(Body(*before, piece, b"rest"), "east")
            assert body.holds_one_answer is is_one
            assert b"".join([each async for each in body]) == b"".join((*before, piece, b"rest"))

    run(main())
