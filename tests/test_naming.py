"""A misspelled name gets the names it was probably meant to be, in bounded time."""

from time import perf_counter

from proxy.naming import suggestion


def test_close_names_are_suggested_the_closest_first() -> None:
    assert suggestion("gpt-4oo", ["claude", "gpt-4", "gpt-4o"]) == " Did you mean gpt-4o, gpt-4?"


def test_of_a_few_names_the_nearest_are_suggested_however_different() -> None:
    assert suggestion("gpt-5", ["claude", "o3", "gemini-pro", "zz"]).startswith(
        " The closest known names: gemini-pro, "
    )
    assert suggestion("zzz", ["claude"]) == " The closest known names: claude."


def test_nothing_is_said_where_nothing_is_close() -> None:
    assert suggestion("zzz", [f"model-{at}" for at in range(21)]) == ""
    assert suggestion("zzz", []) == ""


def test_at_most_three_names_are_suggested() -> None:
    assert suggestion("model", (f"model-{at}" for at in range(50))).count("model-") == 3


def test_a_long_name_among_many_is_answered_soon() -> None:
    began = perf_counter()
    suggestion("upstream/organisation/model-" * 9, [f"upstream/organisation/model-{at}" for at in range(20_000)])
    assert perf_counter() - began < 2
