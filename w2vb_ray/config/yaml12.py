"""YAML as people mean it: the YAML 1.2 core schema on top of PyYAML's 1.1 parser.

PyYAML reads `no` as False (it is Norwegian), `5e-05` as a string, `1:30` as 90 and `010` as 8. Here only
`true`/`false` are booleans, all JSON numbers are numbers, and a key that stands twice is an error instead of a
silent overwrite.
"""

import re
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """SafeLoader with the implicit types of YAML 1.2."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9]*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"),
    list("-+0123456789."),
)


def _mapping_without_duplicates(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
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
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=120)
