"""Parses YAML into plain data, keeping line and column of each key, without YAML's ambiguities."""

import re
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from proxy.settings.problems import Findings, Kind, Mark, Path, Problem, holds_secret

_PREFIX: Final = "tag:yaml.org,2002:"
_INTEGER: Final = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_DECIMAL: Final = re.compile(r"[-+]?((0|[1-9][0-9]{0,40})(\.[0-9]{0,40})?|\.[0-9]{1,40})([eE][-+]?[0-9]{1,2})?")
_BRACED: Final = re.compile(r"\$\{[^{}\n]*\}|\{(model|rest)\}")
_HIDE: Final = str.maketrans("{},[]", "\U0001fffe\U0001ffff\U0002fffe\U0002ffff\U0003fffe")
_SHOW: Final = {hidden: shown for shown, hidden in _HIDE.items()}
_TRUE: Final = frozenset({"true", "yes", "on"})
_MOST_ALIASED: Final = 20_000  # values beyond one per character; a few lines of nested aliases expand to billions
_DEEPEST: Final = 64
_SYNTAX: Final = {
    "'\\t'": "a tab where YAML allows only spaces",
    "expected a single document": "expected a single document, but a second one begins here",
    "mapping values are not allowed here": 'unexpected colon: check the indentation, and quote texts that contain ": "',
    "undefined alias": "an alias that is not defined: put texts that begin with * in quotes",
    "undefined tag handle": "YAML tags are not supported: put texts that begin with ! in quotes",
    "end of stream": "a quote is not closed",
    "<stream end>": "a bracket or brace is not closed",
    "<block end>": "expected the end of this entry: check indentation, dashes and quotes",
}
"""Parts of PyYAML's messages, and ours for them. An alias or tag is not quoted: it may be a password without quotes."""
_HALF: Final = re.compile("[\ud800-\udfff]")


class YamlError(Exception):
    """The text is not a single YAML document; holds the one problem."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(problem.message)


@dataclass(slots=True)
class Tree:
    """Dicts with text keys, lists and scalars; the mark of every key and item; findings for ambiguous values."""

    data: Any = None
    marks: dict[Path, Mark] = field(default_factory=dict)
    findings: Findings = field(default_factory=Findings)


def read_yaml(text: str) -> Tree:
    """Parses one YAML document. Duplicate keys and ambiguous scalars are findings; invalid syntax raises YamlError.

    `[${NAME:-}]` and `[ollama/{model}]` are invalid YAML, since braces in brackets begin a mapping, but people write
    them: while PyYAML reads, such characters are replaced one for one by noncharacters of Unicode.
    """
    hidden = _BRACED.sub(lambda braced: braced[0].translate(_HIDE), text)
    try:
        return _walked(yaml.compose(hidden, yaml.SafeLoader), _MOST_ALIASED + len(text))
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error) from error
    except yaml.reader.ReaderError as error:  # has a position instead of a mark
        before = text[: error.position]
        line, column = before.count("\n") + 1, error.position - before.rfind("\n")
        raise YamlError(
            Problem(line, column, "", f"the character U+{ord(text[error.position]):04X} is not allowed")
        ) from error
    except RecursionError as error:
        raise YamlError(Problem(1, 1, "", "nested too deeply")) from error


def _walked(root: yaml.Node | None, most: int) -> Tree:
    """The tree of a composed document (None: an empty one) with at most `most` values."""
    walk = _Walk(most)
    tree = walk.tree
    tree.findings.marks = tree.marks
    tree.marks[()] = Mark(1, 1, "nothing")
    if root is not None:
        tree.data = walk.value(root, (), root)
    return tree


def _syntax_error(error: yaml.MarkedYAMLError) -> YamlError:
    """PyYAML's error in one line, with its position."""
    message = ": ".join(part for part in (error.context, error.problem) if part)
    mark = error.problem_mark or error.context_mark
    if "end of stream" in message or "<stream end>" in message:
        mark = error.context_mark or mark  # where the bracket or quote is opened helps more than the end of the file
    message = next((ours for theirs, ours in _SYNTAX.items() if theirs in message), message)
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    return YamlError(Problem(line, column, "", message.translate(_SHOW)))


@dataclass(slots=True)
class _Walk:
    """One pass over the composed nodes."""

    most: int
    tree: Tree = field(default_factory=Tree)
    nodes: int = 0

    def value(self, node: yaml.Node, path: Path, place: yaml.Node) -> Any:
        """The plain value of `node`; `place` is the node of its key, or of the item itself."""
        line, column = place.start_mark.line + 1, place.start_mark.column + 1
        self.nodes += 1
        if self.nodes > self.most or len(path) > _DEEPEST:
            raise YamlError(Problem(line, column, "", "too many aliases, or nested too deeply"))
        if isinstance(node, yaml.MappingNode):
            self.tree.marks[path] = Mark(line, column, "a mapping")
            self._refuse_tag(node, path, "map")
            return self._mapping(node, path, {})
        if isinstance(node, yaml.SequenceNode):
            self.tree.marks[path] = Mark(line, column, "a list")
            self._refuse_tag(node, path, "seq")
            return [self.value(item, (*path, index), item) for index, item in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode)  # there is no fourth kind
        node.value = node.value.translate(_SHOW)
        if _HALF.search(node.value):
            self.tree.findings.add(path, "half of a surrogate pair is not a valid character", Mark(line, column))
            return ""
        value, kind = self._scalar(node)
        self.tree.marks[path] = Mark(line, column, kind, node.value)
        if value is _AMBIGUOUS:
            shown = "this value" if holds_secret(path) else node.value
            self.tree.findings.add(
                path,
                f"{shown} is not a plain decimal number (YAML may read it as octal, base 60 or the like): "
                "put it in quotes if it is text",
            )
            return node.value
        self._refuse_tag(node, path, "null", "bool", "int", "float", "str", "timestamp", "value")
        return value

    def _refuse_tag(self, node: yaml.Node, path: Path, *known: str) -> None:
        if node.tag.removeprefix(_PREFIX) not in known:
            shown = "this" if holds_secret(path) else node.tag.replace(_PREFIX, "!!")
            message = f"YAML tags such as {shown} are not supported: put texts that begin with ! in quotes"
            self.tree.findings.add(path, message)

    def _mapping(self, node: yaml.MappingNode, path: Path, found: dict[str, Any]) -> dict[str, Any]:
        """Adds to `found` what is missing there: the mapping's own keys, then those of merged ones (`<<: *name`)."""
        merged, own = list[yaml.Node](), dict[str, int]()
        for key, value in node.value:
            mark = Mark(key.start_mark.line + 1, key.start_mark.column + 1)
            if isinstance(key, yaml.ScalarNode):
                key.value = key.value.translate(_SHOW)
            if not isinstance(key, yaml.ScalarNode) or not key.value:
                self.tree.findings.add((*path, "?"), "keys must be text", mark)
            elif key.value in own:
                message = f"duplicate key, first on line {own[key.value]}"
                self.tree.findings.add((*path, key.value), message, mark)
            else:
                own[key.value] = mark.line
                if key.tag == f"{_PREFIX}merge":
                    merged += value.value if isinstance(value, yaml.SequenceNode) else [value]
                elif key.value not in found:
                    found[key.value] = self.value(value, (*path, key.value), key)
        for below in merged:
            if isinstance(below, yaml.MappingNode):
                self._mapping(below, path, found)
            else:
                mark = Mark(below.start_mark.line + 1, below.start_mark.column + 1)
                self.tree.findings.add((*path, "<<"), "<< can merge only mappings", mark)
        return found

    def _scalar(self, node: yaml.ScalarNode) -> tuple[Any, Kind]:
        """A scalar by YAML's rules, but numbers only in plain decimal notation (`1e3` included), and dates as text."""
        tag, text = node.tag.removeprefix(_PREFIX), node.value
        if node.style is not None or tag in ("timestamp", "value"):
            return text, "text"
        if _INTEGER.fullmatch(text):
            return (int(text), "a number") if tag != "str" else (text, "text")
        if _DECIMAL.fullmatch(text) and tag != "int":
            return float(text), "a number"
        if tag in ("int", "float"):
            return _AMBIGUOUS, "a number"
        if tag == "null":
            return None, "nothing"
        if tag == "bool":
            return text.lower() in _TRUE, "true or false"
        return text, "text"


_AMBIGUOUS: Final = object()
