"""One client's connection: its bytes in, its requests in order to the app, its leaving and its deadlines."""

import asyncio
from collections import deque
from typing import Any, Final, Literal, cast
from urllib.parse import unquote

import httptools
from starlette.types import ASGIApp
from uvicorn import Config
from uvicorn.server import ServerState

from proxy.call import Headers
from proxy.errors import SluiceError
from proxy.serving.cycle import Cycle
from proxy.serving.deadline import Deadline
from proxy.serving.framing import check_head, check_size, invalid, too_large
from proxy.serving.heads import error_response, request_id
from proxy.serving.leaving import Leaving
from proxy.serving.limits import HIGH_WATER, LINGER, MAX_HEAD, MAX_PIPELINED, Limits

Awaited = Literal["nothing", "head", "body", "idle", "write", "linger"]
"""What a connection's deadline is about."""

class SluiceProtocol(asyncio.Protocol):
    """HTTP/1.1 for uvicorn (`http=SluiceProtocol`): one instance per connection.

    Requests are answered in the order they came. The first one that is no sound HTTP is answered with its error, after
    all before it, and ends the connection.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        limits: Limits = Limits(),  # noqa: B008 - frozen
    ) -> None:
        self.app = cast(ASGIApp, config.loaded_app)
        self.server_state = server_state
        self.app_state = app_state
        self.limits = limits
        self.loop = _loop or asyncio.get_running_loop()
        self.connections: set[Any] = server_state.connections
        self.deadline = Deadline(self.loop, self._expired)
        self.awaited: Awaited = "nothing"

        self.phase: Literal["idle", "head", "body"] = "idle"  # of the request that is being read
        self.deaf = False  # nothing more is read as HTTP
        self.ended = False  # the client sends no more
        self.read_paused = False
        self.write_paused = False
        self._room: asyncio.Future[None] | None = None  # senders wait here for room in the write buffer
        self._unsent = 0  # bytes on their way to the client when the deadline was last set

        self.url = b""
        self.headers: Headers = []
        self.size = 0  # bytes received of the head, or of the body without getting on
        self.cycle: Cycle | None = None  # the request last read
        self.running: Cycle | None = None  # the one that is being answered
        self.pipeline: deque[Cycle] = deque()  # those after it
        self.refused: SluiceError | None = None  # what answers the request after them
