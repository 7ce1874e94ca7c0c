"""From YAML and ``key=value`` overrides to a `TrainConfig`, with errors that say where and what is expected."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from retouch_agents.finetuning import FineTuning
from retouch_agents.tiny import TinySize
from retouch_agents.training.config import (
    EnvironmentConfig,
    LoggingConfig,
    ModelConfig,
    RayConfig,
    RLStage,
    SFTStage,
    TrainConfig,
)
from retouch_agents.training.yaml_source import Path as KeyPath
from retouch_agents.training.yaml_source import read_yaml
from retouch_gym.errors import ConfigurationError

_HERE = Path(__file__).parent
_FOLDERS = (_HERE / "configs", _HERE.parents[2] / "examples" / "configs")
_ADAPTER = TypeAdapter(TrainConfig)
_SECTIONS: Mapping[str, Any] = {
    "model": ModelConfig,
    "environment": EnvironmentConfig,
    "ray": RayConfig,
    "logging": LoggingConfig,
}
_INSIDE: Mapping[KeyPath, Any] = {("model", "tiny"): TinySize, ("model", "tuning"): FineTuning}
COMMAND_LINE = "command line"
_CLEARER: Mapping[str, str] = {
    "too_short": "should not be empty",
    "string_pattern_mismatch": "should be lower-case letters, digits and underscores",
}
"""What pydantic says in words of its own."""


@lru_cache
def shipped() -> dict[str, Path]:
    """The configurations that come with the project, by name."""
    folder = next((folder for folder in _FOLDERS if folder.is_dir()), _FOLDERS[0])
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find_config(name: str) -> Path:
    """The file of a path, or of the name of a shipped configuration.

    Raises:
        ConfigurationError: If there is none.
    """
    path = Path(name)
    if path.is_file():
        return path
    if name in shipped():
        return shipped()[name]
    near = get_close_matches(name, shipped(), n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ConfigurationError(
        f"There is no configuration {name!r}.{hint} Give the path of a YAML file, or one of: {', '.join(shipped())}."
    )


@dataclass(frozen=True)
class Document:
    """A configuration before it is checked.

    Args:
        name: The file's.
        data: What it says, overrides folded in.
        places: Where each value stands, in words.
    """

    name: str
    data: dict[str, Any]
    places: Mapping[KeyPath, str]

    def place(self, path: KeyPath) -> str:
        """Where the value at `path`, or the nearest above it, stands; and whether the command line changed it."""
        known = [self.places[path[:end]] for end in range(len(path), 0, -1) if path[:end] in self.places]
        found = known[0] if known else self.name
        inside = any(where == COMMAND_LINE and at[: len(path)] == path for at, where in self.places.items())
        return f"{found} and {COMMAND_LINE}" if inside and found != COMMAND_LINE else found


def read_config(path: str | Path, overrides: Iterable[str] = ()) -> TrainConfig:
    """Read a configuration.

    Args:
        path: YAML file, or the name of a shipped configuration.
        overrides: ``"key.path=value"``, the value as in YAML. A stage may be named without ``stages.`` in front;
            ``stage=null`` takes it out.

    Raises:
        ConfigurationError: With file and line, key, value and what is expected.
    """
    file = find_config(str(path))
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"Cannot read {str(file)!r}: {error}") from error
    return parse_config(text, str(file), overrides)


def parse_config(text: str, name: str, overrides: Iterable[str] = ()) -> TrainConfig:
    """The configuration in a YAML text; see `read_config`."""
    data, lines = read_yaml(text, name)
    if not isinstance(data, dict):
        raise ConfigurationError(f"{name}: found {_shown(data)}, expected keys such as model:, stages:, output:.")
    document = Document(name, data, {path: f"{name}, line {line}" for path, line in lines.items()})
    for override in overrides:
        document = _overridden(document, override)
    stages = document.data.get("stages")
    if isinstance(stages, dict):
        kept = {name: stage for name, stage in stages.items() if stage is not None}
        document = Document(document.name, {**document.data, "stages": kept}, document.places)
    return _checked(document)


def write_config(config: TrainConfig) -> str:
    """The configuration as YAML, every default written out; `parse_config` reads it back."""
    text: str = yaml.safe_dump(_ADAPTER.dump_python(config, mode="json"), sort_keys=False, width=120)
    return text


def _overridden(document: Document, override: str) -> Document:
    key, found, text = override.partition("=")
    names = key.strip().split(".")
    if not found or not all(names):
        raise ConfigurationError(f"{COMMAND_LINE}: {override!r} should be key=value, for instance rl.lr=1e-5.")
    top = [field.name for field in fields(TrainConfig)]
    stages = list(document.data.get("stages") or {})
    if names[0] not in top:
        if names[0] not in stages:
            near = get_close_matches(names[0], [*top, *stages], n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ConfigurationError(
                f"{COMMAND_LINE}: {override!r}: no key {names[0]!r}.{hint} Known: {', '.join([*top, *stages])}."
            )
        names = ["stages", *names]
    value, _ = read_yaml(text, f"{COMMAND_LINE}: {override!r}")
    data = _with(document.data, names, value, override)
    return Document(document.name, data, {**document.places, tuple(names): COMMAND_LINE})


def _with(data: Mapping[str, Any], names: Sequence[str], value: Any, override: str) -> dict[str, Any]:
    head, *rest = names
    if not rest:
        return {**data, head: value}
    inner = data.get(head)
    if inner is not None and not isinstance(inner, Mapping):
        raise ConfigurationError(f"{COMMAND_LINE}: {override!r}: {head!r} is {_shown(inner)} and has no keys in it.")
    return {**data, head: _with(inner or {}, rest, value, override)}


def _checked(document: Document) -> TrainConfig:
    try:
        # As JSON, so that a list may stand for a tuple and a text for a path, and nothing else for anything else.
        return _ADAPTER.validate_json(json.dumps(document.data))
    except ValidationError as error:
        problems = [_describe(document, found) for found in error.errors(include_url=False)]
        raise ConfigurationError("; ".join(dict.fromkeys(problems)) + ".") from None


def _describe(document: Document, error: Mapping[str, Any]) -> str:
    path = _key_path(document, error["loc"])
    key = ".".join(map(str, path)) or "the configuration"
    place = document.place(path)
    if error["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        known = _fields_at(document, path[:-1])
        near = get_close_matches(str(path[-1]), known, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        return f"{place}: unknown key {key}{hint}, expected one of {', '.join(known)}"
    if error["type"] in ("missing", "missing_argument", "missing_keyword_only_argument"):
        return f"{place}: {key} is missing"
    message = str(error["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    if not path:
        return f"{place}: {message}"
    message = _CLEARER.get(error["type"], message)
    if error["type"] == "value_error":
        return f"{place}: {key} {message}"
    return f"{place}: {key} = {_shown(error['input'])} {message}"


def _key_path(document: Document, loc: Sequence[str | int]) -> KeyPath:
    """The keys of an error, without the names that pydantic puts between them."""
    if loc[:1] == ("stages",) and len(loc) > 2:
        return ("stages", loc[1], *loc[3:]) if loc[2] != "[key]" else ("stages", loc[1])
    return tuple(loc)


def _type_at(document: Document, path: KeyPath) -> Any:
    if not path:
        return TrainConfig
    if path[0] == "stages" and len(path) == 2:
        stage = document.data.get("stages", {}).get(path[1])
        return SFTStage if isinstance(stage, Mapping) and stage.get("algorithm") == "sft" else RLStage
    if path in _INSIDE:
        return _INSIDE[path]
    return _SECTIONS.get(str(path[0])) if len(path) == 1 else None


def _fields_at(document: Document, path: KeyPath) -> list[str]:
    kind = _type_at(document, path)
    return [field.name for field in fields(kind)] if kind is not None else []


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "…"
