"""What each worker of Ray Train does: from the newest checkpoint on, update after update, until the last or a signal.

All workers have the same weights: gradients are summed over them before each step, so each makes the same one.
"""

import contextlib
import math
import time
from collections.abc import Iterator
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch
import torch.distributed as dist
from torch import Tensor

from w2vb_ray.config.pretrain import PretrainConfig
from w2vb_ray.pretrain import state
from w2vb_ray.pretrain.alarm import CollapseAlarm
from w2vb_ray.pretrain.corpus import Corpus
from w2vb_ray.pretrain.feed import feed
from w2vb_ray.pretrain.model import PretrainingModel, checkpoint_folder, make_encoder
from w2vb_ray.pretrain.optimiser import learning_rate, make_optimiser, set_learning_rate
from w2vb_ray.pretrain.plan import plan_epoch
from w2vb_ray.pretrain.update import MicroBatch, Objective


def train(settings: dict[str, Any]) -> None:
    """The function that Ray Train runs on every worker.

    Args:
        settings: references to the `config` and to the table of the `corpus`, its `digest`, and the `listener`.
    """
    config: PretrainConfig = ray.get(settings["config"])
    torch.set_num_threads(config.workers.num_threads)
    _Worker(config, settings).run()


class _Worker:
    def __init__(self, config: PretrainConfig, settings: dict[str, Any]) -> None:
        context = ray.train.get_context()
        self._rank, self._world_size = context.get_world_rank(), context.get_world_size()
        self._config, self._listener = config, settings["listener"]
        self._corpus, self._digest = settings["corpus"], settings["digest"]
        table: Any = ray.get(self._corpus)
        corpus = Corpus(table, self._digest)
        self._durations_s, self._languages = corpus.durations_s, corpus.languages
        torch.manual_seed(config.pretrain.seed)
        device = ray.train.torch.get_device() if config.workers.use_gpu else torch.device("cpu")
        encoder = make_encoder(config.model, checkpoint_folder(config.model), config.masking.span)
        self._model = PretrainingModel(encoder, config).to(device)
        self._optimiser = make_optimiser(self._model, config)
        self._position = state.Position()
        if (uri := state.newest(config)) is not None:
            self._position = state.load(uri, self._model, self._optimiser, config)
        self._objective = Objective(self._model, config, lambda: _autocast(config, device))
        self._alarm = CollapseAlarm(config.alarm, config.quantizer)

    def run(self) -> None:
        """To the last update."""
        position, config = self._position, self._config
        since, waited, audio_s = time.monotonic(), 0.0, 0.0  # since the last line of the log
        updates = self._updates()
        while position.update < config.pretrain.num_updates:
            clock = time.monotonic()
            micro_batches = next(updates)
            waited += time.monotonic() - clock
            figures = self._step(micro_batches)
            audio_s += figures["audio_s"]
            position.update += 1
            last = position.update == config.pretrain.num_updates
            if self._is_over(figures):
                return
            if last or position.update % config.pretrain.log_updates == 0:
                elapsed_s = time.monotonic() - since
                line = {"update": position.update, "epoch": position.epoch, **figures}
                line |= {"num_workers": self._world_size}
                line |= {"wait_share": waited / elapsed_s, "audio_s_per_s": audio_s / elapsed_s}
                since, waited, audio_s = time.monotonic(), 0.0, 0.0
                position.log.append(line)
                if self._rank == 0:
                    self._listener.tell.remote(line)  # who does not wait for it: figures may come late
            if last or position.update % config.pretrain.checkpoint_updates == 0:
                self._save()

    def _updates(self) -> Iterator[list[MicroBatch]]:
        """This worker's micro-batches of every update from here on, epoch after epoch."""
        position = self._position
        if position.corpus != self._digest:  # another corpus has other plans: its first whole epoch is the next one
            position.epoch, position.done = position.epoch + bool(position.corpus), 0
            position.corpus = self._digest
        while True:
            plan = plan_epoch(
                self._durations_s, self._languages, self._config.batches, self._config.pretrain.seed, position.epoch
            )
            rest = range(position.done, len(plan.update_ends))
            for micro_batches in feed(self._corpus, plan, self._config, rest, self._rank, self._world_size):
                position.done += 1
                yield micro_batches
            position.epoch, position.done = position.epoch + 1, 0

    def _step(self, micro_batches: list[MicroBatch]) -> dict[str, float]:
        config, update = self._config, self._position.update
        self._optimiser.zero_grad(set_to_none=True)
        figures = self._objective.accumulate(micro_batches, update, self._sum)
        norm = float(torch.nn.utils.clip_grad_norm_(self._model.parameters(), config.optimiser.max_gradient_norm))
        rate = learning_rate(update, config.pretrain.num_updates, config.optimiser)
        set_learning_rate(self._optimiser, rate)
        if math.isfinite(norm):  # the same on every worker, since the gradients are
            self._optimiser.step()
        return {**figures, "gradient_norm": norm, "learning_rate": rate}

    def _sum(self, tensor: Tensor) -> Tensor:
        if self._world_size > 1:
            dist.all_reduce(tensor)
        return tensor

    def _is_over(self, figures: dict[str, float]) -> bool:
        """Whether codes have collapsed, and the run should end with that; figures are the same on all workers."""
        problem = self._alarm.look(figures)
        if problem is not None and self._rank == 0:
            ray.get(self._listener.warn.remote(problem))
        return problem is not None and self._config.alarm.stop

    def _save(self) -> None:
        if self._rank == 0:
            state.save(self._model, self._optimiser, self._position, self._config)
        if self._world_size > 1:
            dist.barrier()


def _autocast(config: PretrainConfig, device: torch.device) -> contextlib.AbstractContextManager[object]:
    if config.workers.precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16)
