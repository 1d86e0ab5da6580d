"""The upstreams of one scenario: a loopback port for each, a log of requests, and a script for the first target."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from proxy.selftest.dialects import Dialect
from proxy.selftest.wire import Answer, Asked, Connection, Cut
from proxy.selftest.words import Completion, handed_over, left_of, question_in, tokens_for

_CHAT: Final = ("/chat/completions", "/api/chat", "/messages")
_LISTS: Final = ("/models", "/api/tags")


@dataclass(frozen=True, slots=True)
class Ask:
    """A chat request, as scripts see it."""

    dialect: Dialect
    body: Mapping[str, Any]
    place: int  # of the target among those of this scenario, by when they were first asked; 0: the first
    nth: int  # request at this target, from 1
    since: float  # seconds since the first request of the scenario, before scaling

    scale: float

    @property
    def streamed(self) -> bool:
        """Whether a stream is asked for; the default in Ollama."""
        return bool(self.body.get("stream", self.dialect.name == "ollama"))

    @property
    def continues(self) -> bool:
        """Whether it contains the beginning of an answer (prefill)."""
        return bool(handed_over(self.body.get("messages") or ()))

    def completion(self) -> Completion:
        """The correct answer; input token counts identify the target."""
        messages = self.body.get("messages") or ()
        tokens = left_of(tokens_for(question_in(messages)), handed_over(messages))
        usage = (self.body.get("stream_options") or {}).get("include_usage") is True
        return Completion(str(self.body.get("model")), tokens, counted_at(self.place), usage)


def counted_at(place: int) -> int:
    """Input tokens that the target in this place reports."""
    return 11 + 10 * place


Script = Callable[[Ask], Answer]


def healthy(ask: Ask) -> Answer:
    """No fault."""
    completion = ask.completion()
    if ask.streamed:
        return Answer(200, ask.dialect.kind, ask.dialect.stream(completion).events, chunked=True)
    return Answer(200, "application/json", (ask.dialect.whole(completion),))


@dataclass(slots=True)
class FaultUpstreams:
    """Upstreams by name. The target that is asked first plays `first`, all others play `others`."""

    dialects: Mapping[str, Dialect]
    models: Mapping[str, Iterable[str]]  # models that their lists show
    first: Script
    others: Script = healthy
    scale: float = 1.0
    asked: list[Asked] = field(default_factory=list)  # chat requests in order
    places: list[tuple[str, str]] = field(default_factory=list)  # targets in the order in which they were first asked
    ports: dict[str, int] = field(default_factory=dict)
    _servers: list[asyncio.Server] = field(default_factory=list)
    _connections: set[Connection] = field(default_factory=set)

    async def __aenter__(self) -> "FaultUpstreams":
        loop = asyncio.get_running_loop()
        for name in self.dialects:
            server = await loop.create_server(partial(Connection, self, name), "127.0.0.1", 0)
            self._servers.append(server)
            self.ports[name] = server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *error: object) -> None:
        for server in self._servers:
            server.close()
        for connection in list(self._connections):
            connection.abort()
        while self._connections:
            await asyncio.sleep(0.001)

    def opened(self, connection: Connection) -> None:
        """Keeps a connection, to close it at the end of the scenario."""
        self._connections.add(connection)

    def closed(self, connection: Connection) -> None:
        """Forgets a connection."""
        self._connections.discard(connection)

    def place_of(self, asked: Asked) -> int:
        """The place of the target that was asked."""
        return self.places.index((asked.upstream, asked.model))

    def at(self, place: int) -> list[Asked]:
        """The requests to the target in this place."""
        return [asked for asked in self.asked if self.place_of(asked) == place]

    def respond(self, asked: Asked) -> tuple[Answer, int]:
        """The answer of the script to a chat; a list of models; 404 for anything else."""
        dialect = self.dialects[asked.upstream]
        if not asked.path.endswith(_CHAT) or not isinstance(asked.body, dict):
            return self._other(asked, dialect)
        target = asked.upstream, asked.model
        if target not in self.places:
            self.places.append(target)
        self.asked.append(asked)
        place = self.places.index(target)
        since = (asked.at - self.asked[0].at) / self.scale
        ask = Ask(dialect, asked.body, place, len(self.at(place)), since, self.scale)
        answer = (self.others if place else self.first)(ask)
        return answer, healthy(ask).size if any(isinstance(act, Cut) for act in answer.acts) else answer.size

    def _other(self, asked: Asked, dialect: Dialect) -> tuple[Answer, int]:
        if asked.method == "GET" and asked.path.endswith(_LISTS):
            answer = Answer(200, "application/json", (dialect.models(self.models[asked.upstream]),))
        else:
            answer = Answer(404, "application/json", (dialect.error(404, "There is nothing here.", ""),))
        return answer, answer.size
