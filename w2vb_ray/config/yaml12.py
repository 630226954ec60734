"""YAML as people mean it: the YAML 1.2 core schema on top of PyYAML's 1.1 parser.

PyYAML reads `no` as False (it is Norwegian), `5e-05` as a string, `1:30` as 90 and `010` as 8. Here only
`true`/`false` are booleans, all JSON numbers are numbers, and a key that stands twice is an error instead of a
silent overwrite.
"""

import re
from collections.abc import Hashable
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """SafeLoader with the implicit types of YAML 1.2 instead of its own."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}


class _Dumper(yaml.SafeDumper):
    """SafeDumper that quotes strings which YAML 1.1 or 1.2 would read as something else."""


_WHOLE = r"(?:0|[1-9][0-9]*)"  # `010` is neither 8 nor 10: it stays text
_NUMBER = rf"(?:\.[0-9]+|{_WHOLE}(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", [*"tTfF"]),
    ("null", r"~|null|Null|NULL|", [*"~nN", ""]),
    ("int", rf"[-+]?{_WHOLE}", [*"-+0123456789"]),
    ("float", rf"[-+]?(?:{_NUMBER}|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN)", [*"-+0123456789."]),
):
    for _side in (_Loader, _Dumper):
        _side.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), _first)


def _mapping_without_duplicates(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, Hashable):
            raise yaml.constructor.ConstructorError(None, None, "a key must be a plain value", key_node.start_mark)
        if key in seen:
            raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands twice", key_node.start_mark)
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping_without_duplicates)


def parse(text: str) -> Any:
    """Parse one YAML document.

    Raises:
        yaml.YAMLError: the text is not YAML, or a mapping has a key twice.
    """
    return yaml.load(text, Loader=_Loader)


def dump(value: Any) -> str:
    """Write YAML that `parse` and YAML 1.1 readers read back equal (strings that look like other types are quoted)."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
