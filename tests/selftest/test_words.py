"""The answers of the fault upstreams: the same from every target, and continuable at any point."""

from typing import Any

import pytest

from proxy.selftest.words import TOKENS, handed_over, left_of, question_in, tokens_for


def test_every_question_has_its_own_answer_of_sixty_tokens() -> None:
    assert len(tokens_for("a")) == TOKENS
    assert tokens_for("a") == tokens_for("a") != tokens_for("b")


@pytest.mark.parametrize("at", [0, 1, 7, 8, 9, 100, 10_000])
def test_the_remaining_tokens_continue_the_beginning(at: int) -> None:
    text = "".join(tokens_for("a"))
    assert text[:at] + "".join(left_of(tokens_for("a"), text[:at])) == text


def test_an_unknown_beginning_is_answered_from_the_start() -> None:
    assert left_of(tokens_for("a"), "Once upon") == tokens_for("a")


def test_question_and_beginning_are_found_in_either_form() -> None:
    asked: list[dict[str, Any]] = [
        {"role": "user", "content": [{"type": "text", "text": "why"}, {"type": "text", "text": "?"}]}
    ]
    assert (question_in(asked), handed_over(asked)) == ("why?", "")
    begun = [*asked, {"role": "assistant", "content": "[ab"}]
    assert (question_in(begun), handed_over(begun)) == ("why?", "[ab")
    assert (question_in([]), handed_over([])) == ("", "")
