import pytest
from pydantic import ValidationError

from w2vb_ray.config import EmbedConfig, load_config, show_config, yaml12
from w2vb_ray.errors import ConfigError

from .conftest import MINIMAL


def test_a_file_names_only_what_differs(load):
    config = load("source: {uri: audio, language: no}\nsink: {uri: tables}\nbatching: {max_frames: 3e3}\n")
    assert config.source.language == "no"
    assert config.batching.max_frames == 3000
    assert config.model_copy(update={"source": None, "batching": None}) == load().model_copy(
        update={"source": None, "batching": None}
    )


def test_the_same_object_cannot_be_changed(load):
    config = load()
    for section, key in ((config, "source"), (config.sink, "uri"), (config.encoder, "layers")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(section, key, "x")


def test_two_configs_do_not_share_their_defaults(load):
    load().encoder.layers.append(3)
    assert load().encoder.layers == [-1]


OVERRIDES = {
    "encoder.layers=[4, 8]": lambda c: c.encoder.layers == [4, 8],
    "encoder.layer_weights=[2]": lambda c: c.encoder.layer_weights == [2.0],
    "pooling.method=max": lambda c: (c.pooling.method, c.pooling.methods) == ("max", ["max"]),
    "pooling.method=[max]": lambda c: (c.pooling.method, c.pooling.methods) == (["max"], ["max"]),
    "pooling.method=[mean, attention]": lambda c: c.pooling.methods == ["mean", "attention"],
    "pooling.normalise=true": lambda c: c.pooling.normalise is True,
    "source.language=no": lambda c: c.source.language == "no",
    "source.language=": lambda c: c.source.language is None,
    "source.language=null": lambda c: c.source.language is None,
    "source.language='null'": lambda c: c.source.language == "null",
    "source.language=010": lambda c: c.source.language == "010",
    "source.uri=[a*].wav": lambda c: c.source.uri == "[a*].wav",
    "source.uri=s3://b/a=b": lambda c: c.source.uri == "s3://b/a=b",
    "source.uri={a,b}.wav": lambda c: c.source.uri == "{a,b}.wav",
    "source.uri=*.wav": lambda c: c.source.uri == "*.wav",
    "source.uri=@x": lambda c: c.source.uri == "@x",
    "source.columns={audio: path}": lambda c: c.source.columns == {"audio": "path"},
    "source.columns.audio=path": lambda c: c.source.columns == {"audio": "path"},
    "source.storage.client_kwargs.region_name=eu": lambda c: (
        c.source.storage == {"client_kwargs": {"region_name": "eu"}}
    ),
    "sink.max_reject_fraction=5e-05": lambda c: c.sink.max_reject_fraction == 5e-05,
    "audio.max_window_s=null": lambda c: c.audio.max_window_s is None,
    "sink.frames=true": lambda c: c.sink.frames is True,
    "sink.frames=no": lambda c: c.sink.frames is False,  # where only a boolean fits, the old habit does no harm
    "cluster.num_encoders=8": lambda c: c.cluster.num_encoders == 8,
}


@pytest.mark.parametrize("override", OVERRIDES)
def test_an_override_is_yaml_at_its_place(load, override):
    assert OVERRIDES[override](load(MINIMAL, override))


def test_overrides_stand_over_the_file_and_the_last_one_wins(load):
    text = "source: {uri: audio, storage: {anon: true, region: eu}}\nsink:\n  uri: a\nplan:\n"
    config = load(text, "sink.uri=b", "sink.uri=c", "source.storage.anon=false", "plan.unit_utterances=7")
    assert (config.sink.uri, config.plan.unit_utterances) == ("c", 7)
    assert config.source.storage == {"anon": False, "region": "eu"}


@pytest.mark.parametrize("override", ["sink.frames", "=1", ".uri=x", "sink..uri=x", "sink.=x", "", "--frames"])
def test_what_is_no_override_says_how_to_write_one(complaints, override):
    (line,) = complaints(MINIMAL, override)
    assert "is not an override; write section.key=value" in line


def test_a_value_is_no_section(complaints):
    assert complaints(MINIMAL, "sink.uri.deep=1") == [
        "sink.uri.deep: 'uri' is a value, not a section; it has no 'deep'"
    ]


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("sink.frame=true", "sink.frame: unknown option; did you mean 'sink.frames'?"),
        ("source.lang=deu", "source.lang: unknown option; did you mean"),
        ("encodr.device=cpu", "encodr: unknown option; did you mean 'encoder'?"),
        ("encoder.max_frames=3", "encoder.max_frames: unknown option; did you mean 'batching.max_frames'?"),
        ("max_frames=3", "max_frames: unknown option; did you mean 'batching.max_frames'?"),
        ("sink.zzz=3", "sink.zzz: unknown option; known here: uri, frames, "),
        ("zzz=3", "zzz: unknown option; known here: source, audio, "),
    ],
)
def test_unknown_keys_name_the_nearest_known_one(complaints, override, hint):
    (line,) = complaints(MINIMAL, override)
    assert line.startswith(hint)


def test_every_complaint_is_in_one_message(complaints):
    lines = complaints("sink: {frame: true}\nencoder: {precision: fp8, layers: [a]}\naudio: {max_bytes: 0}\nx: 1\n")
    assert {line.split(":")[0] for line in lines} == {
        "source",
        "sink.uri",
        "sink.frame",
        "encoder.precision",
        "encoder.layers.0",
        "audio.max_bytes",
        "x",
    }
    assert "source: required; set it in the config file or give source=… on the command line" in lines
    assert "audio.max_bytes: input should be greater than 0, but is 0" in lines


@pytest.mark.parametrize(
    ("override", "line"),
    [
        (
            "batching.max_frames=1000",
            "batching.max_frames must be at least the longest window (1500), but is 1000; raise it or lower "
            "audio.max_window_s",
        ),
        (
            "audio.window_context_s=15",
            "audio.max_window_s must be more than twice audio.window_context_s (30), but is 30; raise it or lower "
            "audio.window_context_s",
        ),
    ],
)
def test_rules_between_sections_name_field_rule_value_and_next_step(complaints, override, line):
    assert complaints(MINIMAL, override) == [line]


@pytest.mark.parametrize("override", ["batching.max_frames=1500", "audio.window_context_s=14.9"])
def test_rules_between_sections_let_their_limit_pass(load, override):
    load(MINIMAL, override)


def test_whole_recordings_need_no_budget_and_no_context(load):
    load(MINIMAL, "audio.max_window_s=null", "batching.max_frames=10", "audio.window_context_s=99")


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("audio", "max_window_s", "1:30"),
        ("audio", "max_window_s", "1.9"),
        ("audio", "max_duration_s", ".nan"),
        ("sink", "max_reject_fraction", "1.1"),
        ("sink", "uri", "null"),
        ("cluster", "num_encoders", "0"),
        ("cluster", "num_encoders", "1.5"),
        ("encoder", "layers", "8"),
        ("encoder", "device", "gpu"),
        ("source", "storage", "x"),
        ("source", "format", "mp3"),
    ],
)
def test_a_bad_value_is_named_with_its_key(complaints, section, key, value):
    lines = complaints(MINIMAL, f"{section}.{key}={value}")
    assert [line.split(":")[0].split(" ")[0] for line in lines] == [f"{section}.{key}"]
    assert all(", but is " in line for line in lines)


@pytest.mark.parametrize("value", ["median", "[]", "[mean, median]", "[max, max]", "[[max]]", "[{a: 1}]", "3", "null"])
def test_pooling_methods_are_known_and_differ(complaints, value):
    assert complaints(MINIMAL, f"pooling.method={value}") == [
        "pooling.method: must be one of mean, mean_std, max, attention, or a list of different ones, "
        f"but is {yaml12.parse(value)!r}"
    ]


@pytest.mark.parametrize(("layers", "weights"), [("[-1]", "[0.5, 0.5]"), ("[4, 8]", "[1.0]"), ("[4]", "[]")])
def test_every_layer_of_a_mixture_has_a_weight(complaints, layers, weights):
    assert complaints(MINIMAL, f"encoder.layers={layers}", f"encoder.layer_weights={weights}") == [
        f"encoder.layer_weights: must have one weight for each of encoder.layers ({layers.count(',') + 1}), "
        f"but is {weights}"
    ]


def test_a_mixture_of_broken_layers_complains_once(complaints):
    (line,) = complaints(MINIMAL, "encoder.layers=[x]", "encoder.layer_weights=[1, 2]")
    assert line.startswith("encoder.layers.0: ")


@pytest.mark.parametrize("value", [".inf", ".nan", "x"])
def test_weights_are_numbers(complaints, value):
    (line,) = complaints(MINIMAL, f"encoder.layer_weights=[{value}]")
    assert line.startswith("encoder.layer_weights.0: input should be a ")


def test_the_merged_config_shows_how_vectors_are_made(load):
    mixed = "encoder.layers=[4, 8]", "encoder.layer_weights=[1, 0.5]"
    config = load(MINIMAL, *mixed, "pooling.method=[mean, max]", "pooling.normalise=true")
    shown = yaml12.parse(show_config(config))
    assert shown["encoder"]["layer_weights"] == [1.0, 0.5]
    assert shown["pooling"] == {"method": ["mean", "max"], "normalise": True}


@pytest.mark.parametrize("text", ["- a", "just text", "3"])
def test_a_file_without_sections(complaints, text):
    (line,) = complaints(text)
    assert "must hold sections (a mapping)" in line


@pytest.mark.parametrize("text", ["", "# nothing\n", "null"])
def test_an_empty_file_lacks_only_what_is_required(complaints, text):
    assert {line.split(":")[0] for line in complaints(text)} == {"source", "sink"}


def test_keys_that_are_no_strings(complaints):
    assert all("1" in line for line in complaints(MINIMAL + "1: 2\n"))


@pytest.mark.parametrize("text", ["a: [", "a: 1\na: 2", "\tx", "{a: b}: c"])
def test_what_is_not_yaml_says_where(complaints, text):
    message = "\n".join(complaints(text))
    assert "conf.yaml is not YAML" in message
    assert "line 1" in message or "line 2" in message


def test_a_file_that_cannot_be_read(tmp_path):
    for path, reason in ((tmp_path / "absent.yaml", "No such file"), (tmp_path, "directory")):
        with pytest.raises(ConfigError, match=f"cannot read the config file .*{reason}"):
            load_config(EmbedConfig, str(path))


def test_a_file_that_is_not_text(tmp_path):
    (tmp_path / "conf.yaml").write_bytes(b"source: \xff\xfe\n")
    with pytest.raises(ConfigError, match="not UTF-8 text"):
        load_config(EmbedConfig, str(tmp_path / "conf.yaml"))


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("encoder.layers=[0, 3, -1]", "sink.frames=true", "audio.max_window_s=null"),
        ("source.language=no", "encoder.revision='12e4567'", "source.uri=[a*].wav", "source.storage={anon: true}"),
        ("sink.max_reject_fraction=5e-05", "plan.unit_audio_s=.inf", "source.columns={audio: 'yes', language: '010'}"),
    ],
)
def test_what_is_shown_loads_as_the_same_config(load, overrides):
    config = load(MINIMAL, *overrides)
    assert load(show_config(config)) == config
