"""The document and its page, as a browser gets them."""

import asyncio
import re
from html.parser import HTMLParser
from typing import Any

import orjson
import pytest

from proxy.doors.documents import Documents, page
from proxy.doors.openapi import document

ENDPOINTS = {endpoint.path: endpoint for endpoint in Documents().endpoints()}
PAGE = page(document("1.2.3"))
VOID = {"meta", "link", "br"}


def got(path: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of a GET."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("nothing is read of a GET")

    scope = {"type": "http", "method": "GET", "headers": []}
    asyncio.run(ENDPOINTS[path].app(scope, receive, send))  # type: ignore[arg-type]
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers, sent[1]["body"]


class Reader(HTMLParser):
    """Tags that are open, ids, and what is linked."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            assert not name.startswith("on") and name != "style"
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "src"):
                self.links.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def read() -> Reader:
    reader = Reader()
    reader.feed(PAGE)
    return reader


def test_programs_get_the_document() -> None:
    status, headers, body = got("/openapi.json")
    assert (status, headers["content-type"]) == (200, "application/json")
    assert orjson.loads(body)["openapi"] == "3.1.0"


def test_people_get_a_page_that_loads_nothing_from_elsewhere(read: Reader) -> None:
    status, headers, _ = got("/docs")
    assert status == 200 and "default-src 'self'" in headers["content-security-policy"]
    assert all(link.startswith(("/docs/style.css", "/docs/icon.svg", "/openapi.json", "#")) for link in read.links)
    assert "script" not in read.tags and "style" not in read.tags


def test_the_page_is_whole_and_every_anchor_is_there(read: Reader) -> None:
    assert read.open == [] and len(read.ids) == len(set(read.ids))
    assert {link[1:] for link in read.links if link.startswith("#")} <= set(read.ids)


def test_the_page_says_which_credentials_an_operation_takes() -> None:
    chat = PAGE.partition('id="post_chat_completions"')[2].partition("</p>")[0]
    assert (
        "<code>Authorization: Bearer</code> (A key of access.client_keys, or of /admin/keys) or header <code>x-api-key</code>"
        in chat
    )
    assert chat.endswith("none where config.yaml asks for none.")
    assert "<p>None." in PAGE.partition('id="get_livez"')[2][:60]


def test_every_path_is_on_the_page() -> None:
    for path in document("1.2.3")["paths"]:
        assert f"<code>{path}</code>" in PAGE


def test_the_style_names_no_other_place() -> None:
    _, headers, body = got("/docs/style.css")
    assert headers["content-type"].startswith("text/css") and not re.search(rb"url\(|@import|//[a-z]", body)


def test_html_in_the_documentation_is_escaped() -> None:
    described = document("<script>")
    assert "<script>" not in page(described)
