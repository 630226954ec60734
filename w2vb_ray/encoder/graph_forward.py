"""The forward of an exported graph, whatever runs it."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from w2vb_ray.encoder.checkpoint import Checkpoint
from w2vb_ray.errors import CheckpointError, ConfigError

Run = Callable[[Mapping[str, np.ndarray]], Sequence[np.ndarray]]
"""Inputs of a graph by their names -> its kept hidden states, (1, T, D) float32 each, in the order asked for."""


def missing_runtime(checkpoint: Checkpoint, runtime: str, extra: str, err: ImportError) -> ConfigError:
    """What to raise where a runtime is not installed."""
    return ConfigError(
        f"encoder.checkpoint '{checkpoint.name}' needs {runtime}, which is not installed where it is loaded ({err}); "
        f"pip install 'w2vb_ray[{extra}]', or take an artifact of another kind"
    )


def unusable_graph(checkpoint: Checkpoint, runtime: str, err: Exception) -> CheckpointError:
    """What to raise where a runtime cannot run the files."""
    return CheckpointError(
        f"encoder.checkpoint must hold a graph that {runtime} can run, but '{checkpoint.name}' does not "
        f"({' '.join(str(err).split())[:300]}); fetch or export it again"
    )


class GraphForward:
    """A `Forward` that takes one input at a time, so that nothing is padded; see `forward.Forward` for the contract.

    Runtimes hold their scales of int8 per input, so company would move an utterance's vector.

    Args:
        run: calls the runtime.
        layers: hidden states that it gives, non-negative.
        input_name: of the features or samples.
    """

    pads = False

    def __init__(self, run: Run, layers: Sequence[int], input_name: str) -> None:
        self._run, self._layers, self._input_name = run, list(layers), input_name

    def __call__(self, inputs: Sequence[Tensor], lengths: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
        """See `Forward`."""
        found = [self._states(one, length) for one, length in zip(inputs, lengths, strict=True)]
        for layer, states in zip(self._layers, zip(*found, strict=True), strict=True):
            yield layer, torch.cat(states).to(inputs[0].device)

    def _states(self, one: Tensor, length: int) -> list[Tensor]:
        """(L, 160) or (num_samples,) -> (length, D) of each layer."""
        feed = {self._input_name: one.unsqueeze(0).cpu().numpy()}
        if self._input_name == "input_features":
            feed["attention_mask"] = np.ones((1, len(one)), np.int64)
        return [torch.from_numpy(state[0, :length]) for state in self._run(feed)]
