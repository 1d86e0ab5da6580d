"""What is measured: the upstream itself, nginx and Sluice, each started from a config of its own."""

import getpass
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.processes import BenchError, free_port, running, until_answering

HERE: Final = Path(__file__).parent
PROXY_CORE: Final = "0"
LOAD_CORE: Final = "1"  # of the load generator, the upstream and the driver
BOTH_CORES: Final = "0,1"  # of two workers, who share the second with the load
CLIENT_KEY: Final = "sk-bench-0123456789abcdef0123456789abcdef"
MORE_ROUTES: Final = 1000


@dataclass(frozen=True, slots=True)
class Target:
    """Something that answers OpenAI calls on a port of this machine. pid 0: the upstream itself, nothing between."""

    name: str
    port: int
    pid: int = 0
    started: float = 0.0  # seconds until it answered
    workers: int = 1


def build(into: Path) -> None:
    """Compiles the upstream and the load generator."""
    into.mkdir(exist_ok=True)
    for name in ("upstream", "load"):
        command = ["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(into / name), str(HERE / f"{name}.c")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchError(f"{name}.c does not compile:\n{done.stderr}")


@contextmanager
def upstream(folder: Path) -> Iterator[Target]:
    """The upstream, on a port of its own choice."""
    log = folder / "upstream.log"
    with running([str(HERE / "build" / "upstream")], LOAD_CORE, log) as process:
        while not (said := log.read_text()).endswith("\n"):
            if process.poll() is not None:
                raise BenchError("The upstream ended at once.")
        yield Target("direct", int(said.split()[1]))


@contextmanager
def nginx(folder: Path, behind: Target) -> Iterator[Target]:
    """Debian's nginx as a plain reverse proxy before the upstream."""
    port, log = free_port(), folder / "nginx.log"
    config = folder / "nginx.conf"
    config.write_text(nginx_config(folder, port, behind.port))
    with running(["nginx", "-c", str(config), "-p", str(folder), "-e", str(log)], PROXY_CORE, log) as process:
        yield Target("nginx", port, process.pid, until_answering(port, process, log))


@contextmanager
def sluice(folder: Path, config: str, name: str = "sluice", workers: int = 1) -> Iterator[Target]:
    """Sluice with this config (`{port}` stands for its port); several workers have both cores."""
    home = folder / name
    home.mkdir(exist_ok=True)
    port, log, path = free_port(), home / "sluice.log", home / "config.yaml"
    path.write_text(config.replace("{port}", str(port)))
    command = [sys.executable, "-m", "proxy", "serve", "--config", str(path), "--workers", str(workers)]
    with running(command, PROXY_CORE if workers == 1 else BOTH_CORES, log, cwd=HERE.parent) as process:
        yield Target(name, port, process.pid, until_answering(port, process, log), workers)


@contextmanager
def targets(names: list[str], folder: Path, behind: Target, providers: tuple[str, ...]) -> Iterator[dict[str, Target]]:
    """All that are named, by name, started one after the other."""
    with ExitStack() as stack:
        found = {behind.name: behind}
        if "nginx" in names:
            found["nginx"] = stack.enter_context(nginx(folder, behind))
        if "sluice" in names:
            found["sluice"] = stack.enter_context(sluice(folder, sluice_config(behind.port, providers)))
        if "sluice+routes" in names:
            config = sluice_config(behind.port, (), MORE_ROUTES)
            found["sluice+routes"] = stack.enter_context(sluice(folder, config, "sluice+routes"))
        if "2 workers" in names:
            found["2 workers"] = stack.enter_context(sluice(folder, sluice_config(behind.port), "2 workers", 2))
        yield found


def nginx_config(folder: Path, port: int, behind: int) -> str:
    """One worker, connections kept on both sides, nothing buffered to disk, events passed as they come."""
    user = f"user {getpass.getuser()};" if os.geteuid() == 0 else ""  # who may write into our folder
    temporary = "\n".join(
        f"    {kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""{user}
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
events {{ worker_connections 16384; }}
http {{
    access_log off;
{temporary}
    client_body_buffer_size 64k;
    keepalive_requests 1000000000;
    upstream behind {{
        server 127.0.0.1:{behind};
        keepalive 256;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://behind;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
        }}
    }}
}}
"""


UPSTREAMS: Final = {
    "ollama": "{{provider: ollama, base_url: 'http://127.0.0.1:{port}'}}",
    "anthropic": "{{provider: anthropic, base_url: 'http://127.0.0.1:{port}/v1', api_key: sk-ant-bench}}",
}


def sluice_config(behind: int, providers: tuple[str, ...] = (), more_routes: int = 0) -> str:
    """A config.yaml, its port yet to be put in: keys required, metrics on, calls not logged (nor does nginx log them);
    `gpt-` is only renamed, `rule-` also has a response rule for every event."""
    translated = "\n".join(f"  {name}: {UPSTREAMS[name].format(port=behind)}" for name in providers)
    more = "\n".join(f"  - {{prefix: more-{n:04}-, to: 'fast/more/{{rest}}'}}" for n in range(more_routes))
    return f"""server: {{host: 127.0.0.1, port: {{port}}}}
log: {{level: warning}}
access: {{keys: required, client_keys: [{CLIENT_KEY}]}}
upstreams:
  fast: {{provider: openai, base_url: 'http://127.0.0.1:{behind}/v1'}}
{translated}
default_upstream: fast
routes:
  - {{prefix: gpt-, to: 'fast/bench/{{model}}'}}
  - {{prefix: rule-, to: 'fast/bench/{{model}}', response: {{remove: [system_fingerprint]}}}}
{more}
"""


def refused(provider: str, folder: Path) -> str:
    """What this version of Sluice has against a config with this provider; "": nothing."""
    config = folder / f"{provider}.yaml"
    config.write_text(sluice_config(9, (provider,)).replace("{port}", "0"))
    command = [sys.executable, "-m", "proxy", "check", str(config)]
    done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 2):  # 2: bad input, see the contract of the commands
        raise BenchError(f"sluice check failed:\n{done.stderr}")
    return done.stderr.replace(str(config), "config.yaml").strip() if done.returncode else ""
