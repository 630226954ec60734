"""Turns what a store refuses into one message about `source.uri`, with the next step."""

from collections.abc import Generator
from contextlib import contextmanager

from botocore.exceptions import BotoCoreError, ClientError

from w2vb_ray.errors import SourceError


@contextmanager
def readable(uri: str, key: str = "`source.uri`") -> Generator[None, None, None]:
    """Errors of the store inside the block become a `SourceError` that names the URI and the key it comes from."""
    try:
        yield
    except FileNotFoundError as err:
        raise not_found(uri, key) from err
    except PermissionError as err:
        raise SourceError(
            f"{key}: access to {uri} is denied ({err}); check the credentials and `source.storage`."
        ) from err
    except (OSError, ValueError, BotoCoreError, ClientError) as err:  # ValueError: a name the store does not allow
        raise SourceError(f"{key}: {uri} cannot be read ({err}); check the address and `source.storage`.") from err


class NothingThere(SourceError):
    """A place with nothing in it, whatever it was to be read as."""


def not_found(uri: str, key: str = "`source.uri`") -> NothingThere:
    """The error for a place with nothing in it."""
    return NothingThere(
        f"{key}: {uri} does not exist or is empty; check the spelling and, for a store, `source.storage`."
    )
