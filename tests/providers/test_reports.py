import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.providers.reports import LONGEST, Report, clean, report_in, report_of


@pytest.mark.parametrize(
    ("body", "message", "code", "status"),
    [
        (b'{"error":{"message":"no","type":"t","param":"p","code":"bad_thing"}}', "no", "bad_thing", 0),
        (b'{"error":{"message":"no","code":400}}', "no", "", 400),
        (b'{"error":{"message":"no","code":"429"}}', "no", "", 429),
        (b'{"error":{"message":"no","code":1500}}', "no", "", 0),
        (b'{"error":{"message":"no","code":502,"metadata":{"error_type":"server"}}}', "no", "server", 502),
        (b'{"error":"model \'x\' not found"}', "model 'x' not found", "", 0),
        (b'[{"error":{"code":404,"message":"no","status":"NOT_FOUND"}}]', "no", "", 404),
        (b'{"object":"error","message":"no","type":"BadRequestError","param":null,"code":400}', "no", "", 400),
        (b'{"message":"Unauthorized"}', "Unauthorized", "", 0),
        (b'{"detail":"Not Found"}', "Not Found", "", 0),
        (b'{"detail":[{"loc":["body","n"],"msg":"too big"},{"msg":"odd"}]}', "n: too big; odd", "", 0),
        (b'{"object":"error","message":{"detail":[{"loc":["body","user"],"msg":"extra"}]}}', "user: extra", "", 0),
        (b'"plain"', "plain", "", 0),
        (b"upstream connect error", "upstream connect error", "", 0),
        (b"<html><body>Bad gateway</body></html>", "", "", 0),
        (b"", "", "", 0),
        (b"null", "", "", 0),
        (b"[]", "", "", 0),
        (b'{"error":{"message":null,"code":null,"type":null}}', "", "", 0),
    ],
)
def test_every_shape_of_a_report_is_read(body: bytes, message: str, code: str, status: int) -> None:
    report = report_in(body)
    assert (report.message, report.code, report.status) == (message, code, status)


@pytest.mark.parametrize(
    "answer",
    [
        {"id": "1", "choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]},
        {"id": "resp_1", "error": None, "output": []},
        {"id": "resp_1", "object": "response", "status": "incomplete", "error": None, "output": []},
        {"message": "an answer of some other kind", "detail": "is no error"},
        [{"id": "model"}],
        "text",
        None,
    ],
)
def test_what_came_as_a_success_is_one_unless_it_says_error(answer: object) -> None:
    assert report_of(answer) is None


def test_a_response_that_failed_is_none_whether_or_not_it_says_why() -> None:
    failed: dict[str, object] = {"id": "resp_1", "object": "response", "status": "failed", "output": [], "error": None}
    assert report_of(failed) == Report()
    assert report_of(failed | {"error": {"code": "server_error", "message": "x"}}) is not None


@pytest.mark.parametrize(
    "choice",
    [
        {"index": 0, "delta": {"content": ""}, "finish_reason": "error"},
        {"index": 0, "message": {"content": "part"}, "finish_reason": "error", "error": {"code": 502, "message": "x"}},
        {"index": 0, "message": {"content": "part"}, "finish_reason": "abort"},
        {"index": 0, "error": 5},
    ],
)
def test_a_choice_can_hold_the_error(choice: dict[str, object]) -> None:
    assert report_of({"choices": [choice]}) is not None


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mb\r\nc\u2028d", "a [31mb c d"),
        ("boom\nTraceback (most recent call last):\n  File secret", "boom"),
        ("handler: boom \ntraceback: File secret", "handler: boom"),
        ("Incorrect API key provided: sk-proj-abcdefgh12345678.", "Incorrect API key provided: ***"),
        ("x" * 5000, "x" * (LONGEST - 1) + "…"),
    ],
)
def test_foreign_text_is_made_fit_to_be_shown(text: str, shown: str) -> None:
    assert clean(text) == shown


@given(st.binary() | st.text().map(lambda text: b'{"error":' + text.encode(errors="replace") + b"}"))
def test_no_body_breaks_the_reading(body: bytes) -> None:
    report = report_in(body)
    assert isinstance(report, Report)
    assert len(report.message) <= LONGEST and report.message.isprintable() or not report.message.isascii()
