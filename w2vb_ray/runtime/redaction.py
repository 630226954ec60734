"""Standard output and error that never show a secret of the config, whoever writes to them."""

import sys
from typing import Any, TextIO, cast

from w2vb_ray.config.secrets import redact


class RedactingStream:
    """A text stream that masks the secrets of every loaded config in what passes through."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write the text without the secrets; returns the length of the text as given."""
        self._stream.write(redact(text))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def redact_output() -> None:
    """Put a redacting stream before standard output and error of this process."""
    sys.stdout = cast(TextIO, RedactingStream(sys.stdout))
    sys.stderr = cast(TextIO, RedactingStream(sys.stderr))
