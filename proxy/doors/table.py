"""The table of endpoints: paths, methods and access.

Each endpoint declares its access, and nothing else is reachable.
"""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Literal

from starlette.types import Receive, Scope, Send

Access = Literal["open", "client", "chat", "metrics", "page", "desk", "admin", "vapi"]
"""Who may use an endpoint, in this order: anybody; holders of a client key; the same, but no page of another origin; as
`access.metrics` says; our own pages; operators (browsers get the page itself to log in); operators; Vapi."""
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_SLASHES: Final = re.compile(r"//+")
_VERSION: Final = re.compile(r"\A(?:/v1)+(?=/|\Z)")
_DOUBLED: Final = re.compile(r"(/.{1,40}?)\1+\Z")
_LONGEST: Final = 200  # longer paths are not searched for a doubled suffix


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One path (as by `normalize_path`; a trailing `*` matches the rest) with its methods, access and ASGI app."""

    path: str
    methods: frozenset[str]
    access: Access
    app: App


@dataclass(frozen=True, slots=True)
class Found:
    """An endpoint and what its `*` matched, still percent-encoded."""

    endpoint: Endpoint
    rest: str = ""


class Table:
    """Finds endpoints by raw path. Tolerates a missing or doubled `/v1`, and doubled or trailing slashes."""

    def __init__(self, endpoints: list[Endpoint]) -> None:
        self.endpoints = tuple(endpoints)
        self._exact: dict[str, list[Endpoint]] = {}
        self._open_ended: dict[str, list[Endpoint]] = {}
        for endpoint in endpoints:
            kept = self._open_ended if endpoint.path.endswith("*") else self._exact
            kept.setdefault(endpoint.path.removesuffix("*"), []).append(endpoint)

    def find(self, raw_path: bytes, method: str) -> Found | frozenset[str]:
        """The endpoint; or the methods that the path supports instead (empty: no such path)."""
        path = normalize_path(raw_path.decode("latin-1"))
        found, rest = self._exact.get(path), ""
        if found is None and len(path) <= _LONGEST and (doubled := _DOUBLED.search(path)):
            found = self._exact.get(path[: doubled.start()] + doubled[1])
        if found is None:
            for start, candidates in self._open_ended.items():
                if path.startswith(start):
                    found, rest = candidates, path[len(start) :]
                    break
            else:
                return frozenset()
        for endpoint in found:
            if method in endpoint.methods:
                return Found(endpoint, rest)
        return frozenset[str]().union(*(endpoint.methods for endpoint in found))


def normalize_path(path: str) -> str:
    """A path without `/v1` and without doubled or trailing slashes: "/chat/completions"."""
    return _VERSION.sub("", _SLASHES.sub("/", path)).rstrip("/") or "/"
