"""BERT's tokenizer, against what the reference implementation gives for the same texts."""

import pytest

from proxy.embedders.wordpiece import WordPiece, words

BERT = WordPiece.bert()

# huggingface/tokenizers 0.23.3 with the tokenizer.json of all-MiniLM-L6-v2
REFERENCE = {
    "": [101, 102],
    "What is the capital of France?": [101, 2054, 2003, 1996, 3007, 1997, 2605, 1029, 102],
    "naïve café №5 ½ e-mail a_b $5 ﬁne İstanbul ß": [
        101,
        15743,
        7668,
        1578,
        2629,
        1092,
        1041,
        1011,
        5653,
        1037,
        1035,
        1038,
        1002,
        1019,
        1984,
        2638,
        9960,
        1096,
        102,
    ],
    "日本の首都はどこですか？": [101, 1864, 1876, 1671, 100, 1961, 1672, 30192, 30181, 30191, 30184, 30177, 1994, 102],
    "unaffable antidisestablishmentarianism": [
        101,
        14477,
        20961,
        3468,
        3424,
        10521,
        4355,
        7875,
        13602,
        3672,
        12199,
        2964,
        102,
    ],
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx": [
        101,
        100,
        102,
    ],
    "C++ & C# @home <b> `q`": [
        101,
        1039,
        1009,
        1009,
        1004,
        1039,
        1001,
        1030,
        2188,
        1026,
        1038,
        1028,
        1036,
        1053,
        1036,
        102,
    ],
    "\U0001f989 owls": [101, 100, 22388, 102],
    "Какая столица России?": [
        101,
        1189,
        10260,
        28598,
        17432,
        1196,
        22919,
        14150,
        29436,
        10325,
        29751,
        10260,
        1195,
        14150,
        29747,
        29747,
        15414,
        1029,
        102,
    ],
    "한국어": [101, 1469, 30006, 30021, 29991, 30014, 30020, 29999, 30008, 102],
    "a\xa0b\u3000c": [101, 1037, 1038, 1039, 102],
}


@pytest.mark.parametrize("text", REFERENCE)
def test_the_numbers_are_the_references(text: str) -> None:
    assert BERT.numbers(text) == REFERENCE[text]


def test_long_texts_are_cut_and_closed() -> None:
    numbers = BERT.numbers("hello " * 1000)
    assert len(numbers) == 256 and numbers[0] == 101 and numbers[-1] == 102
    assert BERT.numbers("hello " * 1000, 8) == [101, *[7592] * 6, 102]


def test_text_is_split_into_lower_case_words_and_punctuation() -> None:
    assert list(words("Don't  stop_now,\tÉmile!")) == ["don", "'", "t", "stop", "_", "now", ",", "emile", "!"]
    assert list(words("日本x")) == ["日", "本", "x"]
    assert list(words("a\x00b\u200bc\ufffdd")) == ["abcd"]
