"""Cross-lingual retrieval of parallel utterances: does the same sentence lie nearest in another language?

Pure: vectors, items and languages in, figures with intervals out. Figures are means over ordered pairs of languages,
each over the items that both have; a pair of a few items counts as much as one of many.

R@1 and the reciprocal rank are by cosine. xSIM is the share of utterances whose best match by ratio margin is wrong
(Artetxe and Schwenk 2019, with 4 neighbours; LASER's `xsim`). Centring takes the mean of each language from its
vectors: what all of its utterances share is language, speaker and channel.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from w2vb_ray.errors import SourceError
from w2vb_ray.evaluate.estimates import Estimate

_MARGIN_NEIGHBOURS = 4


@dataclass(frozen=True, slots=True)
class Parallel:
    """Utterances that say the same in several languages.

    Args:
        index: (n,) places of the utterances that take part; one per item and language, the first.
        items: (n,) item of each, 0 to num_items - 1.
        languages: (n,) language of each, as a place in `names`.
        names: of the languages.
        num_items: items in at least two languages.
        min_items: that two languages must share, to be compared.
    """

    index: np.ndarray
    items: np.ndarray
    languages: np.ndarray
    names: list[str]
    num_items: int
    min_items: int

    @classmethod
    def of(cls, items: Sequence[str | None], languages: Sequence[str], min_items: int) -> "Parallel":
        """Find them.

        Args:
            items: of all utterances; None or empty where an utterance is parallel to none.
            languages: of all utterances.
            min_items: that two languages must share, to be compared.

        Raises:
            SourceError: no two languages share so many items.
        """
        first: dict[tuple[str, str], int] = {}
        for place, key in enumerate(zip(items, languages, strict=True)):
            if key[0]:
                first.setdefault((str(key[0]), key[1]), place)
        spread: dict[str, int] = {}
        for item, _ in first:
            spread[item] = spread.get(item, 0) + 1
        kept = {key: place for key, place in first.items() if spread[key[0]] > 1}
        known = sorted({item for item, _ in kept})
        names = sorted({language for _, language in kept})
        found = cls(
            np.array(list(kept.values()), np.int64),
            np.array([known.index(item) for item, _ in kept], np.int64),
            np.array([names.index(language) for _, language in kept], np.int64),
            names,
            len(known),
            min_items,
        )
        if not found.pairs():
            raise SourceError(
                f"the source must have at least retrieval.min_items ({min_items}) items that two languages share, but "
                f"has {len(known)} that any two do; lower it, or name the column of items in retrieval.item_column"
            )
        return found

    def pairs(self) -> list[tuple[int, int, np.ndarray, np.ndarray, np.ndarray]]:
        """Ordered pairs of languages that share items: both languages, rows of each (by item), and the items."""
        rows = np.full((len(self.names), self.num_items), -1, np.int64)
        rows[self.languages, self.items] = np.arange(len(self.items))
        found: list[tuple[int, int, np.ndarray, np.ndarray, np.ndarray]] = []
        for one, other in permutations(range(len(self.names)), 2):
            shared = np.flatnonzero((rows[one] >= 0) & (rows[other] >= 0))
            if len(shared) >= self.min_items:
                found.append((one, other, rows[one, shared], rows[other, shared], shared))
        return found


@dataclass(frozen=True, slots=True)
class Retrieval:
    """How well one kind of vector finds parallel utterances.

    Args:
        recall: R@1, of the queries whose nearest is right.
        reciprocal_rank: mean of 1 / rank of the right one.
        xsim_error: share of the queries whose best match by margin is wrong; None of centred vectors: their cosines
            have both signs, and a ratio of such says nothing.
        matrix: (languages, languages) R@1 of queries in a row's language; NaN where two share no items.
    """

    recall: Estimate
    reciprocal_rank: Estimate
    xsim_error: Estimate | None
    matrix: np.ndarray


def retrieve(vectors: np.ndarray, parallel: Parallel, *, centred: bool, num_samples: int, seed: int) -> Retrieval:
    """Look every utterance up among those of each other language.

    Args:
        vectors: (N, D) of all utterances.
        parallel: which take part.
        centred: whether each language's mean is taken away first.
        num_samples: of the bootstrap.
        seed: of the bootstrap.
    """
    chosen = vectors[parallel.index].astype(np.float64)
    if centred:
        for language in range(len(parallel.names)):
            chosen[parallel.languages == language] -= chosen[parallel.languages == language].mean(0)
    norms = np.linalg.norm(chosen, axis=1, keepdims=True)
    chosen /= np.where(norms > 0, norms, 1)
    pairs = parallel.pairs()
    outcomes = np.full((3, len(pairs), parallel.num_items), np.nan)
    matrix = np.full((len(parallel.names), len(parallel.names)), np.nan)
    for number, (one, other, rows, columns, items) in enumerate(pairs):
        outcomes[:, number, items] = _outcomes(chosen[rows] @ chosen[columns].T)
        matrix[one, other] = np.nanmean(outcomes[0, number])
    rng = np.random.default_rng(seed)
    recall, reciprocal_rank, wrong = (_estimate(outcome, num_samples, rng) for outcome in outcomes)
    return Retrieval(recall, reciprocal_rank, None if centred else wrong, matrix)


def compared(parallel: Parallel) -> list[str]:
    """Languages that take part in a pair."""
    return [parallel.names[one] for one in sorted({one for one, *_ in parallel.pairs()})]


def chance(parallel: Parallel) -> float:
    """R@1 of a guess."""
    return float(np.mean([1 / len(items) for *_, items in parallel.pairs()]))


def _outcomes(cosines: np.ndarray) -> np.ndarray:
    """(k, k) of queries and candidates of the same items, in one order -> (3, k): right, 1 / rank, wrong by margin.

    Candidates as near as the right one are counted before it, so that vectors that are all alike find nothing.
    """
    right = cosines.diagonal()[:, np.newaxis]
    ranks = (cosines >= right).sum(1)
    neighbours = min(_MARGIN_NEIGHBOURS, len(cosines))
    near = [np.sort(side, axis=1)[:, -neighbours:].mean(1) for side in (cosines, cosines.T)]
    around = (near[0][:, np.newaxis] + near[1][np.newaxis]) / 2
    margins = np.divide(cosines, around, out=np.zeros_like(cosines), where=around != 0)
    wrong = (margins >= margins.diagonal()[:, np.newaxis]).sum(1) > 1
    return np.stack([ranks == 1, 1 / ranks, wrong]).astype(np.float64)


def _estimate(outcomes: np.ndarray, num_samples: int, rng: np.random.Generator) -> Estimate:
    """(pairs, items), NaN where a pair lacks an item -> the mean over pairs of their means."""
    present = ~np.isnan(outcomes)
    values = np.where(present, outcomes, 0)
    num_pairs, num_items = outcomes.shape
    items = rng.multinomial(num_items, np.full(num_items, 1 / num_items), num_samples)
    pairs = rng.multinomial(num_pairs, np.full(num_pairs, 1 / num_pairs), num_samples)
    counts = items @ present.T
    means = items @ values.T / np.maximum(counts, 1)
    weights = pairs * (counts > 0)
    drawn = (weights * means).sum(1) / np.maximum(weights.sum(1), 1)
    return Estimate.of(np.nanmean(outcomes, axis=1).mean(), drawn)
