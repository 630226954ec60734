"""Does the sink's store keep one commit per number? Asked once per run, before anything is committed.

delta-rs commits with `If-None-Match: *`, and two runs are kept apart by nothing else. Some S3 servers answer 200 to it
and overwrite what is there (measured: rclone, JuiceFS gateway, s3rver). Local disks, Google's and Azure's own protocols
have had such a write from their beginning and are not asked.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from botocore.exceptions import BotoCoreError
from botocore.exceptions import ClientError as S3Error
from fsspec import AbstractFileSystem

from w2vb_ray import storage
from w2vb_ray.embed.tables import first_line
from w2vb_ray.errors import SinkError

_ATTEMPTS = 5
_REFUSALS = (409, 412)  # a conflict with a write at the same time, a condition that does not hold


def check_conditional_put(sink_uri: str, options: Mapping[str, Any], run_id: str) -> None:
    """Create the same small object twice: the second must be refused.

    Raises:
        SinkError: it was not, or the store does not let us write at all.
    """
    if not storage.is_s3(sink_uri):
        return
    fs = storage.filesystem(sink_uri, options)
    path = storage.fs_path(storage.join(sink_uri, "_runs", run_id, "probe"), fs)
    try:
        _create(fs, path)  # refused where it was there at once and the reply was lost: just as well
        refused = _create(fs, path)
    except (OSError, BotoCoreError) as err:
        raise SinkError(f"`sink.uri`: {sink_uri} cannot be written to ({first_line(err)})") from err
    with suppress(OSError, BotoCoreError):  # an empty object in the run's folder is no harm, where we may not delete
        fs.rm_file(path)
    if not refused:
        raise SinkError(
            f"the store of `sink.uri` ({sink_uri}) ignores conditional writes (a PUT with If-None-Match overwrote an "
            "object), so two runs could destroy each other's commits; use another store, or set "
            "sink.single_writer=true if never more than one run at a time writes to these tables"
        )


def _create(fs: AbstractFileSystem, path: str) -> bool:
    """Whether the store refused to create the object because it is there."""
    for attempt in range(_ATTEMPTS):  # on top of s3fs's own
        try:
            fs.pipe_file(path, b"", mode="create")
        except FileExistsError:
            return True
        except (OSError, BotoCoreError) as err:
            if _status(err) in _REFUSALS:  # s3fs has no one type for it
                return True
            if attempt == _ATTEMPTS - 1 or isinstance(err, FileNotFoundError | PermissionError):
                raise
        else:
            return False
    raise AssertionError("the last attempt returns or raises")


def _status(err: BaseException) -> int | None:
    cause = err.__cause__
    return cause.response["ResponseMetadata"].get("HTTPStatusCode") if isinstance(cause, S3Error) else None
