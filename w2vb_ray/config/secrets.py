"""Secrets given in `*.storage` options: found by the names of their keys, masked wherever they could be shown."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

MASK = "***"
_SECRET_KEY = re.compile(
    r"secret|password|passwd|token|credential|signature|private|passphrase|(^|_)(key|sas|pwd)$|connection_string", re.I
)
_USER_INFO = re.compile(r"(?<=://)[^/\s]+:[^/\s]+(?=@)")


def masked(value: Any, *, secret: bool = False) -> Any:
    """Copy of a plain value (dicts, lists, scalars) with every secret replaced by `***`."""
    if isinstance(value, Mapping):
        return {key: masked(item, secret=secret or bool(_SECRET_KEY.search(str(key)))) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [masked(item, secret=secret) for item in value]
    if isinstance(value, str) and not secret:
        return _USER_INFO.sub(MASK, value)
    return MASK if secret and value is not None and not isinstance(value, bool) else value


def secrets_in(value: Any, *, secret: bool = False) -> Iterator[str]:
    """Every secret string in a plain value, for redacting free text such as exception messages."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from secrets_in(item, secret=secret or bool(_SECRET_KEY.search(str(key))))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from secrets_in(item, secret=secret)
    elif isinstance(value, int) and secret and value >= 1000:  # a PIN; smaller numbers are counts and switches
        yield str(value)
    elif isinstance(value, str):
        if secret and value:
            yield value
        else:
            yield from _USER_INFO.findall(value)


_known: set[str] = set()  # of every config this process has loaded


def remember(value: Any) -> None:
    """Have `redact` mask the secrets of these values from now on."""
    _known.update(secrets_in(value))


def redact(text: str) -> str:
    """The text without any remembered secret, longest first so that one that contains another leaves nothing behind."""
    for secret in sorted(_known, key=len, reverse=True):
        text = text.replace(secret, MASK)
    return text
