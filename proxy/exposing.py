"""The metrics of this process as Prometheus text."""

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest


def exposed(registry: CollectorRegistry) -> tuple[bytes, str]:
    """The text and its content type."""
    return generate_latest(registry), CONTENT_TYPE_LATEST
