"""Inventories: what utterances a source holds. One row each, before a byte of audio is read."""

from w2vb_ray.config.sections import SourceSection
from w2vb_ray.source import folder, manifest, parquet, tabular, webdataset
from w2vb_ray.source.inventory import assemble
from w2vb_ray.source.rows import Inventory

__all__ = ["Inventory", "build_inventory"]


def build_inventory(section: SourceSection) -> Inventory:
    """List every utterance of the source; `auto` reads a table file as a manifest and all else as a folder of audio.

    Raises:
        SourceError: the source as a whole cannot be read, or holds no utterance.
        ConfigError: an unknown protocol or a malformed path template.
    """
    source_format = section.format
    if source_format == "auto":
        source_format = "manifest" if tabular.kind_of(section.uri) else "folder"
    match source_format:
        case "folder":
            rows = folder.read(section)
        case "manifest":
            rows = manifest.read(section)
        case "webdataset":
            rows = webdataset.read(section)
        case "parquet":
            rows = parquet.read(section)
    return assemble(rows, section)
