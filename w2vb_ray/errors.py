"""Every exception the package raises on purpose, and the closed list of reject reasons.

W2vbError
├── UserError              exit 2: a message for the person at the keyboard, no traceback
│   ├── ConfigError        a key, a value or a combination of them
│   ├── SourceError        the source as a whole cannot be read
│   ├── CheckpointError    the checkpoint cannot be loaded
│   ├── SinkError          the tables cannot be used for this run
│   └── ClusterError       the cluster cannot hold the job
├── TableHeld              exit 4: another run holds the tables
├── NotReconciled          exit 5: input != embedded + rejected + unchanged
└── AudioRejected          one utterance; becomes a row of the `rejects` table
"""

from enum import IntEnum, StrEnum


class ExitCode(IntEnum):
    """Process exit codes of every job; any other failure is 1, with a traceback."""

    DONE = 0
    USER_ERROR = 2
    TABLE_HELD = 4
    NOT_RECONCILED = 5
    NOT_ACCEPTED = 5  # of the export job
    TOO_MANY_REJECTS = 6
    INTERRUPTED = 7


class RejectReason(StrEnum):
    """Why an utterance has no embedding. The vocabulary is closed: readers filter on it."""

    MISSING = "missing"
    """The object does not exist."""
    UNREADABLE = "unreadable"
    """The store would not give the object (permissions, I/O errors after retries); tried again by the next run."""
    CHANGED = "changed"
    """The object is not the one that was planned; tried again by the next run."""
    EMPTY = "empty"
    """Zero bytes, or a container with no samples."""
    UNDECODABLE = "undecodable"
    """No decoder takes it, or it holds no audio stream."""
    TRUNCATED = "truncated"
    """It announces more audio than it holds."""
    TOO_LARGE = "too_large"
    """More bytes than `audio.max_bytes`."""
    TOO_SHORT = "too_short"
    """Under 25 ms, the length of one analysis window."""
    TOO_LONG = "too_long"
    """Longer than `audio.max_duration_s`."""
    OUT_OF_RANGE = "out_of_range"
    """A channel count or sampling rate beyond the limits of the `audio` section."""
    NON_FINITE = "non_finite"
    """NaN or infinite samples."""
    BAD_SEGMENT = "bad_segment"
    """`[start_s, end_s)` is empty, reversed, or outside the recording."""
    DUPLICATE_ID = "duplicate_id"
    """An earlier row of the same source has this utterance id."""
    EXPANSION = "expansion"
    """It decodes to more than `audio.max_expansion` times its own bytes."""
    DECODER_CRASH = "decoder_crash"
    """The process that decoded it died of it."""
    DECODER_LIMIT = "decoder_limit"
    """Decoding it takes more memory or time than the `audio.decoder_*` limits."""
    WORKER_CRASH = "worker_crash"
    """The worker that read or encoded it died or hung each time, in the end with nothing else at work."""
    FORBIDDEN = "forbidden"
    """Its URI is outside `source.allowed_uris`, or it is a command; nothing of it was opened or run."""


RETRIED_REASONS = frozenset({RejectReason.UNREADABLE, RejectReason.CHANGED})
"""Rejects that say something about the moment, not about the recording: every run plans them again."""


class W2vbError(Exception):
    """Base of all exceptions raised on purpose by this package."""


class UserError(W2vbError):
    """Bad configuration or input: one clear message, exit code 2."""


class ConfigError(UserError):
    """A configuration key, value or combination is wrong."""


class SourceError(UserError):
    """The source as a whole cannot be read (a bad single recording is an `AudioRejected`)."""


class CheckpointError(UserError):
    """The checkpoint cannot be loaded."""


class SinkError(UserError):
    """The tables under `sink.uri` cannot be used for this run."""


class ClusterError(UserError):
    """The Ray cluster cannot hold the job."""


class TableHeld(W2vbError):
    """Another run holds the tables under `sink.uri`, or trains in `pretrain.uri`."""


class NotReconciled(W2vbError):
    """The tables do not hold exactly what was planned."""


class AudioRejected(W2vbError):
    """One utterance cannot be embedded.

    Args:
        reason: one of the closed vocabulary.
        detail: free text for a person, with the numbers that decided.
    """

    def __init__(self, reason: RejectReason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type["AudioRejected"], tuple[RejectReason, str]]:
        """Exceptions cross process borders by pickling their two fields, not the formatted text."""
        return type(self), (self.reason, self.detail)
