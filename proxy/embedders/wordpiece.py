"""BERT's uncased WordPiece tokenizer, as MiniLM models use it (after google-research/bert's tokenization)."""

import gzip
import unicodedata
from collections.abc import Iterator
from importlib.resources import files
from typing import Final

_LONGEST_WORD: Final = 100  # characters; a longer word is unknown


class WordPiece:
    """Tokens of a text as indexes into the vocabulary, between `[CLS]` and `[SEP]`."""

    def __init__(self, vocabulary: list[str]) -> None:
        self._numbers = {piece: number for number, piece in enumerate(vocabulary)}
        self._unknown, self._first, self._last = (self._numbers[name] for name in ("[UNK]", "[CLS]", "[SEP]"))

    @classmethod
    def bert(cls) -> "WordPiece":
        """With BERT's vocabulary of 30,522 tokens."""
        packed = files("proxy.embedders").joinpath("data/bert-base-uncased.vocab.gz").read_bytes()
        return cls(gzip.decompress(packed).decode().splitlines())

    def numbers(self, text: str, most: int = 256) -> list[int]:
        """At most `most` tokens; the rest is cut off at the end."""
        found = [self._first]
        for word in words(text):
            found += self._pieces(word)
            if len(found) >= most:
                break
        return [*found[: most - 1], self._last]

    def _pieces(self, word: str) -> list[int]:
        """Greedy longest match: the longest token that the word begins with, then of the rest, and so on."""
        if len(word) > _LONGEST_WORD:
            return [self._unknown]
        found, start = [], 0
        while start < len(word):
            for end in range(len(word), start, -1):
                piece = word[start:end] if start == 0 else f"##{word[start:end]}"
                if (number := self._numbers.get(piece)) is not None:
                    break
            else:
                return [self._unknown]
            found.append(number)
            start = end
        return found


def words(text: str) -> Iterator[str]:
    """Words in lower case without accents; punctuation and Chinese characters are words by themselves."""
    for word in "".join(_cleaned(text)).lower().split():
        plain = "".join(char for char in unicodedata.normalize("NFD", word) if unicodedata.category(char) != "Mn")
        start = 0
        for at, char in enumerate(plain):
            if _is_punctuation(char):
                if at > start:
                    yield plain[start:at]
                yield char
                start = at + 1
        if start < len(plain):
            yield plain[start:]


def _cleaned(text: str) -> Iterator[str]:
    for char in text:
        if char.isascii():
            if char >= " " and char != "\x7f":
                yield char
            elif char in "\t\n\r":
                yield " "
        elif _is_chinese(ord(char)):
            yield f" {char} "
        elif unicodedata.category(char) == "Zs":
            yield " "
        elif char != "\ufffd" and unicodedata.category(char) not in ("Cc", "Cf", "Co"):
            yield char


def _is_punctuation(char: str) -> bool:
    """ASCII characters other than letters and digits count too, including those that Unicode calls symbols."""
    if char.isascii():
        return not char.isalnum()
    return unicodedata.category(char).startswith("P")


def _is_chinese(code: int) -> bool:
    return (
        0x4E00 <= code <= 0x9FFF
        or 0x3400 <= code <= 0x4DBF
        or 0x20000 <= code <= 0x2CEAF
        or 0xF900 <= code <= 0xFAFF
        or 0x2F800 <= code <= 0x2FA1F
    )
