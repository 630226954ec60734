"""Figures with their intervals. Languages (or classes) count alike, however many utterances each has."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

_INTERVAL = (2.5, 97.5)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and its 95 % interval, from a bootstrap.

    Args:
        value: the figure.
        low: of the interval.
        high: of the interval.
        drawn: (num_samples,) what the bootstrap drew; the same utterances in the same places, if the seed is the same.
    """

    value: float
    low: float
    high: float
    drawn: np.ndarray | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(cls, value: float | np.floating, drawn: np.ndarray) -> "Estimate":
        """The middle 95 % of what a bootstrap drew."""
        low, high = np.percentile(drawn, _INTERVAL)
        return cls(float(value), float(low), float(high), drawn)

    def as_dict(self) -> dict[str, float]:
        """For a report."""
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True, slots=True)
class Figure:
    """One kind of figure of every kind of vector.

    Args:
        name: what it is.
        chance: what a guess gets.
        values: by name of the vectors.
        higher_is_better: or lower.
    """

    name: str
    chance: float
    values: dict[str, Estimate] = field(default_factory=dict)
    higher_is_better: bool = True

    def lead(self, name: str, rivals: Iterable[str]) -> tuple[str, Estimate] | None:
        """The rival that is hardest to be ahead of, and how far ahead of it a row is, paired; above 0 is better.

        The hardest is the one whose interval of the difference begins lowest. None where there are no draws to compare.
        """
        found = [
            (rival, lead)
            for rival in rivals
            if (lead := self._difference(self.values[name], self.values[rival])) is not None
        ]
        return min(found, key=lambda one: one[1].low, default=None)

    def _difference(self, one: Estimate, other: Estimate) -> Estimate | None:
        if one.drawn is None or other.drawn is None:
            return None
        sign = 1 if self.higher_is_better else -1
        return Estimate.of(sign * (one.value - other.value), sign * (one.drawn - other.drawn))


def ratio(sums: np.ndarray) -> np.ndarray:
    """(..., 2) of hits and tries -> (...)."""
    return sums[..., 0] / np.maximum(sums[..., 1], 1e-12)


def macro_estimate(
    totals: np.ndarray,
    groups: np.ndarray,
    num_samples: int,
    rng: np.random.Generator,
    figure: Callable[[np.ndarray], np.ndarray] = ratio,
    *,
    draw_groups: bool = True,
) -> Estimate:
    """Mean over groups of a figure of each group's totals.

    Args:
        totals: (n, K) of utterances, or of whatever was drawn independently.
        groups: (n,) which each belongs to.
        num_samples: of the bootstrap, over members of each group and, unless they are all there are, groups.
        rng: for it.
        figure: sums of totals (..., K) -> (...).
        draw_groups: whether groups are a sample too.
    """
    names = np.unique(groups)
    values, drawn = np.empty(len(names)), np.empty((len(names), num_samples))
    for place, name in enumerate(names):
        members = totals[groups == name].astype(np.float64)
        values[place] = figure(members.sum(0))
        count = len(members)
        drawn[place] = figure(rng.multinomial(count, np.full(count, 1 / count), num_samples) @ members)
    weights = np.full((len(names), num_samples), 1 / len(names))
    if draw_groups:
        weights = rng.multinomial(len(names), weights[:, 0], num_samples).T / len(names)
    return Estimate.of(values.mean(), (weights * drawn).sum(0))
