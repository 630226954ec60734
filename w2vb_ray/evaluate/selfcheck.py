"""The batch-invariance contract, tried on a checkpoint, a device and a precision: encoders in, rows of a table out.

An utterance gets the same vector alone or in any batch. The reference is what the encoder gives for each test
utterance alone; then the same utterances come in other orders, other company and other frame budgets. One model is
in memory at a time.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from w2vb_ray.config.evaluate import EvaluateConfig
from w2vb_ray.encoder.base import Embeddings, Encoder
from w2vb_ray.evaluate.outputs import Outputs
from w2vb_ray.evaluate.sameness import AS_TRANSFORMERS, SAME, Comparisons, Limit, Result
from w2vb_ray.evaluate.waveforms import Utterance

EncoderFactory = Callable[[int | None], Encoder]
"""Frame budget (None: that of the configuration) -> an encoder."""
Reference = Callable[[np.ndarray], list[np.ndarray]]
"""(num_samples,) -> every hidden state (T, D) of plain transformers."""

_SHORT_S = 5.0
_REFERENCE_MIN_SAMPLES = 560  # two 10 ms frames; transformers makes NaN of one
_COMPANY = 4
_SMALL_BUDGET, _LARGE_BUDGET = 130, 30_000


class Selfcheck:
    """The checks of one encoder.

    Args:
        config: seed and number of trials; what else it says is what `make_encoder` was made from.
        make_encoder: makes the encoder under test; called once for the configured frame budget and once for each other.
        make_reference: makes plain transformers on the same checkpoint; called once, after the encoders are gone. None
            where there are no weights that it loads.
        utterances: what is encoded, the longest last; see `waveforms.synthetic_utterances`.
    """

    def __init__(
        self,
        config: EvaluateConfig,
        make_encoder: EncoderFactory,
        make_reference: Callable[[], Reference] | None,
        utterances: Sequence[Utterance],
    ) -> None:
        self._make_encoder, self._make_reference = make_encoder, make_reference
        self._utterances, self._num_trials = utterances, config.selfcheck.num_trials
        self._max_window_s = config.audio.max_window_s
        self._rng = np.random.default_rng(config.selfcheck.seed)
        self._short = [index for index, one in enumerate(utterances) if one.duration_s <= _SHORT_S]
        self._encoder: Encoder | None = make_encoder(None)
        self.precision, self.device = self._encoder.precision, self._encoder.device
        self._same = SAME.get(self.precision, Limit("cosine", 0.9999))
        self._outputs = Outputs(self._encoder.layers, config.encoder, config.pooling)
        self._alone: list[Embeddings] = []

    def run(self) -> Iterator[Result]:
        """One result per check, as it is done; runs once.

        Raises:
            ConfigError: a window does not fit in memory, or the precision overflows.
        """
        encoder, self._encoder = self._encoder, None
        if encoder is None:
            raise ValueError("a self-check runs once; make another one")
        self._alone = [encoder.encode([one.waveform], keep_frames=True)[0] for one in self._utterances]
        yield self._order(encoder)
        yield self._neighbours(encoder)
        yield self._frames(encoder)
        yield self._repeat(encoder)
        del encoder  # the next one is loaded when this one is gone
        yield self._budget()
        yield self._transformers()

    def _order(self, encoder: Encoder) -> Result:
        """All of them at once, in two orders."""
        found = Comparisons("order", self._same)
        everyone = self._shuffled(range(len(self._utterances)))
        self._compare(found, everyone, self._encode(encoder, everyone))
        backwards = self._shuffled(self._short)[::-1]
        self._compare(found, backwards, self._encode(encoder, backwards))
        return found.result()

    def _neighbours(self, encoder: Encoder) -> Result:
        """Each in turn in random company, which has the longest utterance once in a while: it costs the most."""
        found = Comparisons("neighbours", self._same)
        num_utterances = len(self._utterances)
        for trial in range(self._num_trials):
            company = self._rng.choice(self._short, self._rng.integers(1, _COMPANY + 1)).tolist()
            if trial % num_utterances == 0:
                company.append(num_utterances - 1)
            batch = self._shuffled([trial % num_utterances, *company])
            self._compare(found, batch, self._encode(encoder, batch))
        return found.result()

    def _frames(self, encoder: Encoder) -> Result:
        """Frame vectors in company, and that asking for them does not move the pooled vector."""
        found = Comparisons("frames", self._same)
        everyone = self._shuffled(range(len(self._utterances)))
        self._compare(found, everyone, self._encode(encoder, everyone, keep_frames=True))
        return found.result()

    def _repeat(self, encoder: Encoder) -> Result:
        """The same call twice, the second against the first."""
        found = Comparisons("repeat", self._same)
        first, second = (self._encode(encoder, self._short) for _ in range(2))
        for index, one, other in zip(self._short, first, second, strict=True):
            self._add(found, index, other, dict(self._outputs.of(one)))
        return found.result()

    def _budget(self) -> Result:
        """Window by window, in small micro-batches, and all in one; the configured budget was the reference's."""
        found = Comparisons("budget", self._same)
        everyone = list(range(len(self._utterances)))
        for budget, batch in ((1, everyone), (_SMALL_BUDGET, self._short), (_LARGE_BUDGET, everyone)):
            self._compare(found, batch, self._encode(self._make_encoder(budget), batch))
        return found.result()

    def _transformers(self) -> Result:
        """Pooled and frame vectors against plain transformers in fp32.

        Where the reference is what is off, there is nothing to compare. In silence and pure tones a mel bin hardly
        varies, and the extractor of transformers magnifies the last bit of its own float32 mean (see
        `audio.features`). Half noise and half digital silence has features of nearly 1 or -1 in every bin, so that
        the model's first layer norm magnifies the last bit of each: transformers in fp32 is then 2.8e-4 from
        itself in float64, this package 0.9e-4 (the embedded model).
        """
        limit = AS_TRANSFORMERS.get(self.precision)
        if limit is None:
            return Result("transformers", self._same, skipped=f"no limit is known for {self.precision}")
        longest_s = min(_SHORT_S, self._max_window_s or _SHORT_S)
        chosen = [
            index
            for index, one in enumerate(self._utterances)
            if one.comparable and len(one.waveform) >= _REFERENCE_MIN_SAMPLES and one.duration_s <= longest_s
        ]
        if self._make_reference is None:
            return Result(
                "transformers", limit, skipped="a graph has no weights that transformers loads; see its artifact.json"
            )
        if not chosen:
            return Result("transformers", limit, skipped="no test utterance is one that transformers is exact for")
        found, reference = Comparisons("transformers", limit), self._make_reference()
        for index in chosen:
            states = reference(self._utterances[index].waveform)
            self._add(found, index, self._alone[index], dict(self._outputs.expected(states)))
        return found.result()

    def _encode(self, encoder: Encoder, batch: Sequence[int], *, keep_frames: bool = False) -> list[Embeddings]:
        return encoder.encode([self._utterances[index].waveform for index in batch], keep_frames=keep_frames)

    def _shuffled(self, indices: Sequence[int]) -> list[int]:
        return self._rng.permutation(indices).tolist()

    def _compare(self, found: Comparisons, batch: Sequence[int], embeddings: Sequence[Embeddings]) -> None:
        """What came out of a batch against each utterance alone."""
        for index, together in zip(batch, embeddings, strict=True):
            self._add(found, index, together, dict(self._outputs.of(self._alone[index])))

    def _add(self, found: Comparisons, index: int, actual: Embeddings, expected: Mapping[str, np.ndarray]) -> None:
        """Every vector of an utterance that is on both sides."""
        for name, vector in self._outputs.of(actual):
            if name in expected:
                found.add(f"{self._utterances[index].name}, {name}", vector, expected[name])
