"""Names every file of the pages by its hash, so that browsers may cache it for ever."""

import gzip
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_KINDS: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_REFERENCE: Final = re.compile(rb"/static/([\w./-]+\.(?:css|js|svg))")
_SOURCE_MAP: Final = re.compile(rb"\n//# sourceMappingURL=\S*\s*\Z")  # the maps are not shipped
_FOLDERS: Final = (("html", ""), ("static", ""), ("vendor", "vendor/"))


@dataclass(frozen=True, slots=True)
class Asset:
    """A file as it is served. `name`: under /static/, or that of the page; `tag`: its ETag, quotes included."""

    name: str
    kind: bytes
    body: bytes
    packed: bytes  # the body in gzip
    tag: bytes


def sources(folder: Path) -> dict[str, bytes]:
    """The files in `folder` by the names they refer to each other by: "chat.html", "shared/dom.js", "vendor/…"."""
    return {
        prefix + path.relative_to(folder / part).as_posix(): path.read_bytes()
        for part, prefix in _FOLDERS
        for path in sorted((folder / part).rglob("*"))
        if path.suffix in _KINDS
    }


def publish(files: Mapping[str, bytes]) -> dict[str, Asset]:
    """The files as assets, with every `/static/NAME` in them replaced by the hashed name.

    A file's hash covers the hashes of the files it refers to. Raises KeyError for a reference to a missing file, and
    RecursionError for circular references.
    """
    done: dict[str, Asset] = {}

    def asset(name: str) -> Asset:
        if name not in done:
            body = _REFERENCE.sub(lambda found: b"/static/" + asset(found[1].decode()).name.encode(), files[name])
            done[name] = _asset(name, _SOURCE_MAP.sub(b"\n", body))
        return done[name]

    for name in files:
        asset(name)
    return done


def _asset(name: str, body: bytes) -> Asset:
    digest = hashlib.sha256(body).hexdigest()[:12]
    stem, dot, ending = name.rpartition(".")
    public = name if ending == "html" else f"{stem}.{digest}.{ending}"
    return Asset(public, _KINDS[dot + ending].encode(), body, gzip.compress(body, mtime=0), f'"{digest}"'.encode())
