"""One run at a time has a `pretrain.uri`: its driver says so in a file there, and again each minute while it lives.

Two that begin within the same second both see nobody: stores without conditional writes are among those that are
supported. Whoever comes later finds the first.
"""

import contextlib
import json
import threading
import time
from dataclasses import asdict, dataclass

from w2vb_ray import storage
from w2vb_ray.config.pretrain import PretrainConfig
from w2vb_ray.embed.holder import Holder
from w2vb_ray.errors import TableHeld

_FILE = "holder.json"
_RENEW_S = 60.0
_LEASE_S = 300.0  # for those who cannot see the process


@dataclass(frozen=True, slots=True)
class _Claim:
    holder: Holder
    expires_ms: int


class Hold:
    """A run's hold on its folder, while the block lasts.

    Args:
        config: of the run.

    Raises:
        TableHeld: on entering, another run has it.
        OSError: on entering, the store cannot be read from or written to.
    """

    def __init__(self, config: PretrainConfig) -> None:
        self._uri = storage.join(config.pretrain.uri, _FILE)
        self._options = config.pretrain.storage
        self._holder = Holder.this_process()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)

    def __enter__(self) -> None:
        last = self._read()
        if last is not None and last.holder != self._holder and last.holder.is_alive(last.expires_ms):
            raise TableHeld(
                f"{last.holder.host}, process {last.holder.pid}, trains in {self._uri.removesuffix(_FILE)}; wait "
                "for it to end, or give this run another pretrain.uri"
            )
        self._write()
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()
        with contextlib.suppress(*storage.STORE_ERRORS):
            filesystem = storage.filesystem(self._uri, self._options)
            filesystem.rm(storage.fs_path(self._uri, filesystem))

    def _read(self) -> _Claim | None:
        stored = storage.read_small(self._uri, self._options)
        if stored is None:
            return None
        claim = json.loads(stored)
        return _Claim(Holder(**claim["holder"]), claim["expires_ms"])

    def _write(self) -> None:
        claim = _Claim(self._holder, int((time.time() + _LEASE_S) * 1_000))
        storage.write_atomic(self._uri, json.dumps(asdict(claim)).encode(), self._options)

    def _renew(self) -> None:
        while not self._over.wait(_RENEW_S):
            with contextlib.suppress(*storage.STORE_ERRORS):  # the next minute may be better
                self._write()
