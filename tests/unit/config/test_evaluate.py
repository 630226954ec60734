import pytest
from pydantic import BaseModel, ValidationError

from w2vb_ray.config import load_config, show_config, yaml12
from w2vb_ray.config.evaluate import EvaluateConfig
from w2vb_ray.config.section import Section
from w2vb_ray.errors import ConfigError


@pytest.fixture
def empty(tmp_path):
    path = tmp_path / "empty.yaml"
    path.write_text("# nothing\n", encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("name", sorted(EvaluateConfig.model_fields.keys() - {"source"}))  # which has no default
def test_sections_are_frozen_closed_documented_and_have_defaults(name):
    section = EvaluateConfig.model_fields[name].annotation
    assert issubclass(section, Section)
    assert issubclass(section, BaseModel)
    assert section.__doc__
    assert [key for key, field in section.model_fields.items() if not field.description or field.is_required()] == []


def test_everything_has_a_default_and_what_is_shown_loads_again(empty, tmp_path):
    config = load_config(EvaluateConfig, empty)
    assert config == EvaluateConfig()
    assert (config.evaluate.suite, config.selfcheck.num_trials, config.selfcheck.max_duration_s) == (
        "selfcheck",
        12,
        40,
    )
    shown = tmp_path / "shown.yaml"
    shown.write_text(show_config(config), encoding="utf-8")
    assert load_config(EvaluateConfig, str(shown)) == config


def test_stores_keep_their_secrets(empty):
    options = ["evaluate.storage", "evaluate.table_storage", "phones.storage", "source.storage", "encoder.storage"]
    config = load_config(EvaluateConfig, empty, ["source.uri=x", *(f"{key}={{secret: hunter2}}" for key in options)])
    shown = yaml12.parse(show_config(config))
    for key in options:
        section, name = key.split(".")
        assert shown[section][name] == {"secret": "***"}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("selfcheck.num_trial=3", r"selfcheck.num_trial: unknown option; did you mean 'selfcheck.num_trials'\?"),
        ("evaluate.num_trials=3", r"did you mean 'selfcheck.num_trials'\?"),
        ("selfcheck.num_trials=0", "selfcheck.num_trials: .* greater than 0, but is 0"),
        ("selfcheck.max_duration_s=0.5", "selfcheck.max_duration_s: .*, but is 0.5"),
        ("evaluate.suite=probe", "evaluate.suite: .*'phones' or 'all', but is 'probe'"),
        ("evaluate.suite=retrieval", "needs either source.uri or evaluate.table_uri"),
        ("evaluate.suite=phones", "needs either source.uri or evaluate.table_uri"),
    ],
)
def test_a_mistake_names_the_key(empty, override, message):
    with pytest.raises(ConfigError, match=message):
        load_config(EvaluateConfig, empty, [override])


def test_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        EvaluateConfig().selfcheck = None


def test_phones_need_an_alignment(empty):
    with pytest.raises(ConfigError, match=r"evaluate\.suite phones needs source\.uri and phones\.alignment_uri"):
        load_config(EvaluateConfig, empty, ["evaluate.suite=phones", "source.uri=x"])
