"""The suite `phones`: what frames of 20 ms say of phones, their boundaries and speech in noise."""

import time
from collections.abc import Sequence

import numpy as np

from w2vb_ray import storage
from w2vb_ray.audio.features import log_mel
from w2vb_ray.config.evaluate import EvaluateConfig
from w2vb_ray.errors import SourceError
from w2vb_ray.evaluate import contenders, phone_probe
from w2vb_ray.evaluate.abx import Abx
from w2vb_ray.evaluate.alignment import Phones, match, parse_ctm
from w2vb_ray.evaluate.estimates import Figure
from w2vb_ray.evaluate.findings import Findings
from w2vb_ray.evaluate.phone_probe import PhoneProbe
from w2vb_ray.evaluate.segmentation import Segmentation
from w2vb_ray.evaluate.speech import Speech, read_source, spread
from w2vb_ray.evaluate.speech_activity import Noisy, SpeechActivity, make_noisy

_NOISY_UTTERANCES = 60  # of the training part, and as many of the other
_MIN_PHONES = 3


def run_phones(config: EvaluateConfig) -> Findings:
    """Measure frames.

    Raises:
        UserError: the source, the alignment or the checkpoint cannot be used.
    """
    clock = time.monotonic()
    aligned = _read_alignment(config)
    speech = read_source(config, lambda found: _chosen(found, aligned, config.phones.max_utterances))
    phones = [one for one in _phones(speech, aligned) if one is not None]
    parts = _parts(speech.languages, config)
    is_train = [part == phone_probe.TRAIN for part in parts]
    probe = PhoneProbe.of(phones, parts, speech.languages, config.phones.max_frames, config.evaluate.seed)
    figures = [*_clean(speech, phones, probe, is_train, config), *_noisy(speech, phones, is_train, config)]
    notes = [
        f"{len(phones):,} utterances with phones in {len(set(speech.languages))} languages, {sum(is_train):,} of them "
        f"to train on; languages no classifier is trained on: {', '.join(config.phones.unseen_languages) or 'none'}",
        f"classifiers know {len(probe.inventory)} phones, {probe.coverage:.0%} of the frames of other languages",
        *([f"{speech.num_unread:,} utterances could not be read"] if speech.num_unread else []),
    ]
    return Findings("phones", [one for one in figures if one.values], notes, time.monotonic() - clock)


def _clean(
    speech: Speech, phones: list[Phones], probe: PhoneProbe, is_train: list[bool], config: EvaluateConfig
) -> list[Figure]:
    settings, languages = config.evaluate, speech.languages
    segmentation = Segmentation([one.boundaries() for one in phones], is_train, languages)
    held = [index for index, train in enumerate(is_train) if not train]
    chosen, of_chosen = [phones[index] for index in held], [languages[index] for index in held]
    triples = Abx.of(chosen, of_chosen, config.phones.num_triples, settings.seed)
    seen = Figure("phone, seen languages", probe.chance(phone_probe.SEEN))
    unseen = Figure("phone, other languages", probe.chance(phone_probe.UNSEEN))
    f1_of_chance, r_of_chance = segmentation.chance()
    f1, value = Figure("boundaries, F1", f1_of_chance), Figure("boundaries, R-value", r_of_chance)
    errors = {
        condition: Figure(f"ABX error, {condition}", 0.5, higher_is_better=False) for condition in triples.triples
    }
    places = {index: place for place, index in enumerate(held)}
    assert speech.waveforms is not None
    for frames in contenders.frames(speech.waveforms, config):
        for name, index, states in frames:
            probe.add(name, index, states)
            segmentation.add(name, index, states)
            if index in places:
                triples.add(name, places[index], states)
        for part, found in probe.estimates(settings.num_samples, settings.seed).items():
            (seen if part == phone_probe.SEEN else unseen).values.update(found)
        for name, (one, other) in segmentation.estimates(settings.num_samples, settings.seed).items():
            f1.values[name], value.values[name] = one, other
        for condition, found in triples.estimates(settings.num_samples, settings.seed).items():
            errors[condition].values.update(found)
    return [seen, unseen, *errors.values(), f1, value]


def _noisy(speech: Speech, phones: list[Phones], is_train: list[bool], config: EvaluateConfig) -> list[Figure]:
    settings = config.evaluate
    noisy = _make_noisy(speech, phones, is_train, config)
    activity = SpeechActivity(noisy)
    levels = config.phones.snr_db
    areas = {level: Figure(f"speech in noise, {level:g} dB, AUC", 0.5) for level in levels}
    scores = {level: Figure(f"speech in noise, {level:g} dB, F1", activity.chance_f1()) for level in levels}
    waveforms = [one.waveform for one in noisy]
    for index, waveform in enumerate(waveforms):
        activity.add("energy", index, _energy(waveform))
    for frames in contenders.frames(waveforms, config):
        for name, index, states in frames:
            activity.add(name, index, states)
        for level, found in activity.estimates(settings.num_samples, settings.seed).items():
            for name, (area, score) in found.items():
                areas[level].values[name], scores[level].values[name] = area, score
    return [*areas.values(), *scores.values()]


def _make_noisy(speech: Speech, phones: list[Phones], is_train: list[bool], config: EvaluateConfig) -> list[Noisy]:
    rng = np.random.default_rng(config.evaluate.seed)
    assert speech.waveforms is not None
    chosen = [
        row
        for train in (True, False)
        for row in spread([row for row, one in enumerate(is_train) if one == train], _NOISY_UTTERANCES)
    ]
    return [
        make_noisy(speech.waveforms[row], phones[row], level, speech.languages[row], is_train=is_train[row], rng=rng)
        for row in chosen
        for level in config.phones.snr_db
    ]


def _energy(waveform: np.ndarray) -> np.ndarray:
    """(T, 1) mean of log-mel bands, standardised over the utterance."""
    mean = log_mel(waveform).mean(1)
    frames = mean[: len(mean) // 2 * 2].reshape(-1, 2).mean(1, keepdims=True)
    return (frames - frames.mean()) / max(float(frames.std()), 1e-6)


def _read_alignment(config: EvaluateConfig) -> dict[str, Phones]:
    uri = str(config.phones.alignment_uri)
    try:
        data = storage.read_small(uri, config.phones.storage)
    except storage.STORE_ERRORS as err:
        raise SourceError(f"phones.alignment_uri must be a file that can be read, but is {uri} ({err})") from err
    if data is None:
        raise SourceError(f"phones.alignment_uri must be a file that can be read, but there is no {uri}")
    return parse_ctm(data.decode("utf-8", "replace"), uri)


def _phones(speech: Speech, aligned: dict[str, Phones]) -> list[Phones | None]:
    names = zip(speech.table["utterance_id"].to_pylist(), speech.table["audio_uri"].to_pylist(), strict=True)
    return [match(aligned, *name) for name in names]


def _chosen(speech: Speech, aligned: dict[str, Phones], most: int) -> list[int]:
    rows = [
        row for row, one in enumerate(_phones(speech, aligned)) if one is not None and len(one.names) >= _MIN_PHONES
    ]
    if len(rows) < 2:
        raise SourceError(
            f"phones.alignment_uri must name utterances of {speech.uri}, by their ids or the ends of their paths, but "
            f"names {len(rows)} of {speech.table.num_rows:,}; its first is {next(iter(aligned), 'empty')}"
        )
    return spread(rows, most)


def _parts(languages: Sequence[str], config: EvaluateConfig) -> list[str]:
    """Every second utterance of a language is for training, unless the language is held out."""
    count: dict[str, int] = {}
    parts: list[str] = []
    for language in languages:
        count[language] = count.get(language, 0) + 1
        if language in config.phones.unseen_languages:
            parts.append(phone_probe.UNSEEN)
        else:
            parts.append(phone_probe.TRAIN if count[language] % 2 else phone_probe.SEEN)
    if phone_probe.SEEN not in parts:
        raise SourceError("phones.unseen_languages must leave languages with two utterances or more to train on")
    return parts
