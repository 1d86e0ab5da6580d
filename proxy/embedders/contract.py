"""The interface of embedders."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Vector = Sequence[float] | NDArray[np.float32]


class Embedder(Protocol):
    """Makes vectors of texts. Two vectors can be compared only if one embedder made them."""

    asks: bool  # whether it asks an upstream, so that its time is not ours

    async def embed(self, text: str) -> Vector:
        """The text's vector, of any length. Raises SluiceError where it cannot be had; takes no time of the loop's."""
        ...
