"""What multiplies bytes on a GPU, in operators that torch's compiler fuses with what stands before and behind."""

from typing import Any

import torch
from torch import Tensor

from w2vb_ray.encoder import portable

_operators: Any = torch.ops.aten


class Int8Linear(portable.Int8Linear):
    """The same numbers on tensor cores: int8 products summed up in int32, of more than 16 rows at a time."""

    _dtype = torch.int8

    def _sums(self, rounded: Tensor) -> Tensor:
        return _operators._int_mm(rounded, self._values.t()).float()
