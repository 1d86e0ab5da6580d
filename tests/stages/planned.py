"""A configuration's plan, and calls to try on it; nothing runs."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson

from proxy.call import Call
from proxy.doors.reading import fill
from proxy.planning import Plan, load_settings, plan


def planned(config: str, **environ: str) -> Plan:
    """What follows from this config.yaml."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(config)
        return plan(load_settings(path, environ))


def call(fields: Any, endpoint: str = "chat/completions", **headers: str) -> Call:
    """A call with this body (JSON as bytes, or the members beside model and messages)."""
    made = Call("1", "openai", endpoint, "", b"", {}, content_type=b"application/json")
    made.headers = [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()]
    whole = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
    fill(made, fields if isinstance(fields, bytes) else orjson.dumps(whole | fields))
    return made
