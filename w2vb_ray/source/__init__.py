"""Inventories: what utterances a source holds. One row each, before a byte of audio is read."""

from w2vb_ray.config.sections import SourceSection
from w2vb_ray.errors import SourceError
from w2vb_ray.source import common_voice, folder, kaldi, lhotse, manifest
from w2vb_ray.source.access import NothingThere
from w2vb_ray.source.inventory import assemble
from w2vb_ray.source.recognise import recognise
from w2vb_ray.source.rows import Inventory, Rows

__all__ = ["Inventory", "build_inventory"]


def build_inventory(section: SourceSection) -> Inventory:
    """List every utterance of the source; `auto` recognises the format.

    Raises:
        SourceError: the source as a whole cannot be read, or holds no utterance.
        ConfigError: an unknown protocol or a malformed path template.
    """
    if section.format != "auto":
        return assemble(_read(section), section)
    guess = recognise(section)
    try:
        return assemble(_read(section.model_copy(update={"format": guess.format})), section)
    except NothingThere:
        raise
    except SourceError as err:
        raise SourceError(
            f"{err} (`source.format: auto` took it for {guess}; set another to read it as that.)"
        ) from err


def _read(section: SourceSection) -> Rows:
    if section.inventory_uri is not None and section.format != "folder":
        raise SourceError(f"`source.inventory_uri` lists a folder of audio, but `source.format` is {section.format}.")
    match section.format:
        case "kaldi":
            return kaldi.read(section)
        case "lhotse":
            return lhotse.read(section)
        case "common_voice":
            return common_voice.read(section)
        case "manifest" | "nemo":
            return manifest.read(section)
        case _:
            return folder.read(section)
