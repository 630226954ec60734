"""What a stage is given beside its rows: someone who watches its work. Knows no Ray.

watch(packed, work)   calls work(packed, pulse), with the units that may be worked on
pulse()               says that something has moved: a recording is read, a micro-batch is encoded
"""

from collections.abc import Callable

import pyarrow as pa

Pulse = Callable[[], None]
Work = Callable[[pa.Table, Pulse], pa.Table]
Watch = Callable[[pa.Table, Work], pa.Table]


def still() -> None:
    """The pulse of work that nobody watches."""


def unwatched(packed: pa.Table, work: Work) -> pa.Table:
    """Work that nobody watches, outside of Ray."""
    return work(packed, still)
