"""What the files under `conf/` and the keys of the public contract promise."""

import re
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from w2vb_ray.config import EmbedConfig, load_config, yaml12
from w2vb_ray.config.evaluate import EvaluateConfig
from w2vb_ray.config.export import ExportConfig
from w2vb_ray.config.maintain import MaintainConfig
from w2vb_ray.config.pretrain import PretrainConfig

ROOT = Path(__file__).parents[2]
CONFIGS = {
    "embed": EmbedConfig,
    "evaluate": EvaluateConfig,
    "export": ExportConfig,
    "maintain": MaintainConfig,
    "pretrain": PretrainConfig,
}  # a job's folder under conf/ -> its config
NOT_CONFIGS = {"deploy"}  # manifests of other programs
FILES = sorted(
    path for path in (ROOT / "conf").glob("*/**/*.yaml") if path.relative_to(ROOT).parts[1] not in NOT_CONFIGS
)


def job_of(path):
    return path.relative_to(ROOT / "conf").parts[0]


def name_of(path):
    return str(path.relative_to(ROOT))


def test_every_folder_of_configs_is_a_job():
    folders = {path.name for path in (ROOT / "conf").iterdir()} - NOT_CONFIGS
    assert folders == set(CONFIGS)
    assert {job_of(path) for path in FILES} == folders
    assert all((ROOT / "jobs" / f"{folder}.py").is_file() for folder in folders)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_loads_and_says_what_it_is_for(path):
    load_config(CONFIGS[job_of(path)], str(path))
    assert path.read_text(encoding="utf-8").startswith("# ")


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_names_only_what_differs_from_the_defaults(path):
    values = yaml12.parse(path.read_text(encoding="utf-8")) or {}
    assert list(_defaults_repeated(CONFIGS[job_of(path)], values)) == []


def _defaults_repeated(section, values, prefix=""):
    for key, value in values.items():
        field = section.model_fields[key]
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _defaults_repeated(field.annotation, value, f"{prefix}{key}.")
        elif not field.is_required() and field.get_default(call_default_factory=True) == value:
            yield f"{prefix}{key}"


def test_a_repeated_default_would_be_found():
    assert list(_defaults_repeated(EmbedConfig, {"sink": {"uri": "x", "frames": False}})) == ["sink.frames"]


FIXED_KEYS = """
source.uri source.format source.storage source.language
encoder.checkpoint encoder.precision encoder.device encoder.layers
pooling.method batching.max_frames
plan.unit_audio_s plan.unit_utterances
cluster.address cluster.num_encoders
sink.uri sink.frames sink.max_reject_fraction sink.lease_s
"""
FIXED_VALUES = {
    "source.format": {"auto", "folder", "manifest"},
    "encoder.precision": {"fp32", "bf16", "fp16", "int8", "auto"},
    "encoder.device": {"auto", "cpu", "cuda"},
    "pooling.method": {"mean", "mean_std", "max", "attention"},
}
FIXED_DEFAULTS = {
    "source.format": "auto",
    "encoder.device": "auto",
    "encoder.layers": [-1],
    "pooling.method": "mean",
    "cluster.address": "local",
    "sink.frames": False,
    "sink.max_reject_fraction": 0.01,
}


def field_of(dotted):
    section, key = dotted.split(".")
    return EmbedConfig.model_fields[section].annotation.model_fields[key]


@pytest.mark.parametrize("key", FIXED_KEYS.split())
def test_the_fixed_keys_of_the_contract_are_there(key):
    field = field_of(key)
    assert field.is_required() == (key in ("source.uri", "sink.uri"))
    if key in FIXED_DEFAULTS:
        assert field.default == FIXED_DEFAULTS[key]
    if key in FIXED_VALUES:
        alternatives = get_args(field.annotation)  # values, or types that have them
        assert {value for one in alternatives for value in get_args(one) or [one]} >= FIXED_VALUES[key]


def test_command_lines_in_comments_name_existing_files():
    for path in FILES:
        for named in re.findall(r"conf/\S+\.yaml", path.read_text(encoding="utf-8")):
            assert (ROOT / named).is_file(), f"{name_of(path)} names {named}"
