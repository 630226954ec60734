"""fsspec options of an S3 store -> arguments of s3fs, and of delta-rs. Knows neither's filesystem."""

import inspect
import os
from collections.abc import Mapping
from typing import Any, cast

import fsspec
from fsspec import AbstractFileSystem

from w2vb_ray.errors import ConfigError

_MORE = {
    "region",
    "profile",
    "use_listings_cache",
    "listings_expiry_time",
    "max_paths",
    "skip_instance_cache",
}
# botocore's 10 connections would make the threads of a reader wait for each other. Its standard retries take on what
# passes by itself (500, 502, 503, 504, SlowDown, resets, timeouts) with jitter and a budget, without which its legacy
# ones, the default, do. s3fs starts them anew, up to five times, where a timeout or SlowDown outlasts them.
_CLIENT: dict[str, Any] = {
    "max_pool_connections": 32,
    "connect_timeout": 5,
    "read_timeout": 5,  # between two bytes: a store that hangs is asked again
    "retries": {"mode": "standard", "total_max_attempts": 5},
}


def for_s3fs(uri: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of `s3fs.S3FileSystem`; `region` is understood beside its own.

    Raises:
        ConfigError: an option that s3fs does not know: it would hand it to botocore, which trips over it only at the
            first request.
    """
    driver = cast(type[AbstractFileSystem], fsspec.get_filesystem_class("s3"))
    known = {*inspect.signature(driver.__init__).parameters} - {"self", "kwargs"} | _MORE
    if unknown := sorted(set(options) - known):
        raise ConfigError(f"`{uri}`: unknown storage options {unknown}; S3 takes {', '.join(sorted(known))}.")
    arguments = {key: value for key, value in options.items() if key != "region"}
    if "region" in options:
        arguments["client_kwargs"] = {"region_name": options["region"], **(options.get("client_kwargs") or {})}
    if endpoint := _endpoint(options):  # from the environment too, else instances of two endpoints would be one
        arguments["endpoint_url"] = endpoint
    arguments["config_kwargs"] = _client(options)
    return arguments


def for_delta(options: Mapping[str, Any]) -> dict[str, Any]:
    """`storage_options` of delta-rs, with the endpoint of the environment, which it would not call by http."""
    client = cast(Mapping[str, Any], options.get("client_kwargs") or {})
    endpoint, timeout_s = _endpoint(options), _client(options)["read_timeout"]
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": True if (endpoint or "").startswith("http://") else None,
        "AWS_ACCESS_KEY_ID": options.get("key") or client.get("aws_access_key_id"),
        "AWS_SECRET_ACCESS_KEY": options.get("secret") or client.get("aws_secret_access_key"),
        "AWS_SESSION_TOKEN": options.get("token") or client.get("aws_session_token"),
        "AWS_REGION": client.get("region_name") or options.get("region"),
        "AWS_PROFILE": options.get("profile"),
        "AWS_SKIP_SIGNATURE": True if options.get("anon") else None,
        "TIMEOUT": timeout_s and f"{timeout_s}s",  # of a whole request; the files of the log are small
        "AWS_CONDITIONAL_PUT": "etag",  # whatever the environment says: it is the fence between two runs
    }


def _client(options: Mapping[str, Any]) -> dict[str, Any]:
    return {**_CLIENT, **(options.get("config_kwargs") or {})}


def _endpoint(options: Mapping[str, Any]) -> str | None:
    client = cast(Mapping[str, Any], options.get("client_kwargs") or {})
    given = options.get("endpoint_url") or client.get("endpoint_url")
    return given or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
