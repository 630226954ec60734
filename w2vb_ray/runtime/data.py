"""Ray Data in this process: silent, and without losing a block."""

import logging
import warnings

from ray.data import DataContext
from ray.util.annotations import RayDeprecationWarning

RETRIES = 16
"""Of a task whose worker is gone, nodes that are taken away again and again; Ray's own default is for ever."""


def configure_data(*, in_order: bool) -> DataContext:
    """Settings that every job wants.

    Args:
        in_order: whether results must come in the order of their inputs.
    """
    context = DataContext.get_current()
    context.enable_progress_bars = False  # jobs show their own
    context.execution_options.preserve_order = in_order
    context.max_errored_blocks = 0  # Ray would drop whole blocks; bad rows are rejects before they are errors
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)  # it warns that there are no bars
    # Ray 2.64 will want other names for `max_retries` and its like; pyproject pins 2.60.
    warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated", category=RayDeprecationWarning)
    return context
