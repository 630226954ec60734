"""Turns what a store refuses into one message about `source.uri`, with the next step."""

from collections.abc import Generator
from contextlib import contextmanager

from botocore.exceptions import BotoCoreError, ClientError

from w2vb_ray.errors import SourceError


@contextmanager
def readable(uri: str) -> Generator[None, None, None]:
    """Errors of the store inside the block become a `SourceError` that names the URI."""
    try:
        yield
    except FileNotFoundError as err:
        raise not_found(uri) from err
    except PermissionError as err:
        raise SourceError(
            f"`source.uri`: access to {uri} is denied ({err}); check the credentials and `source.storage`."
        ) from err
    except (OSError, ValueError, BotoCoreError, ClientError) as err:  # ValueError: a name the store does not allow
        raise SourceError(
            f"`source.uri`: {uri} cannot be read ({err}); check the address and `source.storage`."
        ) from err


def not_found(uri: str) -> SourceError:
    """The error for a place with nothing in it."""
    return SourceError(
        f"`source.uri`: {uri} does not exist or is empty; check the spelling and, for a store, `source.storage`."
    )
