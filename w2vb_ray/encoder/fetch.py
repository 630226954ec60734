"""Checkpoints from object stores and the hub to local folders. Clients are imported only when one is asked for."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, cast

from w2vb_ray.encoder.artifact import ARTIFACT
from w2vb_ray.errors import CheckpointError

_WANTED = (
    *("config.json", "preprocessor_config.json", "processor_config.json"),
    *("attention_pooling.json", ARTIFACT),
)
_VERSION_KEYS = ("ETag", "etag", "md5", "checksum", "LastModified", "mtime", "last_modified")


def cache_folder() -> Path:
    """`$W2VB_RAY_CACHE`, or `~/.cache/w2vb_ray`."""
    return Path(os.environ.get("W2VB_RAY_CACHE") or "~/.cache/w2vb_ray").expanduser()


def build_once(target: Path, build: Callable[[Path], None]) -> Path:
    """Fills `target` by calling `build` on a folder beside it and renaming: it exists whole or not at all.

    Safe for several processes: whoever is first wins, and what the others built is dropped.
    """
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        build(scratch)
        scratch.chmod(0o755)  # mkdtemp makes it private; the cache may be shared
        try:
            scratch.rename(target)
        except OSError:
            if not target.is_dir():
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def fetch_uri(uri: str, storage: dict[str, Any]) -> Path:
    """Downloads a checkpoint from any fsspec URI to the cache, once per version of its files.

    Args:
        uri: the folder, such as `s3://bucket/model`.
        storage: fsspec options of the store (`endpoint_url`, `anon`, …).

    Raises:
        CheckpointError: the store or the folder cannot be read.
    """
    import fsspec

    try:
        filesystem, root = fsspec.url_to_fs(uri, **storage)
        filesystem.invalidate_cache()
        listing: list[dict[str, Any]] = filesystem.ls(root, detail=True)
    except (OSError, ValueError, ImportError) as err:
        raise _unreadable(uri, err) from err
    files = {PurePosixPath(entry["name"]).name: entry for entry in listing if entry["type"] == "file"}
    of_artifact = _named_by(filesystem, files.get(ARTIFACT), uri)
    wanted = {name: files[name] for name in sorted(files) if _is_wanted(name) or name in of_artifact}
    if "config.json" not in wanted:
        raise CheckpointError(
            f"encoder.checkpoint must be a transformers checkpoint, but there is no config.json under '{uri}'; "
            "check the path"
        )

    def download(folder: Path) -> None:
        for name, entry in wanted.items():
            filesystem.get_file(entry["name"], str(folder / name))

    try:
        return build_once(cache_folder() / "checkpoints" / _version(uri, wanted), download)
    except OSError as err:
        raise _unreadable(uri, err) from err


def fetch_hub(name: str, revision: str | None) -> Path:
    """Downloads a checkpoint's JSON and safetensors files from the hub, or finds them in the hub's own cache.

    Honours `HF_HUB_OFFLINE`, `HF_HOME` and the hub's other variables.

    Raises:
        CheckpointError: there is no such model, or the hub cannot be reached.
    """
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=["*.json", "*.safetensors"]))
        if more := _files_of((folder / ARTIFACT).read_bytes() if (folder / ARTIFACT).is_file() else b"{}"):
            folder = Path(snapshot_download(name, revision=revision, allow_patterns=["*.json", "*.safetensors", *more]))
        return folder
    except (OSError, ValueError) as err:  # the hub's own errors are among these
        where = f"'{name}'" if revision is None else f"'{name}' at revision '{revision}'"
        raise CheckpointError(
            f"encoder.checkpoint must be a folder, a URI, a hub id or 'embedded', but {where} is no folder and the "
            f"hub did not give it ({_first_line(err)}); check the name, encoder.revision and the network"
        ) from err


def _named_by(filesystem: Any, artifact: dict[str, Any] | None, uri: str) -> list[str]:
    if artifact is None:
        return []
    try:
        return _files_of(filesystem.cat_file(artifact["name"]))
    except OSError as err:
        raise _unreadable(uri, err) from err


def _files_of(described: bytes) -> list[str]:
    """Files that an `artifact.json` names: graphs have other names than weights; nothing where it is damaged."""
    try:
        content: Any = json.loads(described)
    except ValueError:
        return []  # told when it is read
    files = cast("dict[str, Any]", content).get("files") if isinstance(content, dict) else None
    return [one for one in cast("list[Any]", files) if isinstance(one, str)] if isinstance(files, list) else []


def _is_wanted(name: str) -> bool:
    return name in _WANTED or name.endswith((".safetensors", ".safetensors.index.json"))


def _version(uri: str, files: dict[str, dict[str, Any]]) -> str:
    """Folder name in the cache: another for every change of a file, never made from options (they may be secret)."""
    stamps = {
        name: [entry.get("size"), *(str(entry[key]) for key in _VERSION_KEYS if key in entry)]
        for name, entry in files.items()
    }
    return hashlib.sha256(json.dumps([uri, stamps], sort_keys=True).encode()).hexdigest()[:32]


def _unreadable(uri: str, err: Exception) -> CheckpointError:
    return CheckpointError(
        f"encoder.checkpoint must be readable, but '{uri}' is not ({type(err).__name__}: {_first_line(err)}); check "
        "the path, the credentials and encoder.storage"
    )


def _first_line(err: Exception) -> str:
    return (str(err).strip().splitlines() or [type(err).__name__])[0]
