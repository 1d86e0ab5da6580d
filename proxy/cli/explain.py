"""`sluice explain`: what would happen to a call, from the file alone."""

import argparse
import sys
from pathlib import Path

import orjson

from proxy.call import Call
from proxy.cli.configured import add_config, load_plan
from proxy.doors.reading import fill
from proxy.errors import SluiceError
from proxy.stages.explaining import explain


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command."""
    parser = subparsers.add_parser("explain", help="show where a model name leads and what would be sent")
    parser.add_argument("model", help="the name that a client would use")
    parser.add_argument("--body", type=Path, help="a file with a chat body; its model is replaced by MODEL")
    add_config(parser)
    parser.set_defaults(run=run)


def call_for(model: str, body: bytes | None) -> Call:
    """A call for `model` with this body, or with a minimal one. Raises client errors."""
    fields = orjson.loads(body) if body else {"messages": [{"role": "user", "content": "Hello"}]}
    if not isinstance(fields, dict):
        raise SluiceError("client_invalid_request", "The body must be a JSON object.")
    call = Call("explain", "openai", "chat/completions", model, b"", {}, content_type=b"application/json")
    fill(call, orjson.dumps({"model": model} | fields | {"model": model}))
    return call


def run(arguments: argparse.Namespace) -> int:
    """Prints the explanation as JSON; 1 if no route matches the name, 2 if name or body are invalid."""
    made = load_plan(arguments.config)
    try:
        body = arguments.body.read_bytes() if arguments.body else None
        explanation = explain(made.router, made.screen, call_for(arguments.model, body))
    except OSError as error:
        print(f"{arguments.body}: cannot be read: {error.strerror}", file=sys.stderr)
        return 2
    except orjson.JSONDecodeError as error:
        print(f"{arguments.body}: not JSON: {error}", file=sys.stderr)
        return 2
    except orjson.JSONEncodeError:
        print(f"the model name {ascii(arguments.model)} is not UTF-8", file=sys.stderr)
        return 2
    except SluiceError as error:
        print(error.message, file=sys.stderr)
        return 2 if error.code.startswith("client_") else 1
    print(orjson.dumps(explanation, option=orjson.OPT_INDENT_2).decode())
    return 0
