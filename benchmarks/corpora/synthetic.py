"""Synthetic speech in more than 100 languages, with the time of every phone: espeak-ng reads parallel texts."""

import zlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import soundfile
import soxr

from benchmarks.audio import RATE_HZ
from benchmarks.corpora import espeak
from benchmarks.corpora.manifest import Row
from benchmarks.corpora.texts import Text, numbers, read_declarations

UNSEEN = ("cat", "ell", "hun", "kat", "tam")
_TEST_LANGUAGES = (
    "bul", "ces", "deu", "eng", "est", "eus", "fin", "fra", "hin", "ind", "ita", "lav", "nld", "pol", "por", "ron",
    "rus", "spa", "swa", "swe", "tur", "ukr", "vie", *UNSEEN,
)  # fmt: skip
_FICTIONAL = {"piqd", "py", "qdb", "qya", "sjn"}
_LEFT_OUT = {"cmn-Latn-pinyin", "fa-Latn", "yue-Latn-jyutping", "chr", "my"}  # other scripts; one spells, one crashes
_TRAIN_VOICES = (
    "m1",
    "m2",
    "m3",
    "m4",
    "m6",
    "m7",
    "f1",
    "f2",
    "f4",
    "klatt2",
    "klatt4",
    "Andy",
    "Annie",
    "Mario",
    "anika",
    "steph",
)
_TEST_VOICES = ("m5", "m8", "f3", "f5", "klatt3", "linda")
_TEST_ARTICLE = 22  # paragraphs from this article on, and every third number, are for the test
_PEAKS = (0.05, 0.9)
_SNR_DB = (10.0, 40.0)


@dataclass(frozen=True, slots=True)
class Language:
    """One voice language of espeak-ng: its codes, and texts to say."""

    voice: str
    iso: str
    texts: list[Text]


@dataclass(frozen=True, slots=True)
class Made:
    """Utterances of one language.

    Args:
        train: to train on.
        test: other texts by other voices.
        phones: lines of CTM (NIST): utterance, channel, start and duration in seconds, phone; of the test.
    """

    train: list[Row] = field(default_factory=list)
    test: list[Row] = field(default_factory=list)
    phones: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is made, and where.

    Args:
        root: of the unpacked packages.
        folder: of the corpus.
        minutes: of training speech in each voice of espeak-ng.
        test_utterances: in each language of the test.
    """

    root: Path
    folder: Path
    minutes: float
    test_utterances: int


def synthesise(plan: Plan, languages: list[Language], processes: int) -> list[Made]:
    """Make all of them; the same on every machine with the same espeak-ng.

    Each language has a process of its own: what the library says depends on what it has said before.
    """
    with ProcessPoolExecutor(processes, get_context("spawn"), max_tasks_per_child=1) as pool:
        return list(pool.map(partial(_make, plan), languages))


def list_languages(root: Path, declarations: Path, codes: dict[str, str]) -> list[Language]:
    """What is said with each voice."""
    texts = read_declarations(declarations)
    return [
        Language(voice, iso, [*texts.get(voice.split("-")[0], []), *numbers()])
        for voice, iso in list_voices(root, codes)
    ]


def list_voices(root: Path, codes: dict[str, str]) -> list[tuple[str, str]]:
    """Voices of natural and spoken constructed languages that espeak-ng has, and their ISO 639-3 codes."""
    found: list[tuple[str, str]] = []
    for path in sorted(next(root.glob("usr/lib/*/espeak-ng-data/lang")).rglob("*")):
        base = path.name.split("-")[0]
        if path.is_file() and base not in _FICTIONAL and path.name not in _LEFT_OUT:
            found.append((path.name, codes.get(base, base)))
    return found


def _make(plan: Plan, language: Language) -> Made:
    made = Made()
    rng = np.random.default_rng(zlib.crc32(language.voice.encode()))
    parts: dict[bool, list[Text]] = {True: [], False: []}
    for number, text in enumerate(language.texts):
        parts[_is_test(number, text)].append(text)
    (plan.folder / language.iso).mkdir(parents=True, exist_ok=True)
    if language.iso not in UNSEEN:
        seconds = 0.0
        for text in _again(parts[False], rng):
            if seconds >= plan.minutes * 60:
                break
            path = f"{language.iso}/train-{language.voice}-{len(made.train):04}.flac"
            if (spoken := _speak(plan, path, language, text, _TRAIN_VOICES, rng)) is not None:
                made.train.append(spoken[0])
                seconds += spoken[0].duration_s
    if language.iso in _TEST_LANGUAGES and "-" not in language.voice:
        for text in _again(parts[True], rng, passes=1):
            if len(made.test) == plan.test_utterances:
                break
            path = f"{language.iso}/test-{language.voice}-{len(made.test):04}.flac"
            if (spoken := _speak(plan, path, language, text, _TEST_VOICES, rng)) is not None:
                made.test.append(spoken[0])
                made.phones.extend(_ctm(spoken[0], spoken[1]))
    return made


def _is_test(number: int, text: Text) -> bool:
    kind, *place = text.parallel_id.split(":")
    if kind == "number":
        return int(place[0]) % 3 == 0
    return int(place[0]) >= _TEST_ARTICLE if place else number % 4 == 0


def _again(texts: list[Text], rng: np.random.Generator, passes: int = 6) -> Iterator[Text]:
    """Texts in random order, several times: each time another voice says them."""
    for _ in range(passes):
        for place in rng.permutation(len(texts)):
            yield texts[place]


def _speak(
    plan: Plan, path: str, language: Language, text: Text, voices: tuple[str, ...], rng: np.random.Generator
) -> tuple[Row, list[tuple[float, str]]] | None:
    """One utterance in a file, unless espeak-ng changes to another language for a part of it."""
    speaker = voices[int(rng.integers(len(voices)))]
    spoken = _library(plan.root).say(
        text.text,
        f"{language.voice}+{speaker}",
        words_per_minute=int(rng.integers(110, 200)),
        pitch=int(rng.integers(30, 70)),
        pitch_range=int(rng.integers(30, 80)),
    )
    if any(symbol.startswith("(") for _, symbol in spoken.phones) or len(spoken.samples) < spoken.rate_hz / 4:
        return None
    waveform = _recorded(soxr.resample(spoken.samples.astype(np.float32), spoken.rate_hz, RATE_HZ), rng)
    soundfile.write(plan.folder / path, waveform, RATE_HZ, subtype="PCM_16")
    words = " ".join(text.text.split())
    return Row(path, language.iso, text.parallel_id, speaker, len(waveform) / RATE_HZ, words), spoken.phones


def _ctm(row: Row, phones: list[tuple[float, str]]) -> Iterator[str]:
    ends = [*(start for start, _ in phones[1:]), row.duration_s]
    for (start, symbol), end in zip(phones, ends, strict=True):
        if symbol and end > start:
            yield f"{row.path} 1 {start:.3f} {end - start:.3f} {symbol}\n"


def _recorded(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As if from some microphone somewhere: a level, and noise with a spectrum that falls or does not."""
    noise = rng.standard_normal(len(waveform)).astype(np.float32)
    if rng.random() < 0.5:
        noise = np.convolve(noise, np.exp(-np.arange(24) / rng.uniform(1, 8)), "same").astype(np.float32)
    level = np.sqrt((waveform**2).mean() / (noise**2).mean()) * 10 ** (-rng.uniform(*_SNR_DB) / 20)
    mixed = waveform + level * noise
    return mixed * (np.exp(rng.uniform(*np.log(_PEAKS))) / np.abs(mixed).max())


@cache
def _library(root: Path) -> espeak.Espeak:
    return espeak.Espeak(root)
