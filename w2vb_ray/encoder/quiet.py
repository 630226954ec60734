"""Keeps transformers from talking where a pool of encoders would repeat it once each."""

import warnings
from collections.abc import Generator
from contextlib import contextmanager

from transformers.utils import logging


@contextmanager
def quiet_transformers() -> Generator[None]:
    """No progress bars and no report of dropped heads while loading or saving; settings are put back afterwards."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def without_mask_warning() -> Generator[None]:
    """transformers 5.23 gives torch a bool padding mask beside WavLM's float bias; torch calls that deprecated."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask")
        yield
