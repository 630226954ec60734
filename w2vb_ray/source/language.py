"""`source.language`: a constant, a column or a path template -> one language per utterance.

Languages are names, never values: `nan` is Min Nan Chinese and `no` is Norwegian.
"""

import re

import pyarrow as pa

from w2vb_ray.arrow import pc
from w2vb_ray.errors import ConfigError
from w2vb_ray.source.columns import COLUMN
from w2vb_ray.source.rows import Column, Rows
from w2vb_ray.source.storable import as_text

UNKNOWN = "und"
PATH = "path:"
_PIECE = re.compile(r"\{([^{}]*)\}|(\*)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def resolve(spec: str | None, rows: Rows) -> tuple[Column, pa.Table]:
    """One language per row (never null or empty; `und` if unknown), and what else a path template captured.

    Raises:
        ConfigError: a malformed path template.
    """
    nothing = pa.table({})
    num_rows = len(rows.audio_uri)
    if spec is not None and spec.startswith(PATH):
        captured = _capture(spec.removeprefix(PATH), rows)
        return clean(captured["language"]), captured.drop_columns(["language"])
    if spec is not None and not spec.startswith(COLUMN):
        return pa.repeat(spec.strip() or UNKNOWN, num_rows), nothing
    column = rows.fields.get("language")
    return (pa.repeat(UNKNOWN, num_rows) if column is None else clean(as_text(column))), nothing


def clean(languages: Column) -> Column:
    """Strings without surrounding blanks; `und` for null and empty ones."""
    trimmed = pc.fill_null(pc.utf8_trim_whitespace(languages), "")
    return pc.if_else(pc.equal(trimmed, ""), UNKNOWN, trimmed)


def _capture(template: str, rows: Rows) -> pa.Table:
    """The named parts of each path, as string columns; null where the path does not fit the template."""
    pattern, names = compile_template(template)
    prefix = re.escape(rows.root.rstrip("/") + "/")
    parts = pc.extract_regex(rows.paths, f"^{prefix}{pattern}")
    return pa.table({name: pc.struct_field(parts, [name]) for name in names})


def compile_template(template: str) -> tuple[str, list[str]]:
    """`*/{language}/` -> an RE2 pattern for the start of a path relative to the source, and the names it captures.

    Every part between slashes is one folder; `*` stands for any text and `{name}` captures one, both without slashes.

    Raises:
        ConfigError: no `{language}`, or a name that is repeated or cannot be a column.
    """
    key = f"`source.language` is `path:{template}`"
    names = [match[1] for match in _PIECE.finditer(template) if match[2] is None]
    if "language" not in names:
        raise ConfigError(f"{key}, but has no `{{language}}`; write for example `path:{{language}}/`.")
    for name in names:
        if not _NAME.fullmatch(name) or names.count(name) > 1:
            raise ConfigError(f"{key}, but `{{{name}}}` must be a name of letters, digits and `_`, used once.")
    return _pattern(template.strip("/")) + "/", names


def _pattern(template: str) -> str:
    pattern, end = "", 0
    for match in _PIECE.finditer(template):
        pattern += re.escape(template[end : match.start()])
        pattern += "[^/]*" if match[2] else f"(?P<{match[1]}>[^/]+?)"
        end = match.end()
    return pattern + re.escape(template[end:])
