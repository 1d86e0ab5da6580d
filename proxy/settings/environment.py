"""Variables in settings: `${NAME}`, `${NAME:-default}`, the `.env` file and secrets in `NAME_FILE`."""

import re
from codecs import BOM_UTF8
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proxy.settings.problems import Problem

_VARIABLE: Final = re.compile(r"\$\$|\$\{([^}]*)(\}?)")
_INSIDE: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)
_LINE: Final = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*?)\s*")
_QUOTED: Final = re.compile(r"""(?:'([^']*)'|"((?:[^"\\]|\\.)*)")\s*(?:#.*)?""")
_ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t"}


@dataclass(frozen=True, slots=True)
class Environment:
    """The variables that a configuration may use. Relative paths in `NAME_FILE` are relative to `folder`."""

    variables: Mapping[str, str]
    folder: Path

    def value(self, name: str) -> str | None:
        """The variable, or the stripped text of the file that `NAME_FILE` names; None: neither is set.

        Raises ValueError with a message for the user if that file cannot be read.
        """
        value, file = self.variables.get(name), self.variables.get(f"{name}_FILE")
        if value or not file:
            return value
        try:
            return (self.folder / file).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise ValueError(f"the file that {name}_FILE names cannot be read: {reason}") from error

    def expand(self, text: str) -> str:
        """`text` with its variables replaced; `$$` is a dollar sign, and inserted values are not expanded again.

        Raises ValueError, naming the variable, if it is not set or malformed.
        """
        return _VARIABLE.sub(self._replace, text)

    def _replace(self, match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        inside = _INSIDE.fullmatch(match[1])
        if not inside or not match[2] or "${" in match[1]:
            raise ValueError(
                "expected ${NAME} or ${NAME:-default}, not nested; write $$ for a dollar sign before a brace"
            )
        name, default = inside[1], inside[2]
        value = self.value(name)
        if default is not None:
            return value or default
        if value is None:
            raise ValueError(
                f"{name} is not set, neither in the environment nor in .env (if it may be empty: ${{{name}:-}})"
            )
        return value


def first_variable(text: str) -> str | None:
    """The name of the first variable in a value as written; None if there is none."""
    for match in _VARIABLE.finditer(text):
        if match[0] != "$$" and (inside := _INSIDE.fullmatch(match[1])):
            return inside[1]
    return None


def read_environment(file: Path, environ: Mapping[str, str]) -> tuple[Environment, list[Problem]]:
    """The variables of a `.env` file (which need not exist), overridden by those of `environ`, and any problems."""
    try:
        if not file.is_file():
            return Environment(environ, file.parent), []
        lines = file.read_bytes().removeprefix(BOM_UTF8).splitlines()
    except OSError as error:
        return Environment(environ, file.parent), [Problem(0, 0, "", f"cannot be read: {error.strerror}", str(file))]
    found, problems = dict[str, str](), list[Problem]()
    for number, line in enumerate(lines, 1):
        try:
            found.update(parse_line(line.decode()))
        except UnicodeDecodeError as error:
            problems.append(Problem(number, error.start + 1, "", "the file is not UTF-8", str(file)))
        except ValueError as error:
            problems.append(Problem(number, 1, "", str(error), str(file)))
    below = {name: value for name, value in found.items() if not environ.get(f"{name}_FILE")}
    return Environment(below | dict(environ), file.parent), problems


def parse_line(line: str) -> dict[str, str]:
    """What one line of a `.env` file sets: nothing, or one variable. Raises ValueError.

    `KEY=value`, `export KEY=value`, `# comment`; 'single quotes' are literal, "double quotes" know \\n, \\t, \\" and
    \\\\; without quotes a value ends at white space and `#`.
    """
    if not line.strip() or line.lstrip().startswith("#"):
        return {}
    match = _LINE.fullmatch(line)
    if not match:
        raise ValueError("expected KEY=value")
    name, value = match[1], match[2]
    if value[:1] not in ("'", '"'):
        return {name: re.split(r"(?:^|\s+)#", value, maxsplit=1)[0]}
    quoted = _QUOTED.fullmatch(value)
    if not quoted:
        raise ValueError("the quote is not closed, or text follows it")
    if quoted[1] is not None:
        return {name: quoted[1]}
    return {name: re.sub(r"\\(.)", lambda escape: _ESCAPES.get(escape[1], escape[1]), quoted[2])}
