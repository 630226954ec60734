"""One run of the `pretrain` job: the corpus, then workers of Ray Train, shown here while they train."""

import contextlib
import tempfile
import threading
from typing import Any

import pyarrow as pa
import ray
from ray.exceptions import RayError
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from rich.console import Console

from w2vb_ray import storage
from w2vb_ray.config.pretrain import PretrainConfig
from w2vb_ray.errors import ExitCode
from w2vb_ray.pretrain import state
from w2vb_ray.pretrain.corpus import FILE, Corpus, list_utterances, read_corpus
from w2vb_ray.pretrain.feed import cpus_of_worker
from w2vb_ray.pretrain.hold import Hold
from w2vb_ray.pretrain.listener import start_listener
from w2vb_ray.pretrain.model import checkpoint_folder
from w2vb_ray.pretrain.plan import plan_epoch
from w2vb_ray.pretrain.worker import train
from w2vb_ray.runtime import cluster, interrupt
from w2vb_ray.runtime.progress import stage

_LOOK_S = 1.0
_COLLAPSED = 1


def pretrain(config: PretrainConfig, console: Console) -> int:
    """Train to the last update, from wherever the run is.

    Returns:
        The exit code.

    Raises:
        UserError: what the config asks for cannot be had.
        ClusterError: the workers do not fit in it.
        TableHeld: another run has `pretrain.uri`.
    """
    with state.reachable(config):
        uri = state.newest(config)
        made = 0 if uri is None else state.check(uri, config)
    if uri is not None:
        if made >= config.pretrain.num_updates:
            console.print(f"nothing to do: {uri} is after update {made:,}", soft_wrap=True, highlight=False)
            return ExitCode.DONE
        console.print(f"going on from update {made:,}", highlight=False)
    with stage(console, "reading the checkpoint to start from"):
        checkpoint_folder(config.model)
    with stage(console, "listing the source"):
        planned = list_utterances(config)
    with contextlib.ExitStack() as held:
        with state.reachable(config):
            held.enter_context(Hold(config))
            state.begin(config)
        collapsed = _run(config, planned, console)
    console.print(f"written to {state.newest(config)}", soft_wrap=True, highlight=False)
    return _COLLAPSED if collapsed else ExitCode.DONE


def _run(config: PretrainConfig, planned: pa.Table, console: Console) -> bool:
    """Whether codes had collapsed."""
    with stage(console, "starting Ray"):
        cluster.connect(config.cluster, show_workers=False)  # Train's own actors have much to say
    workers = config.workers
    needed = min(workers.num_workers, workers.min_workers or workers.num_workers)
    cluster.check_room(needed, cpus_of_worker(workers), int(workers.use_gpu), int(workers.use_gpu), cluster.nodes())
    with stage(console, "measuring the source"), state.reachable(config):
        corpus = read_corpus(planned, config)
    console.print(_describe(corpus, config), soft_wrap=True, highlight=False)
    return _train(config, corpus, console)


def _train(config: PretrainConfig, corpus: Corpus, console: Console) -> bool:
    """Whether the run ended because codes had collapsed."""
    listener = start_listener()
    # The config goes as a reference: Train keeps what it is given where anyone can read it, and stores have secrets.
    settings = {
        "config": ray.put(config),
        "corpus": ray.put(corpus.table),
        "digest": corpus.digest,
        "listener": listener,
    }
    workers = config.workers
    num_workers: Any = workers.num_workers
    if workers.min_workers is not None and workers.min_workers < workers.num_workers:
        num_workers = (workers.min_workers, workers.num_workers)
    screen = _Screen(listener, console)
    with tempfile.TemporaryDirectory(prefix="w2vb-train-") as folder:  # Train's own records; ours are elsewhere
        trainer = TorchTrainer(
            train,
            train_loop_config=settings,
            scaling_config=ScalingConfig(
                num_workers=num_workers,
                use_gpu=workers.use_gpu,
                resources_per_worker={"CPU": cpus_of_worker(workers), "GPU": int(workers.use_gpu)},
            ),
            run_config=RunConfig(
                name="pretrain", storage_path=folder, failure_config=FailureConfig(max_failures=workers.max_failures)
            ),
        )
        try:
            with screen, interrupt.kept():
                trainer.fit()
        except SystemExit as err:  # Train's own handler of Ctrl-C ends the process
            raise KeyboardInterrupt from err
    return screen.num_warnings > 0 and config.alarm.stop


class _Screen:
    """Shows what the listener hears, in a thread: `fit` keeps this one."""

    def __init__(self, listener: Any, console: Console) -> None:
        self._listener, self._console = listener, console
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._show, daemon=True)
        self.num_warnings = 0

    def __enter__(self) -> "_Screen":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _show(self) -> None:
        while True:
            over = self._over.wait(_LOOK_S)
            try:
                lines, warnings = ray.get(self._listener.take.remote())
            except RayError:
                return  # Ray is gone, and says so elsewhere
            for line in lines:
                self._console.print(_line(line), soft_wrap=True, highlight=False)
            for text in warnings:
                self.num_warnings += 1
                self._console.print(f"warning: {text}", soft_wrap=True, highlight=False, markup=False)
            if over:
                return


def _describe(corpus: Corpus, config: PretrainConfig) -> str:
    plan = plan_epoch(corpus.durations_s, corpus.languages, config.batches, config.pretrain.seed, 0)
    rejects = ", ".join(f"{count:,} {reason}" for reason, count in sorted(corpus.rejects.items()))
    where = storage.join(config.pretrain.uri, FILE)
    return (
        f"source: {corpus.table.num_rows:,} utterances in {len(set(corpus.languages.tolist())):,} languages; the first "
        f"epoch has {len(set(plan.rows.tolist())):,} of them, {plan.duration_s.sum() / 3600:.2f} h in "
        f"{len(plan.update_ends):,} updates" + (f"; cannot be read: {rejects}, see {where}" if rejects else "")
    )


def _line(line: dict[str, float]) -> str:
    return (
        f"update {line['update']:,.0f}: contrastive {line['contrastive_loss']:.3f} "
        f"({line['contrastive_accuracy']:.1%} right), masked prediction {line['masked_prediction_loss']:.3f} "
        f"(gain {line['masked_prediction_gain']:+.3f}), perplexity {line['probability_perplexity']:.1f}, "
        f"gradient {line['gradient_norm']:.2f}, {line['audio_s_per_s']:.1f} audio-seconds per second, "
        f"waiting for audio {line['wait_share']:.0%}"
    )
