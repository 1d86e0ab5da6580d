"""Answers a call from the cache or from an identical call under way, else sends it and keeps the answer."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import reduce
from time import perf_counter
from typing import Any, Final, Protocol, TypeVar

import orjson

from proxy.caches.contract import MODEL, ROUTE, Entry, Found, Holding, Store
from proxy.caches.flights import Flight
from proxy.caches.keys import Asked, Question, asked, tag
from proxy.caches.serving import Answered, Copy, replay
from proxy.caches.tallies import Result, Stats, Tallies, merge_stats
from proxy.call import Call, Trace
from proxy.clocks import timeout
from proxy.errors import SluiceError
from proxy.jsonspans import model_span
from proxy.policies.rewriting import ask_usage
from proxy.policies.routes import CachePolicy, Choice
from proxy.shapes import object_of

A = TypeVar("A", bound=Answered)
Send = Callable[[Call, Choice], Awaitable[A]]

KEPT: Final = frozenset(("chat/completions", "embeddings"))
_FORM: Final = {False: b"whole", True: b"stream"}  # appended to the key of a call under way
_NO_ANSWER: Final = (None, "content_filter", "error")  # finish reasons of answers that are not kept


class Similar(Protocol):
    """Finds cached answers to questions with the same meaning."""

    @property
    def longest(self) -> int:
        """The longest question, in characters, that is compared."""
        ...

    def begin(self) -> None:
        """Starts to get ready for the first question, in the background."""
        ...

    async def find(self, question: Question, policy: CachePolicy) -> Found:
        """The best match, if one is good enough. Never raises."""
        ...

    async def note(self, found: Found, key: bytes) -> None:
        """The answer to the question searched for by `find` has been stored under this key."""
        ...

    def close(self) -> None:
        """Stops its background work."""
        ...


@dataclass(frozen=True, slots=True)
class CacheLookup:
    """A call that the cache may answer."""

    call: Call
    choice: Choice
    policy: CachePolicy
    asked: Asked
    key: bytes


@dataclass(slots=True)
class Cache:
    """Stored answers, and calls under way that others may join.

    It outlives reloads; each route brings its own policy.
    """

    store: Store
    count: Callable[[str, str], None]  # (route, result): called once per call
    similar: Similar | None = None
    clock: Callable[[], float] = time.time  # Unix seconds
    _flights: dict[bytes, Flight] = field(default_factory=dict, init=False)
    _tallies: Tallies = field(default_factory=Tallies, init=False)

    async def answer(self, call: Call, choice: Choice, send: Send[A]) -> A | Copy:
        """The answer: stored, shared with an identical call under way, or sent for. To be closed after use.

        Raises cache_miss if the call wants stored answers only and there is none, and whatever `send` raises.
        """
        lookup = self._lookup(call, choice)
        if lookup is None:
            if call.cache == "only":
                raise cache_miss()
            return await send(call, choice)
        found = None
        if call.cache != "refresh":
            if kept := await self._kept(lookup, lookup.key, lookup.policy.exact):
                return self._hit(lookup, kept, "hit", "hit")
            found = await self._found(lookup)
            if found and found.key and (kept := await self._kept(lookup, found.key, lookup.policy.similar)):
                return self._hit(lookup, kept, "similar", f"similar;score={found.score:.2f}")
            if flight := self._under_way(lookup):
                self._say(lookup, "shared")
                return await flight.join(call)
        self._say(lookup, "miss")
        if call.cache == "only":
            raise cache_miss()
        return await self._begun(lookup, send, found).join(call)

    def begin(self) -> None:
        """Called when the cache is put in force."""
        if self.similar is not None:
            self.similar.begin()

    async def stats(self, others: Iterable[Stats] = ()) -> Stats:
        """Size of the cache and hits; `others`: the `local_stats` of the other workers."""
        return reduce(merge_stats, others, self._tallies.stats(await self.store.holding()))

    async def local_stats(self) -> Stats:
        """The statistics of this worker alone; without the size where all workers share one store."""
        return self._tallies.stats(Holding(0, 0, 0) if self.store.shared else await self.store.holding())

    async def clear(self, route: str | None = None, model: str | None = None) -> int | None:
        """Deletes what is stored of a route and of an upstream's model (None: of any). How many; None: unknown.

        Calls under way are no longer shared, and their answers are not stored.
        """
        tags = tuple(None if name is None else tag(name) for name in (route, model))
        for key, flight in list(self._flights.items()):
            if tags[0] in (None, key[ROUTE]) and tags[1] in (None, key[MODEL]):
                flight.joinable = False
                del self._flights[key]
        return await self.store.clear(*tags)

    async def aclose(self) -> None:
        """Closes the connections of the store, and stops comparing questions."""
        if self.similar is not None:
            self.similar.close()
        await self.store.aclose()

    def _lookup(self, call: Call, choice: Choice) -> CacheLookup | None:
        """The call as the cache sees it; None where its route or the call itself does not use the cache."""
        policy = choice.route.policies.cache
        if policy is None or not (policy.exact or policy.similar):
            return None
        if call.endpoint in KEPT and call.cache != "off":
            question = asked(call, choice)
            by_chance = call.chat and question.sampled and not policy.sampled
            key = None if by_chance or "audio" in question.fields else question.key()
            if key is not None:
                return CacheLookup(call, choice, policy, question, key)
        self.count(choice.route.name, "off")
        return None

    async def _kept(self, lookup: CacheLookup, key: bytes, longest: float) -> Entry | None:
        """The entry, if it is not older than this route allows."""
        entry = await self.store.get(key) if longest else None
        return entry if entry is not None and self.clock() - entry.kept_at < longest else None

    async def _found(self, lookup: CacheLookup) -> Found | None:
        """A stored answer to a question with the same meaning, where the route allows one."""
        if self.similar is None or not lookup.policy.similar or not lookup.call.chat:
            return None
        question = lookup.asked.question(self.similar.longest)
        if question is None:
            return None
        began = perf_counter()
        try:
            async with asyncio.timeout(lookup.call.left):
                found = await self.similar.find(question, lookup.policy)
        except TimeoutError:
            lookup.call.trace.waited += perf_counter() - began  # most likely for an upstream that embeds
            raise timeout("total") from None
        lookup.call.trace.waited += found.waited
        return found

    def _under_way(self, lookup: CacheLookup) -> Flight | None:
        """An identical call that can be joined. A streaming caller joins a call for a whole answer only for `only`."""
        call = lookup.call
        if not _shareable(lookup):
            return None
        forms = (call.stream,) if call.stream and call.cache != "only" else (call.stream, not call.stream)
        flights = (self._flights.get(lookup.key + _FORM[stream]) for stream in forms)
        return next((flight for flight in flights if flight is not None and flight.joinable), None)

    def _begun(self, lookup: CacheLookup, send: Send[A], found: Found | None) -> Flight:
        """Starts a flight for this call; others may join it unless it ends with a time limit of the call's own."""

        async def landed(flight: Flight) -> None:
            whole = flight.whole
            if whole is not None and is_finished(whole, lookup.policy.tools, lookup.call.chat):
                await self._keep(lookup, flight, whole)
                if found is not None and self.similar is not None:
                    await self.similar.note(found, lookup.key)
            forget()

        def forget(task: object = None) -> None:
            if self._flights.get(place) is flight:
                del self._flights[place]

        place = lookup.key + _FORM[lookup.call.stream]
        flight = Flight(flight_call(lookup.call), lambda call: send(call, lookup.choice), landed)
        flight.task.add_done_callback(forget)
        if lookup.call.timeout is None and _shareable(lookup):
            self._flights[place] = flight
        return flight

    async def _keep(self, lookup: CacheLookup, flight: Flight, whole: bytes) -> None:
        trace, policy = flight.call.trace, lookup.policy
        entry = Entry(whole, self.clock(), trace.upstream, trace.model)
        await self.store.put(lookup.key, entry, max(policy.exact, policy.similar))

    def _hit(self, lookup: CacheLookup, entry: Entry, result: Result, shown: str) -> Copy:
        trace = lookup.call.trace
        self._say(lookup, result)
        trace.cache, trace.upstream, trace.model = shown, entry.upstream, entry.model
        trace.changes = lookup.asked.changes
        return replay(entry.data, self.clock() - entry.kept_at, lookup.call)

    def _say(self, lookup: CacheLookup, result: Result) -> None:
        route = lookup.choice.route.name
        lookup.call.trace.cache = result
        self.count(route, result)
        self._tallies.note(route, result)


def cache_miss() -> SluiceError:
    """The error of a call that wants stored answers only."""
    return SluiceError(
        "cache_miss", "No answer to this call is cached, and x-sluice-cache: only forbids asking an upstream."
    )


def flight_call(call: Call) -> Call:
    """The call as a flight sends it: with its own trace, and asking for usage, which some reader may want."""
    trace = Trace()
    trace.route = call.trace.route
    trace.tries = call.trace.tries
    if not call.stream or call.wants_usage:
        return replace(call, trace=trace)
    options = call.fields.get("stream_options")
    asking = object_of(options)
    fields = {**call.fields, "stream_options": {**asking, "include_usage": True}}
    body = ask_usage(call.body, call.fields)
    return replace(call, trace=trace, body=body, fields=fields, model_at=model_span(body, fields))


def is_finished(whole: bytes, tools: bool, chat: bool) -> bool:
    """Whether an answer is complete and may be served again; `tools`: even if it calls tools."""
    try:
        answer = orjson.loads(whole)
    except orjson.JSONDecodeError:
        return False
    if not isinstance(answer, dict) or answer.get("error"):
        return False
    if not chat:
        return bool(answer.get("data"))
    choices = answer.get("choices")
    return isinstance(choices, list) and bool(choices) and all(_is_finished(choice, tools) for choice in choices)


def _is_finished(choice: Any, tools: bool) -> bool:
    if not isinstance(choice, dict) or choice.get("finish_reason") in _NO_ANSWER:
        return False
    message = choice.get("message")
    if not isinstance(message, dict):
        return False
    return tools or not (message.get("tool_calls") or message.get("function_call"))


def _shareable(lookup: CacheLookup) -> bool:
    """Whether an answer may go to several clients: tool calls may not, unless the route says otherwise."""
    return lookup.policy.tools or not lookup.asked.has_tools
