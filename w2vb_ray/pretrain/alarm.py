"""Says when codes collapse: the losses alone would look better than ever."""

from w2vb_ray.config.pretrain import AlarmSection, QuantizerSection


class CollapseAlarm:
    """Counts updates in a row that look collapsed.

    Args:
        alarm: what that is, and how many are too many.
        quantizer: how many codes there are.
    """

    def __init__(self, alarm: AlarmSection, quantizer: QuantizerSection) -> None:
        self._alarm, self._num_codes, self._count = alarm, quantizer.num_codes, 0

    def look(self, figures: dict[str, float]) -> str | None:
        """What is wrong, once it has been so for `alarm.patience_updates`; figures are those of `update.Objective`.

        Without the contrastive loss the most probable code becomes one for all frames while its probability stays
        moderate, so the codes themselves count as well as their probabilities.
        """
        spread = min(figures["probability_perplexity"], figures["code_perplexity"])
        reach = min(self._num_codes, figures["hidden_frames"])  # so few frames cannot have more codes
        few = spread < self._alarm.min_perplexity * reach
        same = figures["same_negatives"] > self._alarm.max_same_negatives
        self._count = self._count + 1 if few or same else 0
        if self._count != self._alarm.patience_updates:
            return None
        return (
            f"the codes have collapsed: for {self._count} updates their perplexity is under "
            f"{self._alarm.min_perplexity:g} of {reach:g}, or over {self._alarm.max_same_negatives:.0%} of the "
            f"distractors have the target's codes (now {spread:.1f}, {figures['same_negatives']:.0%}); raise "
            "loss.contrastive or loss.diversity, lower optimiser.learning_rate or quantizer.learning_rate_factor, and "
            "begin again"
        )
