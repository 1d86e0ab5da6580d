"""All metrics by name, with their labels and buckets; stages/metering.py updates them."""

import platform
from collections.abc import Container
from typing import Final

from proxy import __version__
from proxy.instruments import Instruments, Numbers

# Upper ends of buckets, in seconds.
OVERHEAD: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1)
FIRST_TOKEN: Final = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    *(15.0, 20.0, 30.0, 45.0, 60.0),
)
PER_TOKEN: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
DURATION: Final = (
    *(0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92),
    *(120.0, 300.0, 600.0),
)
MOST_NAMED: Final = 7_000  # with this many series, new models get no series of their own
MOST_SERIES: Final = 8_000  # with this many, nor do new routes and upstreams

Labels = tuple[str, str, str, str]
"""Door, route, upstream, model."""


class Metrics:
    """Every metric except the one of the log itself; docs/operations.md has a table of them."""

    def __init__(self, made: Instruments) -> None:
        self._made = made
        self.requests = made.counter(
            "sluice_requests_total", "Calls ended.", "door", "route", "upstream", "model", "status", "code"
        )
        self.duration = made.histogram(
            "sluice_request_duration_seconds", "From a call's start to its last byte.", DURATION, "route", "upstream"
        )
        self.overhead = made.histogram(
            "sluice_overhead_seconds", "Time inside Sluice that was not waiting for an upstream.", OVERHEAD, "door"
        )
        self.first_token = made.histogram(
            "sluice_time_to_first_token_seconds", "From a call's start to its first token.", FIRST_TOKEN,
            "route", "upstream", "model",
        )  # fmt: skip
        self.per_token = made.histogram(
            "sluice_time_per_output_token_seconds", "Time between tokens of a stream.", PER_TOKEN, "upstream", "model"
        )
        self.attempts = made.counter("sluice_attempts_total", "Attempts at targets.", "upstream", "model", "outcome")
        self.tokens = made.counter(
            "sluice_tokens_total", "Tokens as upstreams counted them.", "upstream", "model", "kind"
        )
        self.cost = made.counter("sluice_cost_usd_total", "Cost in USD, where it is known.", "upstream", "model")
        self.in_flight = Numbers(made.gauge("sluice_in_flight", "Attempts and answers under way.", "upstream").labels)
        self.streams = made.gauge("sluice_streams_open", "Streams under way.").labels()
        self.cache = made.counter("sluice_cache_total", "Cache look-ups by their result.", "route", "result")
        self.breaker = made.gauge(
            "sluice_breaker_open", "1 while a breaker keeps calls away.", "upstream", "model", joined="max"
        )
        self.up = made.gauge("sluice_upstream_up", "1 while an upstream answers.", "upstream", joined="min")
        self.disconnects = made.counter("sluice_client_disconnects_total", "Clients that left before the end.", "phase")
        self.config_valid = made.gauge(
            "sluice_config_valid", "1 while config.yaml is what runs.", joined="min"
        ).labels()
        self.reloads = made.counter("sluice_config_reloads_total", "Reloads of the configuration.", "result")
        self.malformed = made.counter(
            "sluice_malformed_events_total", "Events dropped because they are not JSON.", "upstream"
        )
        self.sent = Numbers(
            made.counter(
                "sluice_upstream_sent_total", "Attempts counted by the client that sends them.", "upstream"
            ).labels
        )
        self.dispatched = Numbers(
            made.counter("sluice_dispatch_sent_total", "Attempts counted by dispatch.", "upstream").labels
        )
        self.resent = Numbers(
            made.counter(
                "sluice_upstream_resent_total",
                "Requests sent again on a new connection, since the upstream had closed the kept-alive one.",
                "upstream",
            ).labels
        )
        self.vapi = made.counter("sluice_vapi_events_total", "Messages of Vapi's webhook.", "type")
        made.gauge("sluice_build_info", "Always 1.", "version", "python", joined="max").labels(
            __version__, platform.python_version()
        ).set(1)
        self.config_valid.set(1)

    @property
    def full(self) -> bool:
        """Whether new models are counted as `other` from now on. Called for new series only."""
        return self._made.series() > MOST_NAMED

    def kept(self, labels: Labels, made: Container[Labels] = ()) -> Labels:
        """The labels of a new series: all; without the model once there are many series; finally the door alone.

        `made`: labels of series that exist already.
        """
        door, route, upstream, _ = labels
        if not self.full:
            return labels
        by_place = door, route, upstream, "other"
        crowded = self._made.series() > MOST_SERIES and by_place not in made
        return (door, "other", "other", "other") if crowded else by_place
