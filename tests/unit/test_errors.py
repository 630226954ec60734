import inspect
import pickle

import pytest

from w2vb_ray import errors
from w2vb_ray.errors import RETRIED_REASONS, AudioRejected, ExitCode, RejectReason, UserError, W2vbError


def test_exit_codes_are_those_of_the_contract():
    assert {code.name: int(code) for code in ExitCode} == {
        "DONE": 0,
        "USER_ERROR": 2,
        "TABLE_HELD": 4,
        "NOT_RECONCILED": 5,
        "TOO_MANY_REJECTS": 6,
        "INTERRUPTED": 7,
    }


def test_the_reject_vocabulary_is_closed():
    assert {str(reason) for reason in RejectReason} == {
        "missing",
        "unreadable",
        "changed",
        "empty",
        "undecodable",
        "truncated",
        "too_large",
        "too_short",
        "too_long",
        "out_of_range",
        "non_finite",
        "bad_segment",
        "duplicate_id",
        "expansion",
        "decoder_crash",
        "decoder_limit",
        "worker_crash",
        "forbidden",
    }
    assert {"unreadable", "changed"} == RETRIED_REASONS


def test_one_root_and_exit_2_for_the_person_at_the_keyboard():
    raised = {cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, Exception)}
    assert all(issubclass(cls, W2vbError) for cls in raised)
    assert {cls.__name__ for cls in raised if issubclass(cls, UserError)} == {
        "UserError",
        "ConfigError",
        "SourceError",
        "CheckpointError",
        "SinkError",
        "ClusterError",
    }


@pytest.mark.parametrize("reason", RejectReason)
def test_a_reject_survives_the_way_between_processes(reason):
    rejected = pickle.loads(pickle.dumps(AudioRejected(reason, "3 of 5 bytes")))
    assert (rejected.reason, rejected.detail) == (reason, "3 of 5 bytes")
    assert str(rejected) == f"{reason.value}: 3 of 5 bytes"
