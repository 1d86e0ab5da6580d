"""Which path leads where and who may go there: every endpoint declares its access, none is reached otherwise."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Literal

from starlette.types import Receive, Scope, Send

Access = Literal["open", "client", "chat", "metrics", "page", "desk", "admin", "vapi"]
"""Who may use an endpoint: anybody · holders of a client key · the same, but no foreign page · see access.metrics ·
browsers on our own pages · the same, and holders of the admin token · these alone · Vapi."""
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_SLASHES: Final = re.compile(r"//+")
_VERSION: Final = re.compile(r"\A(?:/v1)+(?=/|\Z)")
_DOUBLED: Final = re.compile(r"(/.{1,40}?)\1+\Z")
_LONGEST: Final = 200  # characters of a path in which a doubled suffix is looked for


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One path (as `plain` gives it; a trailing `*` stands for the rest) with its methods, access and ASGI app."""

    path: str
    methods: frozenset[str]
    access: Access
    app: App


@dataclass(frozen=True, slots=True)
class Found:
    """An endpoint and what its `*` stood for, still percent-encoded."""

    endpoint: Endpoint
    rest: str = ""


class Table:
    """Finds endpoints by raw path. `/v1` may be there or not, once or twice; slashes may be doubled or trail."""

    def __init__(self, endpoints: list[Endpoint]) -> None:
        self.endpoints = tuple(endpoints)
        self._exact: dict[str, list[Endpoint]] = {}
        self._open_ended: dict[str, list[Endpoint]] = {}
        for endpoint in endpoints:
            kept = self._open_ended if endpoint.path.endswith("*") else self._exact
            kept.setdefault(endpoint.path.removesuffix("*"), []).append(endpoint)

    def find(self, raw_path: bytes, method: str) -> Found | frozenset[str]:
        """The endpoint; or the methods that the path has instead (empty: there is no such path)."""
        path = plain(raw_path.decode("latin-1"))
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


def plain(path: str) -> str:
    """A path without `/v1`, doubled or trailing slashes: "/chat/completions"."""
    return _VERSION.sub("", _SLASHES.sub("/", path)).rstrip("/") or "/"
