"""The process of the embedded model: llama.cpp's own server, which ends with the process that started it."""

import argparse
import os
import signal
import sys
from typing import Final

import xllamacpp

from proxy.orphans import end_with_parent

CONTEXT: Final = 8192  # tokens that SmolLM2 was trained for, shared by concurrent calls
AT_A_TIME: Final = 4  # concurrent calls; more wait
READY: Final = b"ready\n"


def main() -> None:
    """Serves until standard input ends; writes READY to standard output once calls are answered."""
    asked = argparse.ArgumentParser()
    asked.add_argument("--model", required=True)
    asked.add_argument("--alias", required=True)
    asked.add_argument("--port", required=True, type=int)
    asked.add_argument("--threads", required=True, type=int)
    asked.add_argument("--parent", required=True, type=int)
    said = asked.parse_args()
    end_with_parent(said.parent, signal.SIGKILL)
    for number in (signal.SIGINT, signal.SIGTERM):  # Ctrl-C and systemd signal all processes, while calls may finish
        signal.signal(number, signal.SIG_IGN)
    ready = os.dup(1)
    os.dup2(2, 1)  # everything llama.cpp prints goes to the log
    server = xllamacpp.Server(parameters(said.model, said.alias, said.port, said.threads))
    os.write(ready, READY)
    sys.stdin.buffer.read()
    del server


def parameters(model: str, alias: str, port: int, threads: int) -> "xllamacpp.CommonParams":
    """Parameters for a small and quiet server: one model, loopback only, no web pages."""
    chosen = xllamacpp.CommonParams()
    chosen.model.path = model
    chosen.model_alias = {alias}
    chosen.hostnames = ["127.0.0.1"]
    chosen.port = port
    chosen.n_ctx = CONTEXT
    chosen.n_parallel = AT_A_TIME
    chosen.kv_unified = True  # else each concurrent call gets a fixed share of the context
    chosen.cpuparams.n_threads = threads
    chosen.cpuparams_batch.n_threads = threads
    chosen.cache_ram_mib = 0  # the default keeps up to 8 GB of old prompts
    chosen.use_jinja = True
    chosen.warmup = False
    chosen.ui = False
    chosen.verbosity = 1
    return chosen


if __name__ == "__main__":
    main()
