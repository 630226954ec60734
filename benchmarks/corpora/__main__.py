"""A corpus to train a multilingual model on and to measure it with: synthetic speech, and recordings of people.

`python -m benchmarks.corpora FOLDER [--minutes 6] [--evaluation MANIFEST ...]`

Writes audio, `train.tsv` and `test.tsv` (manifests for `source.uri`), and `test.ctm` with the phones of the test. The
test has other texts, other voices, and languages that the training part lacks. Recordings of people are for training;
those of a manifest of `--evaluation` stay out. Needs `apt-get`, `dpkg` and `npm`, and installs nothing.

One formant synthesiser says it all in every language: what transfers between its languages is more than what would
between recordings. Measure on recordings too.
"""

import argparse
from pathlib import Path

from benchmarks.corpora import espeak, manifest, tuxpaint
from benchmarks.corpora.packages import unpack_debian, unpack_npm
from benchmarks.corpora.synthetic import UNSEEN, Plan, list_languages, synthesise
from benchmarks.corpora.texts import CODES, DECLARATIONS, read_codes

_SAMPLE = Path("tests/data/speech/manifest.tsv")


def main() -> None:
    """Make the corpus."""
    options = _parse()
    options.folder.mkdir(parents=True, exist_ok=True)
    root = unpack_debian([*espeak.PACKAGES, CODES, tuxpaint.PACKAGE], options.cache)
    codes = read_codes(root)
    languages = list_languages(root, unpack_npm(DECLARATIONS, options.cache), codes)
    if options.languages is not None:
        languages = [language for language in languages if language.iso in options.languages]
    plan = Plan(root, options.folder, options.minutes, options.test_utterances)
    made = synthesise(plan, languages, options.processes)
    left_out = {digest for path in options.evaluation for digest in tuxpaint.digests(path)}
    recorded = tuxpaint.copy_recordings(root, options.folder, codes, left_out, UNSEEN)
    manifest.write(options.folder / "train.tsv", [*(row for one in made for row in one.train), *recorded])
    manifest.write(options.folder / "test.tsv", [row for one in made for row in one.test])
    phones = "".join(line for one in made for line in one.phones)
    (options.folder / "test.ctm").write_text(phones, encoding="utf-8")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.corpora", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=6, help="of synthetic training speech per voice (6)")
    parser.add_argument("--test-utterances", type=int, default=40, help="in each language of the test (40)")
    parser.add_argument("--languages", nargs="+", help="of the synthetic part, ISO 639-3; by default all")
    parser.add_argument("--evaluation", type=Path, nargs="+", default=[_SAMPLE], help="manifests whose audio stays out")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--cache", type=Path, default=Path(".cache/corpora"), help="where packages are kept")
    return parser.parse_args()


if __name__ == "__main__":
    main()
