import pytest

from w2vb_ray.config.secrets import masked, redact, remember, secrets_in


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
