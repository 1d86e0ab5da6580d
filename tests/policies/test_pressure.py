"""New calls are refused while the loop is late or the memory nearly full, and only then."""

from pathlib import Path
from resource import getpagesize

import pytest

from proxy.policies.pressure import Pressure, memory_limit, resident_memory


def test_one_late_look_is_no_pressure_two_in_a_row_are() -> None:
    pressure = Pressure()
    seen = []
    for lag in (0.0, 2.0, 0.0, 2.0, 1.5, 0.0):
        pressure.note(lag, 0)
        seen.append(pressure.refusal is not None)
    assert seen == [False, False, False, False, True, False]


def test_memory_counts_against_what_may_be_taken() -> None:
    pressure = Pressure(memory=1000)
    for taken, refused in ((900, False), (930, True), (900, False)):
        pressure.note(0.0, taken)
        assert (pressure.refusal is not None) is refused
    pressure = Pressure(memory=None)
    pressure.note(0.0, 10**15)
    assert pressure.refusal is None


def test_the_refusal_says_when_to_come_back_and_nothing_of_the_machine() -> None:
    pressure = Pressure(memory=1000)
    pressure.note(0.0, 1000)
    assert pressure.refusal is not None
    assert (pressure.refusal.code, pressure.refusal.status) == ("proxy_overloaded", 503)
    assert pressure.refusal.retry_after == 2.0
    assert "1000" not in pressure.refusal.message


def written(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


MACHINE = {"proc/meminfo": "MemTotal:       2048 kB\nMemFree: 1 kB\n"}
NEW, OLD = "sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes"
UNIT = "sys/fs/cgroup/system.slice/sluice.service/memory.max"
SLICE = "sys/fs/cgroup/system.slice/memory.max"
OLD_UNIT = "sys/fs/cgroup/memory/system.slice/sluice.service/memory.limit_in_bytes"
IN_UNIT = {"proc/self/cgroup": "0::/system.slice/sluice.service\n"} | MACHINE
IN_OLD_UNIT = {"proc/self/cgroup": "5:cpu,memory:/system.slice/sluice.service\n1:name=systemd:/x\n"} | MACHINE


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({NEW: "1048576\n"} | MACHINE, 1048576),
        ({NEW: "max\n"} | MACHINE, 2048 * 1024),
        ({OLD: "1048576\n"} | MACHINE, 1048576),
        ({OLD: "9223372036854771712\n"} | MACHINE, 2048 * 1024),
        ({UNIT: "1048576\n"} | IN_UNIT, 1048576),
        ({UNIT: "1048576\n", SLICE: "524288\n"} | IN_UNIT, 524288),
        ({UNIT: "max\n", SLICE: "524288\n"} | IN_UNIT, 524288),
        ({UNIT: "max\n"} | IN_UNIT, 2048 * 1024),
        ({OLD_UNIT: "1048576\n", OLD: "9223372036854771712\n"} | IN_OLD_UNIT, 1048576),
        ({NEW: "1048576\n", "proc/self/cgroup": "0::/../../elsewhere\n"} | MACHINE, 1048576),
        ({NEW: "1048576\n", "proc/self/cgroup": "odd"} | MACHINE, 1048576),
        (MACHINE, 2048 * 1024),
        ({"proc/meminfo": "odd"}, None),
        ({}, None),
    ],
)
def test_the_limit_is_the_control_groups_or_the_machines(
    tmp_path: Path, files: dict[str, str], limit: int | None
) -> None:
    assert memory_limit(written(tmp_path, files)) == limit


def test_resident_memory_is_read_from_proc(tmp_path: Path) -> None:
    assert resident_memory() > 1_000_000
    assert resident_memory(tmp_path) == 0
    assert resident_memory(written(tmp_path, {"proc/self/statm": "9 7 5"})) == 7 * getpagesize()
    assert resident_memory(written(tmp_path, {"proc/self/statm": ""})) == 0
