"""House rules that no linter sees."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIBRARY = sorted((ROOT / "w2vb_ray").rglob("*.py"))
JOBS = sorted((ROOT / "jobs").glob("*.py"))
MAX_LINES = 300
MAX_JOB_LINES = 60
PROGRAMS = {ROOT / "w2vb_ray/audio/child.py"}  # that the library starts itself
VAGUE = {"utils", "util", "helpers", "helper", "common", "misc", "tools"}


def name_of(path):
    return str(path.relative_to(ROOT))


def num_lines(path):
    return len(path.read_text(encoding="utf-8").splitlines())


def test_there_is_something_to_look_at():
    assert len(LIBRARY) > 40
    assert {"cli.py", "embed.py"} <= {path.name for path in JOBS}


@pytest.mark.parametrize("path", [*LIBRARY, *JOBS], ids=name_of)
def test_a_file_fits_in_a_head(path):
    assert num_lines(path) <= MAX_LINES


@pytest.mark.parametrize("path", [path for path in JOBS if path.name != "cli.py"], ids=name_of)
def test_a_job_is_one_short_verb(path):
    assert num_lines(path) <= MAX_JOB_LINES


@pytest.mark.parametrize("path", [*LIBRARY, *JOBS], ids=name_of)
def test_a_name_says_what_is_inside(path):
    assert path.stem not in VAGUE


@pytest.mark.parametrize("path", [*LIBRARY, *JOBS], ids=name_of)
def test_a_module_says_what_it_does_and_leaves_nothing_open(path):
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    if tree.body:
        assert ast.get_docstring(tree)
    assert not re.search(r"\b(TODO|FIXME|XXX|HACK)\b", text)
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert "print" not in [func.id for func in calls if isinstance(func, ast.Name)]


@pytest.mark.parametrize("path", [*LIBRARY, *JOBS], ids=name_of)
def test_only_a_job_runs_and_only_as_a_program(path):
    statements = ast.parse(path.read_text(encoding="utf-8")).body
    guarded = [
        node for node in statements if isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"
    ]
    is_job = path in JOBS and path.name not in ("__init__.py", "cli.py")
    assert len(guarded) == (is_job or path in PROGRAMS)
