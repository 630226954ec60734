import subprocess
import sys
from typing import get_args

import pytest
from pydantic import BaseModel

from w2vb_ray.config import EmbedConfig
from w2vb_ray.config.section import Section


def _sections(config_type):
    """Every section of a config, by name; the config itself is the empty name."""
    found = {"": config_type}
    for name, field in config_type.model_fields.items():
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                found[name] = kind
    return found


SECTIONS = _sections(EmbedConfig)


@pytest.mark.parametrize("name", SECTIONS)
def test_sections_are_frozen_closed_and_documented(name):
    section = SECTIONS[name]
    assert issubclass(section, Section)
    assert (section.model_config["frozen"], section.model_config["extra"]) == (True, "forbid")
    assert section.__doc__
    if name:
        assert [key for key, field in section.model_fields.items() if not field.description] == []


def test_every_section_but_source_and_sink_has_only_defaults():
    required = {
        f"{name}.{key}"
        for name, section in SECTIONS.items()
        for key, field in section.model_fields.items()
        if field.is_required()
    }
    assert required == {".source", ".sink", "source.uri", "sink.uri"}


def test_the_config_knows_neither_torch_nor_ray():
    code = (
        "import sys, w2vb_ray.config; print(sorted({'torch', 'ray', 'transformers', 'deltalake'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
