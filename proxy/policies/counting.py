"""Tokenizers that work offline, for counting a prompt before it is sent (extra `tokens`)."""

import re
import threading
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Final

from proxy.policies.limits import Counter

# Which vocabulary a model family uses; names as providers write them, with or without a vendor in front.
_FAMILIES: Final = (
    (re.compile(r"gpt-oss"), "o200k_harmony"),
    (re.compile(r"gpt-(?:4o|4\.1|4\.5|[5-9])|(?:^|/)o[1-9]"), "o200k_base"),
    (re.compile(r"gpt-4|gpt-3\.5|text-embedding-(?:3|ada)"), "cl100k_base"),
    (re.compile(r"llama-?4"), "llama4"),
    (re.compile(r"llama-?3"), "llama3"),
    (re.compile(r"qwen-?3"), "qwen3"),
)
_REMEMBERED: Final = 1024


@dataclass(slots=True)
class Counters:
    """Exact counters by model name.

    Loading a tokenizer takes a third of a second, so a thread does it, and until then an estimate must do.
    """

    available: bool = field(default_factory=lambda: find_spec("quicktok") is not None)
    _loaded: dict[str, Any] = field(default_factory=dict)  # tokenizers by vocabulary; None: being loaded
    _vocabularies: dict[str, str] = field(default_factory=dict)  # by model name; "": none that we have

    def counter_for(self, model: str) -> Counter | None:
        """The counter of the model's family; None where its tokenizer is not at hand (yet)."""
        if not self.available:
            return None
        vocabulary = self._vocabularies.get(model)
        if vocabulary is None:
            if len(self._vocabularies) >= _REMEMBERED:
                self._vocabularies.clear()
            vocabulary = self._vocabularies[model] = vocabulary_of(model)
        if not vocabulary:
            return None
        if vocabulary not in self._loaded:
            self._loaded[vocabulary] = None
            threading.Thread(target=self._load, args=(vocabulary,), daemon=True).start()
        tokenizer = self._loaded[vocabulary]
        return None if tokenizer is None else lambda text: len(tokenizer.encode_ordinary(text))

    def _load(self, vocabulary: str) -> None:
        import quicktok

        self._loaded[vocabulary] = quicktok.get_encoding(vocabulary)


def vocabulary_of(model: str) -> str:
    """The vocabulary that a model of this name uses; "" where that is not known."""
    name = model.lower()
    return next((vocabulary for pattern, vocabulary in _FAMILIES if pattern.search(name)), "")
