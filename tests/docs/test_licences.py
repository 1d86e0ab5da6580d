"""Every package that the lock file pins is in the list of licences, at the version that is pinned."""

from docs.build_licences import LOCK, OUT, pinned


def test_every_pinned_package_is_listed() -> None:
    rows = {tuple(row.split(" | ")[:2]) for row in OUT.read_text().replace("| ", "", 1).splitlines()}
    listed = {(name.removeprefix("| "), version) for name, version, *_ in (row for row in rows if len(row) == 2)}
    packages = pinned(LOCK)
    assert len(packages) > 40
    assert set(packages.items()) <= listed
