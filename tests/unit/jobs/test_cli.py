import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from jobs import cli
from w2vb_ray.config import EmbedConfig, load_config
from w2vb_ray.config.secrets import remember
from w2vb_ray.errors import CheckpointError, ConfigError, ExitCode, NotReconciled, SinkError, TableHeld

ROOT = Path(__file__).parents[3]
DEMO = "conf/embed/demo.yaml"
HEAVY = "torch", "ray", "transformers", "deltalake"


def embed(*arguments):
    """The embed job in a process of its own, and which heavy modules it imported."""
    code = (
        "import runpy, sys\n"
        "sys.argv[0] = 'embed'\n"
        "try:\n"
        "    runpy.run_module('jobs.embed', run_name='__main__', alter_sys=True)\n"
        "finally:\n"
        f"    heavy = [name for name in {HEAVY} if name in sys.modules]\n"
        "    assert not heavy, heavy\n"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=ROOT, check=False
    )


def test_print_config_shows_what_loads_as_the_same_config(tmp_path):
    overrides = ["sink.uri=s3://b/t", "source.language=no", "encoder.layers=[0, -1]", "sink.storage={secret: hunter2}"]
    done = embed(DEMO, "--print-config", *overrides)
    assert (done.returncode, done.stderr) == (0, "")
    assert "hunter2" not in done.stdout
    shown = tmp_path / "shown.yaml"
    shown.write_text(done.stdout, encoding="utf-8")
    again = load_config(EmbedConfig, str(shown), ["sink.storage={secret: hunter2}"])
    assert again == load_config(EmbedConfig, str(ROOT / DEMO), overrides)


def test_options_may_stand_between_overrides():
    done = embed("sink.uri=x", "--print-config")  # the first argument is the file
    assert (done.returncode, "cannot read the config file sink.uri=x" in done.stderr) == (2, True)
    assert embed(DEMO, "sink.uri=a", "--print-config", "encoder.device=cpu").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([DEMO, "sink.frame=true"], "error: sink.frame: unknown option; did you mean 'sink.frames'?\n"),
        (["conf/embed/absent.yaml"], "error: cannot read the config file conf/embed/absent.yaml: No such file"),
        ([DEMO, "sink.uri"], "error: 'sink.uri' is not an override"),
    ],
)
def test_a_mistake_is_exit_2_with_one_message(arguments, message):
    done = embed(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(message)
    assert "Traceback" not in done.stderr


def test_help_names_the_exit_codes():
    done = embed("--help")
    assert done.returncode == 0
    assert "python -m jobs.embed" in done.stdout
    assert "Embed a speech corpus.\n" in done.stdout
    for code in (0, 2, 4, 5, 6, 7):
        assert f" {code} " in done.stdout.replace("\n", " ").replace("codes:", "codes: ")


@pytest.fixture
def outcome(monkeypatch, capsys):
    """Exit code and standard error of a job whose `main` does this."""
    monkeypatch.setattr(cli.interrupt, "raise_on_terminate", lambda: None)
    monkeypatch.setattr(sys, "argv", ["embed", "a", "b=c"])

    def outcome(main):
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", sys.stdout)
            patch.setattr(sys, "stderr", sys.stderr)
            patch.setenv("RAY_ENABLE_AUTO_CONNECT", "0")  # a job sets it for its own process, which is this one here
            code = cli.job_main(main)
        return code, capsys.readouterr().err

    return outcome


def raising(error):
    def main(_):
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ConfigError("x"), 2, "error: x\n"),
        (CheckpointError("x"), 2, "error: x\n"),
        (SinkError("x"), 2, "error: x\n"),
        (TableHeld("x"), 4, "held: x\n"),
        (NotReconciled("x"), 5, "not reconciled: x\n"),
        (KeyboardInterrupt(), 7, "interrupted; run the same command again to resume\n"),
    ],
)
def test_what_a_job_raises_becomes_its_exit_code(outcome, error, code, said):
    assert outcome(raising(error)) == (code, said)


def test_anything_else_is_1_with_a_traceback_and_no_secret(outcome):
    remember({"secret": "hunter2"})
    code, said = outcome(raising(OSError("403 for hunter2")))
    assert code == 1
    assert said.startswith("Traceback")
    assert said.endswith("OSError: 403 for ***\n")


@pytest.mark.parametrize("code", ExitCode)
def test_what_a_job_returns_is_its_exit_code(outcome, code):
    given = []
    assert outcome(lambda arguments: given.append(arguments) or code) == (code, "")
    assert given == [["a", "b=c"]]


def test_arguments():
    options = cli.parse("embed", "Embed: more.", ["c.yaml", "a.b=c", "--print-config", "d.e=-f"])
    assert options == argparse.Namespace(config="c.yaml", overrides=["a.b=c", "d.e=-f"], print_config=True)
    with pytest.raises(SystemExit, match="2"):
        cli.parse("embed", "Embed", [])


ENDING = """
import atexit, sys, threading, types
from jobs.cli import end
sys.modules["ray"] = types.ModuleType("ray")
atexit.register(print, "exit functions run")
threading.Thread(target=threading.Event().wait).start()  # whoever waits for it waits for ever
print("told", end=", ")
end(4)
"""


def test_the_end_of_a_run_waits_for_no_thread_and_loses_no_output():
    done = subprocess.run(
        [sys.executable, "-c", ENDING], capture_output=True, text=True, cwd=ROOT, check=False, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (4, "told, exit functions run\n", "")


def test_without_ray_it_is_an_ordinary_end(monkeypatch):
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    with pytest.raises(SystemExit) as ended:
        cli.end(2)
    assert ended.value.code == 2
