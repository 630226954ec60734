"""Inventories: what utterances a source holds. One row each, before a byte of audio is read."""

from w2vb_ray.config.sections import SourceSection
from w2vb_ray.errors import SourceError
from w2vb_ray.source import common_voice, folder, kaldi, lhotse, manifest, parquet, shar, webdataset
from w2vb_ray.source.access import NothingThere
from w2vb_ray.source.inventory import Batch, Inventory
from w2vb_ray.source.recognise import recognise
from w2vb_ray.source.rows import Pieces, Rows

__all__ = ["Batch", "Inventory", "build_inventory"]


def build_inventory(section: SourceSection) -> Inventory:
    """List every utterance of the source; `auto` recognises the format.

    Raises:
        SourceError: the source as a whole cannot be read, or holds no utterance.
        ConfigError: an unknown protocol or a malformed path template.
    """
    if section.format != "auto":
        return _inventory(section)
    guess = recognise(section)
    try:
        return _inventory(section.model_copy(update={"format": guess.format}))
    except NothingThere:
        raise
    except SourceError as err:
        raise SourceError(
            f"{err} (`source.format: auto` took it for {guess}; set another to read it as that.)"
        ) from err


def _inventory(section: SourceSection) -> Inventory:
    rows = _read(section)
    return Inventory(rows, section, rows.num_skipped, rows.format)


def _read(section: SourceSection) -> Rows | Pieces:
    if section.inventory_uri is not None and section.format != "folder":
        raise SourceError(f"`source.inventory_uri` lists a folder of audio, but `source.format` is {section.format}.")
    match section.format:
        case "kaldi":
            return kaldi.read(section)
        case "lhotse":
            return lhotse.read(section)
        case "common_voice":
            return common_voice.read(section)
        case "nemo":
            return manifest.read(section, manifest.NEMO)
        case "manifest":
            return manifest.read(section)
        case "webdataset":
            return webdataset.read(section)
        case "parquet":
            return parquet.read(section)
        case "shar":
            return shar.read(section)
        case _:
            return folder.read(section)
