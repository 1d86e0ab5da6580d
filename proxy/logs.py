"""Logging: readable lines on a terminal, JSON lines elsewhere."""

import logging
import sys
from datetime import UTC, datetime
from typing import Literal

import orjson


class JsonLines(logging.Formatter):
    """One JSON object per line; whatever a value holds stays inside it."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        said: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        fields = getattr(record, "fields", None)
        if isinstance(fields, dict):
            said |= fields
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        # Non-ASCII line separators would end a line for some readers.
        return orjson.dumps(said, default=str).decode().replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


class Readable(logging.Formatter):
    """A line for people; control characters of values are shown, not sent to the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        time = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        text = "".join(sign if sign.isprintable() or sign == "\n" else repr(sign)[1:-1] for sign in record.getMessage())
        fields = getattr(record, "fields", None)
        extra = "".join(f" {key}={value!r}" for key, value in fields.items()) if isinstance(fields, dict) else ""
        trace = f"\n{self.formatException(record.exc_info)}" if record.exc_info else ""
        return f"{time} {record.levelname.lower():<7} {text}{extra}{trace}"


def configure(form: Literal["auto", "text", "json"], level: str) -> None:
    """Sends Sluice's log to standard error in the given form."""
    readable = form == "text" or (form == "auto" and sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Readable() if readable else JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("sluice").setLevel(level.upper())
