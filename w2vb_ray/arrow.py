"""`pyarrow.compute` for type checkers: its functions are generated when it is imported, so they know none of them."""

from typing import Any

import pyarrow.compute

pc: Any = pyarrow.compute
