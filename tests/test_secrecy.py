"""Secrets are compared whole, never matched when empty, and leave no piece in a text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.secrecy import blanking, same_secret


@pytest.mark.parametrize(
    ("shown", "secret", "same"),
    [("abc", "abc", True), ("abc", "abd", False), ("ab", "abc", False), ("", "", False), ("x", "", False),
     ("", "x", False), ("ä", "ä", True), ("\udcff", "x", False), ("abc ", "abc", False)],
)  # fmt: skip
def test_only_the_same_text_is_the_same_secret(shown: str, secret: str, same: bool) -> None:
    assert same_secret(shown, secret) is same


def test_every_place_of_every_secret_is_blanked() -> None:
    blank = blanking(["sk-one", "sk-two", ""])
    assert blank("a sk-one b sk-two c sk-one") == "a [secret] b [secret] c [secret]"
    assert blank("nothing") == "nothing"


def test_a_secret_that_begins_like_another_leaves_no_piece() -> None:
    for secrets in (["sk-prod", "sk-prod-4711"], ["sk-prod-4711", "sk-prod"]):
        assert blanking(secrets)("key sk-prod-4711!") == "key [secret]!"


def test_words_are_not_blanked() -> None:
    assert blanking(["a", "key", ""])("a key") == "a key"


@given(st.lists(st.text("ab", min_size=4, max_size=9), max_size=4), st.text("ab ", max_size=40))
def test_no_secret_is_left_whole(secrets: list[str], text: str) -> None:
    blanked = blanking(iter(secrets))(text)
    assert not any(secret in blanked for secret in secrets)
