"""Memory of the layers on a CPU: the next layer takes what the one before it freed."""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_KEPT_BYTES = 64 * 2**20  # at the end of the heap; a layer of the 1,024-d model frees about 40 MiB in a micro-batch
_LARGEST_BYTES = 32 * 2**20  # larger ones are mapped on their own; the most that glibc sets by itself


def keep_freed_memory() -> None:
    """Have the C library keep a layer's buffers for the next layer, 64 MiB at most, for the rest of the process.

    By itself glibc gives memory back once about twice the largest buffer so far is free at the end of its heap: in
    some processes that is so after each layer, and in others never. A page that is taken anew costs 1 to 2 µs, and
    30 s of speech in the 768-d model took 18,000 to 65,000 of them (docs/decisions/0007). Does nothing where the C
    library has no such setting (musl, macOS).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
