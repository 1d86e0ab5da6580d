"""Offline tokenizers for counting a prompt before it is sent (extra `tokens`)."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Final

from proxy.policies.limits import Counter

# The vocabulary of each model family, among those that quicktok includes (the licence of Llama 4's does not allow it);
# names as providers write them, with or without a vendor prefix.
_FAMILIES: Final = (
    (re.compile(r"gpt-oss"), "o200k_harmony"),
    (re.compile(r"gpt-(?:4o|4\.1|4\.5|[5-9])|(?:^|/)o[1-9]"), "o200k_base"),
    (re.compile(r"gpt-4|gpt-3\.5|text-embedding-(?:3|ada)"), "cl100k_base"),
    (re.compile(r"llama-?3"), "llama3"),
    (re.compile(r"qwen-?3"), "qwen3"),
)
_REMEMBERED: Final = 1024


@dataclass(slots=True)
class Counters:
    """Exact token counters by model name.

    Loading a tokenizer takes up to two seconds during which quicktok holds the GIL. So tokenizers are loaded at the
    start, or while no call is under way; until then token counts are estimated.
    """

    available: bool = field(default_factory=lambda: find_spec("quicktok") is not None)
    _loaded: dict[str, Any] = field(default_factory=dict)  # tokenizers by vocabulary
    _wanted: set[str] = field(default_factory=set)  # vocabularies that a call has asked for
    _vocabularies: dict[str, str] = field(default_factory=dict)  # by model name; "": none that we have

    def counter_for(self, model: str) -> Counter | None:
        """The counter for a model; None where its tokenizer is not available or not loaded yet."""
        if not self.available:
            return None
        vocabulary = self._vocabularies.get(model)
        if vocabulary is None:
            if len(self._vocabularies) >= _REMEMBERED:
                self._vocabularies.clear()
            vocabulary = self._vocabularies[model] = vocabulary_of(model)
        if not vocabulary:
            return None
        tokenizer = self._loaded.get(vocabulary)
        if tokenizer is None:
            self._wanted.add(vocabulary)
            return None
        return lambda text: len(tokenizer.encode_ordinary(text))

    def load(self, models: Iterable[str]) -> None:
        """Loads the tokenizers of these models. Blocking."""
        if self.available:
            self._load({vocabulary_of(model) for model in models})

    def catch_up(self) -> None:
        """Loads tokenizers that calls have asked for meanwhile. Blocking."""
        if self._wanted:
            self._load(self._wanted)
            self._wanted = set()

    def _load(self, vocabularies: Iterable[str]) -> None:
        import quicktok

        for vocabulary in vocabularies:
            if vocabulary and vocabulary not in self._loaded:
                self._loaded[vocabulary] = quicktok.get_encoding(vocabulary)


def vocabulary_of(model: str) -> str:
    """The vocabulary of a model by its name; "" where it is unknown."""
    name = model.lower()
    return next((vocabulary for pattern, vocabulary in _FAMILIES if pattern.search(name)), "")
