"""Validates plain data into typed settings: pydantic errors become our problems, invalid parts are removed."""

from collections.abc import Mapping
from typing import Any, Final, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from proxy.settings.problems import Findings, Mark, Path, holds_secret, one_of, suggestion, suggestion_or_all
from proxy.settings.routes import TargetSettings
from proxy.settings.schema import Settings

DROPPED: Final = object()
"""Takes the place of an invalid list item, so that the others keep their index."""

_EXPECTED: Final = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "mapping_type": "a mapping",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}
_TARGET: Final = "an upstream, upstream/model or a mapping"
_BOUNDS: Final = {
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "less than {lt:g}",
    "less_than_equal": "at most {le:g}",
}
_CONSEQUENCES: Final = frozenset({"missing", "too_short"})  # caused by the removal of an invalid part


def shape(data: Any, findings: Findings) -> Settings | None:
    """The settings in `data`. Invalid values are findings, and are removed from `data`.

    None: nothing usable is left, since `upstreams` or everything is missing.
    """
    while True:
        try:
            return Settings.model_validate(_kept(data))
        except ValidationError as error:
            details = error.errors(include_url=False)
        details.sort(key=lambda detail: detail["type"] in _CONSEQUENCES)
        # All paths are computed before anything is removed, which would shift them.
        paths = [_written(original(detail["loc"], data), detail["type"], findings) for detail in details]
        for detail, path in zip(details, paths, strict=True):
            if detail["type"] not in _CONSEQUENCES or not findings.inside(path):
                findings.add(path, _message(detail, path, findings.mark(path)))
            if not drop(data, path[:-1] if detail["type"] == "missing" else path):
                return None


def drop(data: Any, path: Path) -> bool:
    """Removes one value from nested dicts and lists; False if there is none, or it is the whole."""
    if not path:
        return False
    for step in path[:-1]:
        if not _holds(data, step):
            return True  # already removed with its parent
        data = data[step]
    if isinstance(data, dict):
        data.pop(path[-1], None)
    elif _holds(data, path[-1]):
        data[path[-1]] = DROPPED
    return True


def original(path: Path, data: Any) -> Path:
    """A path in what `shape` kept, as a path in the file."""
    found: Path = ()
    for step in path:
        if isinstance(step, int):
            if not isinstance(data, list):
                continue  # one target in place of a list of one
            step = [index for index, item in enumerate(data) if item is not DROPPED][step]
        found += (step,)
        data = data[step] if _holds(data, step) else None
    return found


def _holds(data: Any, step: str | int) -> bool:
    if isinstance(data, list):
        return isinstance(step, int) and step < len(data)
    return isinstance(data, dict) and step in data


def _kept(data: Any) -> Any:
    """A copy without removed items."""
    if isinstance(data, dict):
        return {key: _kept(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_kept(item) for item in data if item is not DROPPED]
    return data


def _written(path: Path, kind: str, findings: Findings) -> Path:
    """The part of pydantic's location that is written in the file; for a missing key, its parent."""
    length = next((length for length in range(len(path), 0, -1) if path[:length] in findings.marks), 0)
    return path[: length + 1] if kind == "missing" else path[:length]


def _message(detail: ErrorDetails, path: Path, mark: Mark) -> str:
    """One pydantic error in our words."""
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "missing":
        return "this key is required"
    if kind == "extra_forbidden":
        known = keys_at(path[:-1])
        return "unknown key" + suggestion_or_all(str(path[-1]), known)
    if kind == "literal_error":
        names = sorted(part.strip("'") for part in context["expected"].replace(" or ", ", ").split(", "))
        return f"{one_of(names)}, {got(path, mark)}{suggestion(mark.written, names)}"
    if kind == "value_error":
        message = str(context["error"])
        of_key = detail["loc"][-1:] == ("[key]",)  # the path shows it, and `mark` is of the value
        hidden = mark.kind == "text" and holds_secret(path)
        if of_key or hidden or not message.startswith("expected"):
            return message
        return f"{message}, {got(path, mark)}"
    if kind in _BOUNDS:
        return f"expected {_BOUNDS[kind].format(**context)}, {got(path, mark)}"
    if kind in ("too_short", "string_too_short"):
        return "must not be empty"
    expected = _TARGET if context.get("class_name") == TargetSettings.__name__ else _EXPECTED.get(kind)
    if expected is None:
        return f"{detail['msg']}, {got(path, mark)}"
    as_text = expected in ("text", _TARGET)
    hint = ": put it in quotes" if as_text and mark.kind in ("a number", "true or false") else ""
    return f"expected {expected}, {got(path, mark)}{hint}"


def got(path: Path, mark: Mark) -> str:
    """`got "opnai"`: a value as written; only its type if it may be a secret."""
    shown = mark.written if len(mark.written) <= 60 else f"{mark.written[:57]}..."
    if mark.kind in ("nothing", "a list", "a mapping") or holds_secret(path):
        return f"got {mark.kind}"
    if mark.kind == "true or false" and shown.lower() not in ("true", "false"):
        return f"got {shown}, which YAML reads as {'true' if shown.lower() in ('yes', 'on') else 'false'}"
    return f"got {shown}" if mark.kind != "text" else f'got "{shown}"'


def keys_at(path: Path) -> list[str]:
    """The keys that the mapping at `path` may have."""
    model: type[BaseModel] | None = Settings
    inside: Any = None
    for step in path:
        if model is not None and isinstance(step, str) and step in model.model_fields:
            inside = model.model_fields[step].annotation
            # Names in a mapping and list indexes are path steps of their own.
            model = None if _is_collection(inside) else _model(inside)
        else:
            model = _model(inside)
    model = model or _model(inside)  # one target in place of a list
    return sorted(model.model_fields) if model else []


def _is_collection(annotation: Any) -> bool:
    return get_origin(annotation) in (Mapping, tuple) or any(map(_is_collection, get_args(annotation)))


def _model(annotation: Any) -> type[BaseModel] | None:
    """The model inside an annotation such as `Mapping[str, X] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for part in get_args(annotation) if (model := _model(part))), None)
