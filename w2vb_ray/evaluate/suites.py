"""From a config to findings: which utterances, which vectors of them, which figures of those."""

import time
from collections.abc import Callable, Iterable

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from w2vb_ray.config.evaluate import EvaluateConfig
from w2vb_ray.errors import SourceError
from w2vb_ray.evaluate import baselines, contenders, retrieval
from w2vb_ray.evaluate.estimates import Figure
from w2vb_ray.evaluate.findings import Findings, Map, Matrix
from w2vb_ray.evaluate.phones import run_phones
from w2vb_ray.evaluate.probes import Task
from w2vb_ray.evaluate.retrieval import Parallel, Retrieval
from w2vb_ray.evaluate.speech import Chooser, Speech, read_source, read_table, spread

Named = Iterable[tuple[str, np.ndarray]]
_MOST_POINTS = 1_000
_PLAIN_COMPONENTS = 30


def run(config: EvaluateConfig) -> list[Findings]:
    """Findings of the config's suite; of `all`, those that the source has data for, and why others are left out.

    Raises:
        UserError: the source, the table or the checkpoint cannot be used.
    """
    if config.evaluate.suite != "all":
        return [_SUITES[config.evaluate.suite](config)]
    found: list[Findings] = []
    for name, suite in _SUITES.items():
        if name == "phones" and config.phones.alignment_uri is None:
            continue
        try:
            found.append(suite(config))
        except SourceError as err:
            found.append(Findings(name, [], [f"left out: {err}"], 0.0))
    return found


def run_retrieval(config: EvaluateConfig) -> Findings:
    """Look every utterance up in every other language.

    Raises:
        UserError: the source, the table or the checkpoint cannot be used.
    """
    clock, settings = time.monotonic(), config.evaluate
    column = config.retrieval.item_column
    speech, vectors = _vectors(config, _with_items(column, config.retrieval.max_items))
    items = speech.column(column, "retrieval.item_column")
    parallel = Parallel.of(items, speech.languages, config.retrieval.min_items)
    guess = retrieval.chance(parallel)
    plain = Figure("R@1", guess)
    xsim = Figure("xSIM error", 1 - guess, higher_is_better=False)
    centred = Figure("R@1, centred", guess)
    rank = Figure("MRR, centred", float("nan"))
    best: tuple[str, Retrieval, np.ndarray] | None = None
    for name, some in vectors:
        one, other = (
            retrieval.retrieve(some, parallel, centred=centre, num_samples=settings.num_samples, seed=settings.seed)
            for centre in (False, True)
        )
        assert one.xsim_error is not None
        plain.values[name], xsim.values[name] = one.recall, one.xsim_error
        centred.values[name], rank.values[name] = other.recall, other.reciprocal_rank
        if best is None or _merit(name, other) >= _merit(*best[:2]):
            best = name, other, some
    assert best is not None
    languages = retrieval.compared(parallel)
    notes = [
        f"{parallel.num_items:,} items in {len(languages)} languages ({', '.join(languages)}), "
        f"{len(parallel.pairs()):,} ordered pairs; intervals over items and pairs",
        *_unread(speech),
    ]
    places = [parallel.names.index(language) for language in languages]
    matrix = Matrix(f"R@1, centred, {best[0]}", languages, best[1].matrix[np.ix_(places, places)])
    points = _map(best[0], best[2], speech.languages, config)
    rank = Figure(rank.name, _reciprocal_rank_of_chance(parallel), rank.values)
    return Findings("retrieval", [plain, xsim, centred, rank], notes, time.monotonic() - clock, matrix, points)


def run_probes(config: EvaluateConfig) -> Findings:
    """Tell columns of the source from vectors.

    Raises:
        UserError: the source, the table or the checkpoint cannot be used.
    """
    clock, settings = time.monotonic(), config.evaluate
    speech, vectors = _vectors(
        config, lambda speech: spread(range(speech.table.num_rows), config.probes.max_utterances)
    )
    tasks: dict[str, Task] = {}
    notes: list[str] = []
    for column, group in config.probes.columns.items():
        labels = speech.column(column, "probes.columns")
        groups = None if group is None else speech.column(group, "probes.columns")
        try:
            task = Task.of(labels, groups, config.probes.max_folds, settings.seed)
        except SourceError as err:
            raise SourceError(f"probes.columns {column}: {err}, in {speech.uri}") from err
        tasks[column] = task
        across = "" if group is None else f", across values of {group}"
        notes.append(
            f"{column}: {len(task.classes)} classes ({', '.join(task.classes[:40])}) in {len(task.index):,} utterances"
            f"{across}; intervals over utterances"
        )
    figures = {column: Figure(f"{column}, accuracy", 1 / len(task.classes)) for column, task in tasks.items()}
    last: tuple[str, np.ndarray] | None = None
    for name, some in vectors:
        for column, task in tasks.items():
            figures[column].values[name] = task.estimate(some, settings.num_samples, settings.seed)
        last = name, some
    points = None if last is None else _map(*last, speech.languages, config)
    wall_s = time.monotonic() - clock
    return Findings("probes", [*figures.values()], [*notes, *_unread(speech)], wall_s, points=points)


_SUITES: dict[str, Callable[[EvaluateConfig], Findings]] = {
    "retrieval": run_retrieval,
    "probes": run_probes,
    "phones": run_phones,
}


def _vectors(config: EvaluateConfig, choose: Chooser) -> tuple[Speech, Named]:
    if config.evaluate.table_uri is None:
        speech = read_source(config, choose)
        return speech, contenders.vectors(speech, config)
    speech, vectors = read_table(config, choose)
    return speech, [("duration", baselines.duration_angles(speech.durations_s)), *vectors]


def _with_items(column: str, most: int) -> Chooser:
    """Rows of evenly spaced items."""

    def choose(speech: Speech) -> list[int]:
        items = speech.column(column, "retrieval.item_column")
        known = sorted({item for item in items if item})
        kept = {known[place] for place in spread(range(len(known)), most)}
        return [row for row, item in enumerate(items) if item in kept]

    return choose


def _merit(name: str, found: Retrieval) -> tuple[int, float]:
    """What is shown as pictures: the best layer of the model, else of random weights, else whatever is best."""
    kinds = contenders.MODEL, contenders.RANDOM
    rank = next((2 - place for place, kind in enumerate(kinds) if name.startswith(f"{kind},")), 0)
    return rank, found.recall.value


def _unread(speech: Speech) -> list[str]:
    return [f"{speech.num_unread:,} utterances could not be read"] if speech.num_unread else []


def _reciprocal_rank_of_chance(parallel: Parallel) -> float:
    return float(np.mean([(1 / np.arange(1, len(items) + 1)).mean() for *_, items in parallel.pairs()]))


def _map(name: str, vectors: np.ndarray, languages: list[str], config: EvaluateConfig) -> Map | None:
    """Vectors in a plane by t-SNE, for the page only: it takes seconds."""
    if config.evaluate.html_uri is None or len(vectors) < 4:
        return None
    rows = spread(range(len(vectors)), _MOST_POINTS)
    chosen = vectors[rows].astype(np.float64)
    chosen = (chosen - chosen.mean(0)) / np.maximum(chosen.std(0), 1e-9)
    if chosen.shape[1] > _PLAIN_COMPONENTS:
        chosen = PCA(min(_PLAIN_COMPONENTS, *chosen.shape), random_state=0).fit_transform(chosen)
    perplexity = min(30.0, (len(rows) - 1) / 3)
    points = TSNE(random_state=config.evaluate.seed, perplexity=perplexity).fit_transform(chosen)
    return Map(name, points, [languages[row] for row in rows])
