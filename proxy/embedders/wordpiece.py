"""BERT's uncased tokenizer: text cut into the pieces that MiniLM models know (google-research/bert's tokenization)."""

import gzip
import unicodedata
from collections.abc import Iterator
from importlib.resources import files
from typing import Final

_LONGEST_WORD: Final = 100  # signs; a longer word is unknown


class WordPiece:
    """Words of a text as numbers of the vocabulary, between `[CLS]` and `[SEP]`."""

    def __init__(self, vocabulary: list[str]) -> None:
        self._numbers = {piece: number for number, piece in enumerate(vocabulary)}
        self._unknown, self._first, self._last = (self._numbers[name] for name in ("[UNK]", "[CLS]", "[SEP]"))

    @classmethod
    def bert(cls) -> "WordPiece":
        """With BERT's vocabulary of 30,522 pieces."""
        packed = files("proxy.embedders").joinpath("data/bert-base-uncased.vocab.gz").read_bytes()
        return cls(gzip.decompress(packed).decode().splitlines())

    def numbers(self, text: str, most: int = 256) -> list[int]:
        """At most `most` numbers; what is too much is cut off at the end."""
        found = [self._first]
        for word in words(text):
            found += self._pieces(word)
            if len(found) >= most:
                break
        return [*found[: most - 1], self._last]

    def _pieces(self, word: str) -> list[int]:
        """The longest piece that the word begins with, then of what is left, and so on."""
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
    """Lower-case words without accents; punctuation and Chinese signs are words by themselves."""
    for word in "".join(_signs(text)).lower().split():
        plain = "".join(sign for sign in unicodedata.normalize("NFD", word) if unicodedata.category(sign) != "Mn")
        start = 0
        for at, sign in enumerate(plain):
            if _is_punctuation(sign):
                if at > start:
                    yield plain[start:at]
                yield sign
                start = at + 1
        if start < len(plain):
            yield plain[start:]


def _signs(text: str) -> Iterator[str]:
    for sign in text:
        if sign.isascii():
            if sign >= " " and sign != "\x7f":
                yield sign
            elif sign in "\t\n\r":
                yield " "
        elif _is_chinese(ord(sign)):
            yield f" {sign} "
        elif unicodedata.category(sign) == "Zs":
            yield " "
        elif sign != "\ufffd" and unicodedata.category(sign) not in ("Cc", "Cf", "Co"):
            yield sign


def _is_punctuation(sign: str) -> bool:
    """ASCII's signs that are neither letters nor digits count, also those that Unicode calls symbols."""
    if sign.isascii():
        return not sign.isalnum()
    return unicodedata.category(sign).startswith("P")


def _is_chinese(code: int) -> bool:
    return (
        0x4E00 <= code <= 0x9FFF
        or 0x3400 <= code <= 0x4DBF
        or 0x20000 <= code <= 0x2CEAF
        or 0xF900 <= code <= 0xFAFF
        or 0x2F800 <= code <= 0x2FA1F
    )
