"""A key never exceeds its limit in any 60 seconds, in any process, and a refused call gets the time to wait."""

import subprocess
import sys
from contextlib import nullcontext
from hashlib import sha256
from pathlib import Path
from resource import RLIMIT_FSIZE, getrlimit, setrlimit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.policies.windows import MINUTE, SharedWindows, Window, local_window

ROOT = Path(__file__).parent.parent.parent
SECOND = 10**9
START = 1_000 * MINUTE
ID = sha256(b"a key").digest()
ENTER = """
import sys
from pathlib import Path
from proxy.policies.windows import SharedWindows
window = SharedWindows(Path(sys.argv[1]))(bytes.fromhex(sys.argv[2]))
sys.stdin.readline()
print(sum(not window.enter(100, None, int(sys.argv[3])).over for _ in range(90)))
"""


def test_calls_come_in_up_to_the_limit_and_again_after_a_minute() -> None:
    window = local_window(ID)
    told = [window.enter(3, None, START + at * SECOND) for at in range(5)]
    assert [(each.calls, each.over) for each in told] == [
        (1, ""),
        (2, ""),
        (3, ""),
        (3, "requests_per_minute"),
        (3, "requests_per_minute"),
    ]
    assert told[3].wait == MINUTE - 3 * SECOND and told[4].wait == MINUTE - 4 * SECOND
    again = START + 4 * SECOND + told[4].wait
    assert window.enter(3, None, again - 1).over and not window.enter(3, None, again).over


def test_a_key_that_keeps_to_its_limit_is_never_refused() -> None:
    window = local_window(ID)
    for at in range(200):  # each second's cell is used again and again
        assert not window.enter(2, 10, START + at * 30 * SECOND).over
        window.used(4, START + at * 30 * SECOND)


def test_all_calls_have_expired_a_minute_after_the_newest() -> None:
    for first in range(61):  # wherever in the ring of cells they stand
        window, now = local_window(ID), START + first * SECOND
        window.enter(2, 2, now)
        window.used(1, now)
        window.enter(2, 2, now + SECOND)
        window.used(1, now + SECOND)
        refused = window.enter(2, 2, now + 2 * SECOND)
        assert (refused.calls_end, refused.tokens_end) == (MINUTE - SECOND, MINUTE - SECOND)


def test_tokens_count_once_they_are_known() -> None:
    window = local_window(ID)
    assert not window.enter(None, 100, START).over
    assert not window.enter(None, 100, START).over, "nothing is known to be used"
    window.used(150, START + 2 * SECOND)
    told = window.enter(None, 100, START + 3 * SECOND)
    assert (told.tokens, told.over, told.wait) == (150, "tokens_per_minute", MINUTE - SECOND)
    assert told.calls == 2, "what was refused is not counted"
    assert not window.enter(None, 100, START + 2 * SECOND + MINUTE).over


def test_the_limit_that_is_waited_for_longest_is_the_one_that_is_named() -> None:
    window = local_window(ID)
    window.enter(1, 10, START)
    window.used(10, START + 30 * SECOND)
    told = window.enter(1, 10, START + 40 * SECOND)
    assert (told.over, told.wait) == ("tokens_per_minute", 50 * SECOND)
    assert (told.calls_end, told.tokens_end) == (20 * SECOND, 50 * SECOND)


def test_a_limit_that_became_smaller_holds_at_once() -> None:
    window = local_window(ID)
    for at in range(10):
        window.enter(10, None, START + at * SECOND)
    told = window.enter(2, None, START + 10 * SECOND)
    assert told.over and told.wait == MINUTE - 2 * SECOND, "until but one of them counts no more"


def test_a_machine_that_was_started_just_now() -> None:
    window = local_window(ID)
    assert [bool(window.enter(1, None, at).over) for at in (0, 1, SECOND)] == [False, True, True]


@settings(deadline=None)
@given(st.integers(1, 5), st.lists(st.integers(0, 20 * SECOND) | st.just(MINUTE - 1) | st.just(MINUTE), max_size=60))
def test_no_minute_ever_has_more_and_the_wait_is_the_truth(most: int, pauses: list[int]) -> None:
    window, now, entered = local_window(ID), START, list[int]()
    for pause in pauses:
        now += pause
        told = window.enter(most, None, now)
        if not told.over:
            entered.append(now)
            continue
        assert 0 < told.wait <= MINUTE
        copy = Window(memoryview(bytearray(window.numbers.tobytes())).cast("q"))
        assert copy.enter(most, None, now + told.wait - 1).over and not copy.enter(most, None, now + told.wait).over
    for at, first in enumerate(entered):
        assert sum(first <= other < first + MINUTE for other in entered[at:]) <= most


def test_processes_share_a_window(tmp_path: Path) -> None:
    path = tmp_path / "minutes"
    command = [sys.executable, "-c", ENTER, str(path), ID.hex(), str(START)]
    workers = [
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in "ab"
    ]
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("\n")
        worker.stdin.flush()
    entered = [int(worker.communicate(timeout=60)[0]) for worker in workers]
    assert sum(entered) == 100
    assert SharedWindows(path)(ID).enter(100, None, START).over, "a worker that is started again goes on with it"


def test_each_key_has_its_own_and_they_are_as_many_as_it_takes(tmp_path: Path) -> None:
    one, other = SharedWindows(tmp_path / "minutes"), SharedWindows(tmp_path / "minutes")
    ids = [sha256(b"%d" % at).digest() for at in range(200)]
    for digest in ids:
        assert not one(digest).enter(1, None, START).over
    assert all(other(digest).enter(1, None, START).over for digest in reversed(ids))
    assert not other(ID).enter(1, None, START).over


@pytest.mark.parametrize("room", [0, 64 * 1024])  # none, and too little
def test_where_the_file_cannot_grow_a_worker_counts_for_itself(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, room: int
) -> None:
    shared, before = SharedWindows(tmp_path / "minutes"), getrlimit(RLIMIT_FSIZE)
    setrlimit(RLIMIT_FSIZE, (room, before[1]))
    try:
        window = shared(ID)
    finally:
        setrlimit(RLIMIT_FSIZE, before)
    assert isinstance(window.lock, nullcontext)
    assert [bool(window.enter(1, None, START).over) for _ in range(2)] == [False, True]
    assert "enforced per worker" in caplog.text and str(tmp_path) not in caplog.text
