"""The chat page and the admin page: plain HTML, CSS and ES modules, without a build step."""

from proxy.doors.pages.serving import Pages

__all__ = ["Pages"]
