import io
import sys
import traceback

from rich.console import Console

from w2vb_ray.config.secrets import remember
from w2vb_ray.runtime.redaction import RedactingStream, redact_output


def test_secrets_do_not_pass():
    inner = io.StringIO()
    stream = RedactingStream(inner)
    stream.write("before hunter2\n")  # not known to be a secret yet
    remember({"secret": "hunter2", "token": "hunter2-long"})
    assert stream.write("now hunter2\n") == len("now hunter2\n")
    stream.writelines(["a hunter2-long", "b\n"])
    print("x hunter2", file=stream)
    assert inner.getvalue() == "before hunter2\nnow ***\na ***b\nx ***\n"


def test_it_is_otherwise_the_stream_it_stands_before():
    with open("/dev/null", "w", encoding="utf-8") as inner:
        stream = RedactingStream(inner)
        assert (stream.isatty(), stream.fileno(), stream.encoding) == (False, inner.fileno(), "utf-8")
        stream.flush()


def test_both_outputs_of_the_process(monkeypatch):
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    remember({"password": "hunter2"})
    redact_output()
    Console().print("tables at s3 with hunter2", highlight=False)
    try:
        raise OSError("403 for hunter2")
    except OSError:
        traceback.print_exc()
    assert out.getvalue() == "tables at s3 with ***\n"
    assert err.getvalue().endswith("OSError: 403 for ***\n")
