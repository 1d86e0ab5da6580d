"""A server of HTTP tools, as an operator would have one for voice assistants: one path for each way to behave."""

import gzip

from tests.doubles.server import Double
from tests.doubles.wire import FOREVER, Answer, Cut, Received, Wait, json_answer, text_answer


class ToolsDouble(Double):
    """`/weather` answers in words, `/echo` with what it got, the others go wrong."""

    name = "tools"
    work = ("/weather", "/echo")

    def answer(self, request: Received) -> Answer:
        ways = {
            "/weather": text_answer("21 degrees\nand sun"),
            "/echo": Answer(200, (("content-type", "application/json"),), (request.body,)),
            "/broken": json_answer({"trace": "internal"}, 500),
            "/elsewhere": Answer(302, (("location", f"{self.address}/echo"),)),
            "/endless": Answer(200, (), (b"x" * 65_536,) * 8, "chunked"),
            "/packed": Answer(200, (("content-encoding", "gzip"),), (gzip.compress(b"x" * 1000),)),
            "/cut": text_answer("21 degrees").with_acts(b"21 deg", Cut()),
            "/silent": Answer(before=(Wait(FOREVER),)),
            "/slow": Answer(200, (), (b"21", Wait(FOREVER)), "chunked"),
        }
        return ways.get(request.route, text_answer("There is no such tool.", 404))
