import pytest

from w2vb_ray.config import show_config
from w2vb_ray.config.secrets import masked, redact, remember, secrets_in
from w2vb_ray.errors import ConfigError

from .conftest import MINIMAL


@pytest.mark.parametrize(
    "key",
    [
        "secret",
        "secret_key",
        "key",
        "KEY",
        "password",
        "passwd",
        "token",
        "sas_token",
        "account_key",
        "api_key",
        "connection_string",
        "credential",
        "credentials",
        "private_key",
        "passphrase",
        "aws_secret_access_key",
        "aws_session_token",
        "signature",
        "user_pwd",
        "sas",
    ],
)
def test_secrets_are_known_by_the_names_of_their_keys(key):
    assert masked({key: "hunter2"}) == {key: "***"}
    assert masked({"client_kwargs": {key: ["hunter2", {"deep": "x"}]}}) == {
        "client_kwargs": {key: ["***", {"deep": "***"}]}
    }
    assert list(secrets_in({"a": [{key: "hunter2"}]})) == ["hunter2"]


@pytest.mark.parametrize("key", ["endpoint_url", "anon", "region", "profile", "keyboard", "monkey_business", "uri"])
def test_other_keys_show_their_value(key):
    assert masked({key: "hello"}) == {key: "hello"}
    assert list(secrets_in({key: "hello"})) == []


def test_only_what_can_be_secret_is_masked():
    assert masked({"secret": None, "token": False, "key": 42, "anon": True}) == {
        "secret": None,
        "token": False,
        "key": "***",
        "anon": True,
    }


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://ann:hunter2@host/path", "https://***@host/path"),
        ("https://ann:hunter2@host:9000", "https://***@host:9000"),
        ("https://ann:hun@ter2@host/x", "https://***@host/x"),
        ("ftp://a:b@h and s3://c:d@i", "ftp://***@h and s3://***@i"),
        ("https://host:9000/a@b", "https://host:9000/a@b"),
        ("hf://datasets/user/repo@main/a:b@c", "hf://datasets/user/repo@main/a:b@c"),
        ("s3://bucket/2024:01@02", "s3://bucket/2024:01@02"),
    ],
)
def test_user_info_of_urls_is_masked_wherever_it_stands(url, shown):
    assert masked({"uri": url, "list": [url]}) == {"uri": shown, "list": [shown]}


def test_redact_masks_what_was_remembered_and_nothing_else():
    remember({"storage": {"secret": "hunter2", "endpoint_url": "https://ann:pw@host"}, "uri": "s3://open"})
    assert redact("hunter2 at https://ann:pw@host, s3://open") == "*** at https://***@host, s3://open"
    assert redact("") == ""


def test_a_secret_that_contains_another_leaves_nothing_behind():
    remember({"token": "abc", "secret": "abcdef", "key": "xabcx"})
    assert redact("abcdef abc xabcx") == "*** *** ***"


def test_empty_secrets_mask_nothing():
    remember({"secret": "", "token": None})
    assert redact("hello") == "hello"


def test_a_number_can_be_a_secret():
    remember({"password": 12345678, "token": True})
    assert redact("login with 12345678 is True") == "login with *** is True"


SECRET = """
source:
  uri: https://ann:hunter2@host/audio
  storage: {key: hunter3, client_kwargs: {aws_secret_access_key: hunter4, region_name: eu}}
sink: {uri: tables, storage: {secret: hunter5, endpoint_url: "http://minio:9000"}}
"""


def test_secrets_are_masked_in_what_is_shown_and_kept_in_the_config(load):
    config = load(SECRET)
    shown = show_config(config)
    assert "hunter" not in shown
    assert "https://***@host/audio" in shown
    assert "region_name: eu" in shown
    assert "endpoint_url: http://minio:9000" in shown
    assert config.source.storage["client_kwargs"]["aws_secret_access_key"] == "hunter4"


def test_loaded_secrets_are_redacted_from_then_on(load):
    load(SECRET, "sink.storage.token=hunter6")
    assert "hunter" not in redact("hunter3 hunter4 hunter5 hunter6 ann:hunter2")


@pytest.mark.parametrize(
    "override",
    [
        "encoder.storage=hunter7",
        "encoder.storage=[hunter7]",
        "encoder={storage: {secret: hunter7}, nope: 1}",
        "encoder=[{secret: hunter7}]",
        "sink.frames=https://a:hunter7@host",
        "sink.storage={secret: hunter7, frames: [",
        "sink.storage.secret:hunter7",
        "sink.storage.secret.x..y=hunter7",
        "sink.uri.secret=hunter7",
    ],
)
def test_no_message_shows_a_secret(load, override):
    with pytest.raises(ConfigError) as caught:
        load(SECRET, override)
    assert "hunter" not in redact(str(caught.value))  # as the job prints it


@pytest.mark.parametrize(
    "line", ["  secret: 'hunter7", "  secret: hunter7: x", "  secret: [hunter7", "  secret: hunter7\n  secret: x"]
)
def test_a_file_that_is_not_yaml_shows_no_secret(complaints, line):
    assert "hunter" not in "\n".join(complaints(f"{MINIMAL}storage:\n{line}\n"))
