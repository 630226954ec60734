import subprocess
import sys
from pathlib import Path

import pytest

from jobs import evaluate
from w2vb_ray.encoder import Checkpoint
from w2vb_ray.evaluate import report
from w2vb_ray.evaluate.sameness import SAME, Result

ROOT = Path(__file__).parents[3]
CONF = str(ROOT / "conf/evaluate/selfcheck.yaml")
HEAVY = "torch", "ray", "transformers", "deltalake"


@pytest.fixture
def found(monkeypatch):
    """Have the self-check find this."""

    def find(*results, precision="bf16"):
        checkpoint = Checkpoint(Path(), "mine", "0" * 64, {}, 1, 8, "wav2vec2-bert")
        done = report.Report(checkpoint, precision, "cuda", results, 1.0)
        monkeypatch.setattr(report, "run_selfcheck", lambda config: done)

    return find


def test_a_failed_check_is_exit_1_and_the_last_line_says_what_to_do(found, capsys):
    found(
        Result("order", SAME["bf16"], 3, 0.99, "1 s of noise, layer 8, mean"),
        Result("budget", SAME["bf16"], 3, 0.99999, "1 s of tone, layer 8, mean"),
        Result("transformers", SAME["bf16"], skipped="nobody knows"),
    )
    assert evaluate.main([CONF]) == 1
    *lines, last = capsys.readouterr().out.splitlines()
    assert lines[0] == "mine in bf16 on cuda"
    assert [line.split()[-2] for line in lines if line.startswith("│")] == ["FAILED", "ok", "skipped"]
    assert "order is worst for 1 s of noise, layer 8, mean" in lines
    assert "transformers was skipped: nobody knows" in lines
    assert last.startswith("failed: order: an utterance's vector depends on its batch; set encoder.precision=fp32")


def test_when_everything_holds_it_is_0(found, capsys):
    found(Result("order", SAME["fp32"], 3, 1e-7, "1 s of noise, layer 8, mean"), precision="fp32")
    assert evaluate.main([CONF]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "all checks hold (1 s)"


def test_configuration_and_help_need_nothing_heavy():
    code = (
        "import runpy, sys\n"
        "sys.argv[0] = 'evaluate'\n"
        "try:\n"
        "    runpy.run_module('jobs.evaluate', run_name='__main__', alter_sys=True)\n"
        "finally:\n"
        f"    heavy = [name for name in {HEAVY} if name in sys.modules]\n"
        "    assert not heavy, heavy\n"
    )

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=ROOT, check=False
        )

    assert run(CONF, "--print-config").returncode == 0
    assert run(CONF, "encoder.chekpoint=x").returncode == 2
    said = run("--help")
    assert said.returncode == 0
    assert "Check or measure the vectors of a checkpoint.\n" in said.stdout
    assert "1 a check fails" in said.stdout
    assert "sink." not in said.stdout


def test_the_report_is_no_ray_program():
    code = "import sys, w2vb_ray.evaluate.report; print('ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "False"
