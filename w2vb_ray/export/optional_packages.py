"""The optional packages that make graphs: whether they are there, and how to keep them from talking."""

import contextlib
import importlib
import logging
import os
import warnings
from collections.abc import Generator

from w2vb_ray.errors import ConfigError


def require(extra: str, *packages: str) -> None:
    """Import packages before hours of work, not after.

    Args:
        extra: of w2vb_ray, that installs them.
        packages: that are needed.

    Raises:
        ConfigError: one is not installed.
    """
    for package in packages:
        try:
            with quiet_packages():
                importlib.import_module(package)
        except ImportError as err:
            raise ConfigError(
                f"export.kind needs {package}, which is not installed ({err}); pip install 'w2vb_ray[{extra}]', or "
                "choose another kind"
            ) from err


@contextlib.contextmanager
def quiet_packages() -> Generator[None]:
    """No warnings, progress bars and tables of what cannot be changed; errors are raised as ever."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            open(os.devnull, "w", encoding="utf-8") as nowhere,
            contextlib.redirect_stdout(nowhere),  # where nncf draws
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
