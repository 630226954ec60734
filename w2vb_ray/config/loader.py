"""A YAML file and `section.key=value` overrides -> a validated, frozen config; every complaint in one message."""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from w2vb_ray.config import yaml12
from w2vb_ray.config.secrets import masked, remember
from w2vb_ray.config.section import Section
from w2vb_ray.errors import ConfigError

ConfigT = TypeVar("ConfigT", bound=Section)


def load_config(config_type: type[ConfigT], path: str, overrides: Sequence[str] = ()) -> ConfigT:
    """Read a config file and apply overrides.

    Args:
        config_type: the job's config.
        path: YAML file; names only what differs from the defaults.
        overrides: `section.key=value`; the value is YAML, so `layers=[4, 8]` and `language=no` mean what they say.

    Raises:
        ConfigError: unreadable file, unknown key (with the nearest known one), bad value. Names all of them.
    """
    values = _read(Path(path))
    for override in overrides:
        _apply(values, override)
    remember(values)
    try:
        return config_type.model_validate(values)
    except ValidationError as err:
        raise ConfigError("\n".join(_describe(config_type, dict(error)) for error in err.errors())) from err


def show_config(config: Section) -> str:
    """The whole merged config as YAML, secrets masked."""
    return yaml12.dump(masked(config.model_dump(mode="json")))


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as err:
        raise ConfigError(f"cannot read the config file {path}: {err.strerror}; give the path of a YAML file") from err
    except UnicodeDecodeError as err:
        raise ConfigError(f"the config file {path} is not UTF-8 text; save it as UTF-8") from err
    try:
        values = yaml12.parse(text)
    except yaml.YAMLError as err:
        raise ConfigError(f"{path} is not YAML: {_complaint(err)}") from err
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold sections (a mapping), but holds a {type(values).__name__}")
    return values


def _complaint(err: yaml.YAMLError) -> str:
    """What is wrong and where, without the text around it, which may be a secret."""
    mark = err.problem_mark if isinstance(err, yaml.MarkedYAMLError) else None
    if not isinstance(err, yaml.MarkedYAMLError) or mark is None:
        return str(err)
    return f"{err.problem} (line {mark.line + 1}, column {mark.column + 1})"


def _apply(values: dict[str, Any], override: str) -> None:
    dotted, equals, text = override.partition("=")
    *sections, key = dotted.split(".")
    if not equals or not all([*sections, key]):
        shown = re.split(r"[^\w.\-]", override)[0]  # what follows may be a secret
        raise ConfigError(f"{shown!r} is not an override; write section.key=value, for example encoder.device=cpu")
    node = values
    for section in sections:
        child = node.setdefault(section, {})
        if child is None:
            child = node[section] = {}
        if not isinstance(child, dict):
            raise ConfigError(f"{dotted}: {section!r} is a value, not a section; it has no {key!r}")
        node = child
    try:
        node[key] = yaml12.parse(text)
    except yaml.YAMLError:
        node[key] = text  # `source.uri=[a*].wav` is a path, not a broken list


def _describe(config_type: type[BaseModel], error: dict[str, Any]) -> str:
    location = [str(part) for part in error["loc"]]
    name = ".".join(location)
    if error["type"] == "extra_forbidden":
        return f"{name}: unknown option{_did_you_mean(config_type, location)}"
    if error["type"] == "missing":
        return f"{name}: required; set it in the config file or give {name}=… on the command line"
    message = str(error["msg"]).removeprefix("Value error, ")
    if not location:
        return message
    shown = masked({location[-1]: error["input"]}, secret="storage" in location)[location[-1]]
    return f"{name}: {message[0].lower()}{message[1:]}, but is {shown!r}"


def _did_you_mean(config_type: type[BaseModel], location: list[str]) -> str:
    """Look for the misspelt key in its own section first, then anywhere."""
    section = config_type
    for part in location[:-1]:
        annotation = section.model_fields[part].annotation
        section = next(
            t for t in (annotation, *get_args(annotation)) if isinstance(t, type) and issubclass(t, BaseModel)
        )
    near = difflib.get_close_matches(location[-1], section.model_fields, n=1)
    if near:
        return f"; did you mean {'.'.join([*location[:-1], near[0]])!r}?"
    everywhere = {key: f"{name}.{key}" for name, key in _all_keys(config_type)}
    near = difflib.get_close_matches(location[-1], everywhere, n=1)
    if near:
        return f"; did you mean {everywhere[near[0]]!r}?"
    return f"; known here: {', '.join(section.model_fields)}"


def _all_keys(config_type: type[BaseModel]) -> list[tuple[str, str]]:
    sections = [(name, field.annotation) for name, field in config_type.model_fields.items()]
    return [
        (name, key)
        for name, section in sections
        if isinstance(section, type) and issubclass(section, BaseModel)
        for key in section.model_fields
    ]
