"""Recordings of people: spoken picture descriptions of Tux Paint's stamps, less those that an evaluation uses."""

import hashlib
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

import soundfile

from benchmarks.corpora.manifest import Row

PACKAGE = "tuxpaint-stamps-default"  # Debian, GPL-2
_STAMPS = "usr/share/tuxpaint/stamps"
_NAME = re.compile(r"(.+?)(?:_desc)?(?:_([a-z]{2})(?:[_-]([A-Za-z]+))?)?\.(ogg|wav)$")
_MIN_S = 0.4
_CHINESE = "zh"


def copy_recordings(
    root: Path, folder: Path, codes: dict[str, str], left_out: set[str], unseen: Iterable[str]
) -> list[Row]:
    """Copy what may be trained on.

    Args:
        root: of the unpacked package.
        folder: of the corpus.
        codes: ISO 639-3 by two letters.
        left_out: SHA-256 of recordings that stay out.
        unseen: languages (ISO 639-3) that stay out.
    """
    rows: list[Row] = []
    known = set(left_out)
    for path in sorted((root / _STAMPS).rglob("*")):
        if not path.is_file() or (match := _NAME.match(path.name)) is None:
            continue
        if "_desc" not in path.name and "symbols" not in path.parts:
            continue  # what an animal says, not what a person does
        two = match[2] or "en"
        language = "cmn" if two == _CHINESE else codes.get(two)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if language is None or language in unseen or digest in known:
            continue
        try:
            duration_s = soundfile.info(path).duration
        except soundfile.SoundFileError:
            continue
        if duration_s < _MIN_S:
            continue
        known.add(digest)
        name = f"{language}/tuxpaint-{'-'.join(path.relative_to(root / _STAMPS).parts)}"
        (folder / language).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / name)
        rows.append(Row(name, language, f"tuxpaint:{match[1]}", f"tuxpaint-{two}", duration_s))
    return rows


def digests(manifest: Path) -> set[str]:
    """SHA-256 of every recording of a manifest."""
    lines = manifest.read_text(encoding="utf-8").splitlines()
    place = lines[0].split("\t").index("path")
    paths = (manifest.parent / line.split("\t")[place] for line in lines[1:])
    return {hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
