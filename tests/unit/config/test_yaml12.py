import math

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from w2vb_ray.config import yaml12

SCALARS = [
    ("no", "no"),  # Norwegian
    ("NO", "NO"),
    ("yes", "yes"),
    ("on", "on"),
    ("off", "off"),
    ("y", "y"),
    ("n", "n"),
    ("true", True),
    ("False", False),
    ("tRUE", "tRUE"),
    ("null", None),
    ("~", None),
    ("", None),
    ("nan", "nan"),  # Min Nan
    ("inf", "inf"),
    ("5e-05", 5e-05),
    ("5E5", 5e5),
    ("-.5", -0.5),
    ("+1", 1),
    ("12.", 12.0),
    ("1e3", 1000.0),
    ("0", 0),
    ("-0", 0),
    ("010", "010"),  # neither 8 nor 10: it may be an id
    ("0x10", "0x10"),
    ("0b1", "0b1"),
    ("1_000", "1_000"),
    ("1:30", "1:30"),  # not 90
    ("2024-01-01", "2024-01-01"),
    ("2024-01-01T10:00:00Z", "2024-01-01T10:00:00Z"),
    ("1.2.3", "1.2.3"),
    ("=", "="),
    ("<<", "<<"),
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(("text", "value"), SCALARS)
def test_scalars_mean_what_people_mean(text, value):
    for parsed in (yaml12.parse(text), yaml12.parse(f"[{text}]")[0] if text else None, yaml12.parse(f"k: {text}")["k"]):
        assert (parsed, type(parsed)) == (value, type(value))


def test_special_floats():
    assert yaml12.parse(".inf") == math.inf
    assert yaml12.parse("-.INF") == -math.inf
    assert math.isnan(yaml12.parse(".nan"))


@pytest.mark.parametrize(
    "text", ["a: 1\na: 2", "x: {b: 1, b: 2}", "- {1: a, 1: b}", "a: 1\nb: 2\n'a': 3", "x:\n- y: {k: 0, 'k': 0}"]
)
def test_a_key_that_stands_twice_is_an_error(text):
    with pytest.raises(yaml.YAMLError, match="stands twice"):
        yaml12.parse(text)


@pytest.mark.parametrize(
    "text", ["[a]: 1", "{a: b}: 1", "? {a: b}\n: 1", "!!python/object/apply:os.getcwd []", "a: [", "a: *b"]
)
def test_what_is_not_plain_yaml_is_an_error_of_yaml(text):
    with pytest.raises(yaml.YAMLError):
        yaml12.parse(text)


@settings(max_examples=60)
@given(VALUES)
def test_dump_and_parse_give_the_same_back(value):
    assert yaml12.parse(yaml12.dump(value)) == value


@pytest.mark.parametrize(
    "text",
    [text for text, _ in SCALARS] + ["5e05", "1e-3", "12e4567", "+5", "08", ".5", "1.", "é", "a: b", "- a", "# c"],
)
def test_a_string_stays_a_string_for_every_reader(text):
    dumped = yaml12.dump({"k": text})
    assert yaml12.parse(dumped) == {"k": text}
    assert yaml.safe_load(dumped) == {"k": text}  # YAML 1.1 readers too
