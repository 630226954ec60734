"""When two vectors count as the same, and the worst pair of a check. Pure numpy."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np


@dataclass(frozen=True, slots=True)
class Limit:
    """A figure for how alike two vectors are, and how alike they must be.

    Args:
        measure: `relative error`, the norm of the difference over the norm of what is expected (at most `value`), or
            `cosine` (more than `value`).
        value: the limit.
    """

    measure: Literal["relative error", "cosine"]
    value: float

    def figure(self, actual: np.ndarray, expected: np.ndarray) -> float:
        """The worst figure of two (D,) or (T, D); infinitely bad where shapes differ or values are not finite.

        Each (D,) stands for itself in relative errors; cosines are of everything as one vector, because the bf16
        contract is about utterances, not about the rounding of a single frame.
        """
        if actual.shape != expected.shape or not (np.isfinite(actual).all() and np.isfinite(expected).all()):
            return math.inf if self.measure == "relative error" else -math.inf
        a, b = actual.astype(np.float64), expected.astype(np.float64)
        if self.measure == "relative error":
            difference, norm = np.linalg.norm(a - b, axis=-1), np.linalg.norm(b, axis=-1)
            return float(np.divide(difference, norm, out=_zero_or_inf(difference), where=norm > 0).max())
        norm = np.linalg.norm(a) * np.linalg.norm(b)
        return float(np.vdot(a, b) / norm) if norm > 0 else float(np.array_equal(a, b))

    def worse(self, one: float, other: float) -> bool:
        """Whether the first figure is worse than the second."""
        return one > other if self.measure == "relative error" else one < other

    def holds(self, figure: float) -> bool:
        """Whether a figure is within the limit."""
        return figure <= self.value if self.measure == "relative error" else figure > self.value


def _zero_or_inf(difference: np.ndarray) -> np.ndarray:
    """What stands for the relative error of a zero vector."""
    return np.where(difference == 0, 0.0, math.inf)


_FP32 = Limit("relative error", 1e-4)
_HALF, _HALF_AS_FP32, _INT8_AS_FP32 = Limit("cosine", 0.9999), Limit("cosine", 0.999), Limit("cosine", 0.99)

SAME = {"fp32": _FP32, "int8": _FP32, "bf16": _HALF, "fp16": _HALF}
"""The batch-invariance contract, by precision; half precision rounds otherwise where a batch gets other kernels."""
AS_TRANSFORMERS = {"fp32": _FP32, "int8": _INT8_AS_FP32, "bf16": _HALF_AS_FP32, "fp16": _HALF_AS_FP32}
"""Against transformers in fp32, by precision of the encoder; an int8 artifact against its own weights as floats."""


@dataclass(frozen=True, slots=True)
class Result:
    """A check that is done, a row of the table.

    Args:
        name: of the check.
        limit: what was asked.
        num_comparisons: pairs of vectors compared.
        worst: the worst figure; None when the check was skipped.
        where: the utterance and hidden layer of the worst figure.
        skipped: why the check could not be done; None when it was.
    """

    name: str
    limit: Limit
    num_comparisons: int = 0
    worst: float | None = None
    where: str = ""
    skipped: str | None = None

    @property
    def failed(self) -> bool:
        """Whether a comparison was outside the limit."""
        return self.worst is not None and not self.limit.holds(self.worst)


class Comparisons:
    """Gathers the comparisons of one check.

    Args:
        name: of the check.
        limit: what each comparison must keep.
    """

    def __init__(self, name: str, limit: Limit) -> None:
        self._name, self._limit = name, limit
        self._count, self._worst, self._where = 0, None, ""

    def add(self, where: str, actual: np.ndarray, expected: np.ndarray) -> None:
        """Compare two (D,) or (T, D) of the utterance and layer that `where` names."""
        figure = self._limit.figure(actual, expected)
        self._count += 1
        if self._worst is None or self._limit.worse(figure, self._worst):
            self._worst, self._where = figure, where

    def result(self) -> Result:
        """The row of the table.

        Raises:
            ValueError: nothing was compared; a check that saw nothing must not pass.
        """
        if self._worst is None:
            raise ValueError(f"the check {self._name!r} compared nothing")
        return Result(self._name, self._limit, self._count, self._worst, self._where)
