"""AdamW in groups, and its learning rate over the updates."""

from torch.optim import AdamW

from w2vb_ray.config.pretrain import OptimiserSection, PretrainConfig
from w2vb_ray.pretrain.model import PretrainingModel


def make_optimiser(model: PretrainingModel, config: PretrainConfig) -> AdamW:
    """Matrices decay; norms, biases, codes and the vector of hidden frames do not. The quantizer has its own rate."""
    section = config.optimiser
    groups: dict[tuple[float, float], list[object]] = {}
    for name, parameter in model.named_parameters():
        decay = section.weight_decay if parameter.ndim > 1 and not name.endswith("codevectors") else 0.0
        factor = config.quantizer.learning_rate_factor if name.startswith("quantizer.") else 1.0
        groups.setdefault((decay, factor), []).append(parameter)
    return AdamW(
        [{"params": some, "weight_decay": decay, "factor": factor} for (decay, factor), some in groups.items()],
        lr=section.learning_rate,
        betas=section.betas,
        eps=section.epsilon,
    )


def learning_rate(update: int, num_updates: int, section: OptimiserSection) -> float:
    """Of an update, from 0 on: up in a straight line, then down in one to 0 after the last."""
    warmup = min(section.warmup_updates, num_updates)
    if update < warmup:
        return section.learning_rate * (update + 1) / warmup
    return section.learning_rate * (num_updates - update) / max(1, num_updates - warmup)


def set_learning_rate(optimiser: AdamW, rate: float) -> None:
    """To all groups, each with its factor."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["factor"]
