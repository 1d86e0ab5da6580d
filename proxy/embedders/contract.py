"""The interface of embedders."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Vector = Sequence[float] | NDArray[np.float32]


class Embedder(Protocol):
    """Turns texts into vectors. Only vectors of the same embedder can be compared."""

    asks: bool  # whether it asks an upstream, whose time is not overhead

    def begin(self) -> None:
        """Starts to get ready, in the background; `embed` waits for that."""
        ...

    async def embed(self, text: str) -> Vector:
        """The text's vector, of any length. Raises SluiceError if there is none; does not block the event loop."""
        ...
