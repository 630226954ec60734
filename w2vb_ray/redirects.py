"""An HTTP server is asked for what a URL says, and not followed to where it points instead.

A manifest's URL is checked against `source.allowed_uris` before it is opened; a redirect could lead from there to any
address that this machine reaches.
"""

from collections.abc import Mapping
from typing import Any

from aiohttp import ClientResponse


def without_redirects(options: Mapping[str, Any]) -> dict[str, Any]:
    """fsspec options of an HTTP store that refuse redirects, unless they say `allow_redirects: true` themselves."""
    if options.get("allow_redirects"):
        return dict(options)
    client = {"raise_for_status": _refuse, **(options.get("client_kwargs") or {})}
    return {**options, "allow_redirects": False, "client_kwargs": client}


async def _refuse(response: ClientResponse) -> None:
    if 300 <= response.status < 400:
        raise PermissionError(f"{response.url} redirects to {response.headers.get('Location')}, which is not followed")
