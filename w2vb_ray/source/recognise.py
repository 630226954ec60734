"""What `source.format: auto` takes a source for, and by what."""

from typing import NamedTuple

from w2vb_ray.config.sections import SourceSection
from w2vb_ray.source import common_voice, kaldi, lhotse, nemo, parquet, shar, webdataset
from w2vb_ray.source.peek import Peek

_FORMATS = {
    "shar": shar.recognises,
    "webdataset": webdataset.recognises,
    "parquet": parquet.recognises,
    "kaldi": kaldi.recognises,
    "lhotse": lhotse.recognises,
    "common_voice": common_voice.recognises,
    "nemo": nemo.recognises,
}
"""Format -> a function that says by what a source is recognised as one, or None. The first that says it is taken."""


class Guess(NamedTuple):
    """A format, and by what it was recognised."""

    format: str
    evidence: str

    def __str__(self) -> str:
        return f"{self.format}, because of {self.evidence}" if self.evidence else self.format


def recognise(section: SourceSection) -> Guess:
    """The format of a source, from its name, the names beside it and the columns of its first table.

    Raises:
        SourceError: the store cannot be asked.
    """
    if section.inventory_uri is not None:
        return Guess("folder", "source.inventory_uri")
    peek = Peek(section)
    for name, recognises in _FORMATS.items():
        if evidence := recognises(peek):
            return Guess(name, evidence)
    if peek.is_table:
        return Guess("manifest", "the end of its name")
    return Guess("folder", "")
