"""The pages as they are served: names that hold hashes, strict headers, nothing from elsewhere, little in all."""

import asyncio
import gzip
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from proxy.doors.front import Front
from proxy.doors.pages import serving as serving_module
from proxy.doors.pages.assets import Asset, publish, sources
from proxy.doors.pages.serving import Pages
from proxy.doors.table import Table

HOME = Path(serving_module.__file__).parent
FILES = sources(HOME)
OWN = {name: body.decode() for name, body in FILES.items() if not name.startswith("vendor/")}
PAGES = ("/ui", "/admin", "/admin/login")
REFERENCE = re.compile(r"/static/([\w./-]+\.(?:css|js|svg))")
NAMESPACE = "http://www.w3.org/2000/svg"  # how SVG calls itself; nobody asks for it
KIBIBYTE = 1024


@pytest.fixture(scope="module")
def pages() -> Pages:
    return Pages()


def ask(pages: Pages, path: str, method: str = "GET", headers: Mapping[str, str] | None = None) -> httpx.Response:
    """One request to an app that has nothing but the pages."""

    async def asked() -> httpx.Response:
        app: Any = Front(Table(pages.endpoints()), {})
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
            return await client.request(method, path, headers=headers)

    return asyncio.run(asked())


def reached(assets: Mapping[str, Asset], start: str) -> set[str]:
    """The files, by source name, that a browser asks for when it opens a page."""
    found, waiting = set(), [start]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            if not name.startswith("vendor/"):
                waiting += REFERENCE.findall(FILES[name].decode())
    return found


@pytest.mark.parametrize("path", PAGES)
def test_a_page_lets_nothing_in_from_elsewhere(pages: Pages, path: str) -> None:
    answer = ask(pages, path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(part.strip().partition(" ")[::2] for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == policy["form-action"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["object-src"] == "'none'"
    assert policy["require-trusted-types-for"] == "'script'"
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "same-origin"
    assert answer.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("path", PAGES)
def test_a_page_that_a_browser_has_is_not_sent_again(pages: Pages, path: str) -> None:
    tag = ask(pages, path).headers["etag"]
    again = ask(pages, path, headers={"if-none-match": tag})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["content-security-policy"]
    assert ask(pages, path, headers={"if-none-match": '"older"'}).status_code == 200


@pytest.mark.parametrize("path", PAGES)
def test_everything_a_page_refers_to_is_there_and_may_be_kept_for_good(pages: Pages, path: str) -> None:
    waiting, seen = [ask(pages, path).text], set()
    while waiting:
        for name in REFERENCE.findall(waiting.pop()):
            if name in seen:
                continue
            seen.add(name)
            answer = ask(pages, f"/static/{name}")
            assert answer.status_code == 200, name
            assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert re.search(r"\.([0-9a-f]{12})\.\w+$", name)[1] in hashlib.sha256(answer.content).hexdigest()  # type: ignore[index]
            waiting.append(answer.text)
    assert len(seen) >= 5


def test_what_is_not_there_is_said_so(pages: Pages) -> None:
    for path in ("/static/chat/main.js", "/static/../serving.py", "/static/%2e%2e/serving.py", "/static/chat.html"):
        answer = ask(pages, path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "client_invalid_request"), path


def test_bodies_are_compressed_for_clients_that_accept_it(pages: Pages) -> None:
    asset = pages.assets["shared/look.css"]
    packed = ask(pages, f"/static/{asset.name}", headers={"accept-encoding": "gzip, br"})
    plain = ask(pages, f"/static/{asset.name}", headers={"accept-encoding": "identity"})
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert packed.content == plain.content == asset.body == gzip.decompress(asset.packed)
    assert int(packed.headers["content-length"]) < len(asset.body)
    assert packed.headers["vary"] == plain.headers["vary"] == "accept-encoding"


def test_head_gets_the_same_without_the_body(pages: Pages) -> None:
    whole, head = ask(pages, "/ui"), ask(pages, "/ui", "HEAD")
    assert head.content == b""
    assert head.headers["content-length"] == whole.headers["content-length"]


def test_a_hash_covers_what_a_file_refers_to() -> None:
    before = {"page.html": b'<script src="/static/a.js">', "a.js": b'import "/static/b.js"', "b.js": b"1"}
    one, other = publish(before), publish(before | {"b.js": b"2"})
    assert one["a.js"].name != other["a.js"].name
    assert one["page.html"].tag != other["page.html"].tag
    assert one["a.js"].name.encode() in one["page.html"].body
    assert one["page.html"].name == "page.html"
    with pytest.raises(KeyError):
        publish({"a.js": b'import "/static/gone.js"'})


def test_each_page_is_small(pages: Pages) -> None:
    for page in ("chat.html", "admin.html", "login.html"):
        files = [pages.assets[name] for name in reached(pages.assets, page)]
        assert sum(len(file.body) for file in files) < 200 * KIBIBYTE, page
        assert sum(len(file.packed) for file in files) < 100 * KIBIBYTE, page
    assert sum(len(asset.packed) for asset in pages.assets.values()) < 200 * KIBIBYTE


@pytest.mark.parametrize("name", sorted(OWN))
def test_no_source_names_another_host(name: str) -> None:
    text = OWN[name].replace(NAMESPACE, "")
    assert not re.search(r"https?://|[\"'(]//", text)


@pytest.mark.parametrize("name", [name for name in OWN if name.endswith(".html")])
def test_pages_hold_no_script_and_no_style_of_their_own(name: str) -> None:
    text = OWN[name]
    assert "<style" not in text and not re.search(r"<[^>]*\s(?:style|on\w+)=", text)
    for attributes, content in re.findall(r"<script([^>]*)>(.*?)</script>", text, re.DOTALL):
        assert "src=" in attributes and content == ""


@pytest.mark.parametrize("name", [name for name in OWN if name.endswith(".js")])
def test_no_module_parses_html_or_code(name: str) -> None:
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", OWN[name])


@pytest.mark.parametrize("page", [name for name in OWN if name.endswith(".html")])
def test_every_module_is_asked_for_at_once(page: str) -> None:
    preloaded = set(re.findall(r'rel="modulepreload" href="/static/([^"]+)"', OWN[page]))
    waiting = re.findall(r'src="/static/([^"]+)" type="module"', OWN[page])
    imported: set[str] = set()
    while waiting:
        for name in re.findall(r'^import [^;]*?"/static/([^"]+)";', FILES[waiting.pop()].decode(), re.MULTILINE):
            if name not in imported:
                imported.add(name)
                waiting.append(name)
    assert preloaded == imported


def test_vendored_files_are_what_the_registry_has() -> None:
    lines = (HOME / "vendor" / "VERSIONS").read_text().splitlines()[1:]
    listed = {}
    for file, package, version, licence, digest in (line.split() for line in lines):
        assert hashlib.sha256((HOME / "vendor" / file).read_bytes()).hexdigest() == digest, file
        assert re.fullmatch(r"\d+\.\d+\.\d+", version)
        assert licence in ("MIT", "Apache-2.0")
        assert (HOME / "vendor" / f"LICENSE-{package}").read_text().strip()
        listed[file] = package
    assert {path.name for path in (HOME / "vendor").iterdir()} == {
        "VERSIONS",
        *listed,
        *(f"LICENSE-{package}" for package in listed.values()),
    }
