"""The page: well-formed, with every figure, and nothing that a language's name could smuggle in."""

import re
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest

from w2vb_ray.config.evaluate import EvaluateConfig
from w2vb_ray.errors import ConfigError
from w2vb_ray.evaluate import page, plots
from w2vb_ray.evaluate.estimates import Estimate, Figure
from w2vb_ray.evaluate.findings import ABOUT_AHEAD, Findings, Map, Matrix, as_json, closing_lines, mark, tables

FIGURE = Figure(
    "R@1",
    0.1,
    {
        "log-mel statistics": Estimate(0.25, 0.2, 0.3),
        "random weights, layer 0": Estimate(0.2, 0.1, 0.3),
        "random weights, layer 1": Estimate(0.3, 0.2, 0.4),
        "model, layer 0": Estimate(0.4, 0.3, 0.5),
        "model, layer 1": Estimate(0.6, 0.5, 0.75),
    },
)
FINDINGS = Findings(
    "retrieval",
    [FIGURE, Figure("error", 0.5, {"model, layer 1": Estimate(-0.05, -0.1, 0.0)}, higher_is_better=False)],
    ["a <note>"],
    1.0,
    Matrix("R@1, model, layer 1", ["deu", "<b>"], np.array([[np.nan, 0.5], [0.25, np.nan]])),
    Map("model, layer 1", np.random.default_rng(0).normal(size=(30, 2)), [f"l{row % 15}" for row in range(30)]),
)


class Balanced(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page():
    html = page.render(EvaluateConfig(), [FINDINGS, Findings("probes", [], ["left out: none"], 0.0)])
    parser = Balanced()
    parser.feed(html)
    assert parser.open == []
    assert "script" not in parser.seen
    assert not re.search(r"(src|href)=", html)
    assert "a &lt;note&gt;" in html
    assert "&lt;b&gt;" in html
    assert "<b>" not in html
    assert "left out: none" in html
    assert html.count("<polyline") == 3
    assert "0.600 <small>0.500–0.750</small>" in html
    assert "l14" in html


def drawn(value):
    return Estimate.of(value, np.linspace(value - 0.1, value + 0.1, 101))


def test_a_layer_that_is_ahead_of_all_that_is_none_has_a_mark():
    rows = {"MFCC": drawn(0.5), "random weights, layer 1": drawn(0.55), "model, layer 0": drawn(0.52)}
    figure = Figure("R@1", 0.1, {**rows, "model, layer 1": drawn(0.56)})
    found = Findings("retrieval", [figure], [], 1.0)
    assert [mark(figure, name) for name in figure.values] == ["", "", "", "*"]
    assert "0.560* <small>" in page.render(EvaluateConfig(), [found])
    assert list(tables(found)[0].columns[1].cells)[-1].endswith("*")
    assert closing_lines(EvaluateConfig(), [found]) == [f"* {ABOUT_AHEAD}"]
    assert closing_lines(EvaluateConfig(), [FINDINGS]) == []
    leads = as_json(EvaluateConfig(), [found])["suites"][0]["figures"][0]["leads"]
    assert leads.keys() == {"model, layer 0", "model, layer 1"}
    assert leads["model, layer 1"]["over"] == "random weights, layer 1"
    assert leads["model, layer 1"]["value"] == pytest.approx(0.01)


def test_a_sweep_has_its_points_where_they_are():
    plot = plots.sweep(FIGURE)
    assert [line["name"] for line in plot["lines"]] == ["random weights", "model"]
    assert [level["name"] for level in plot["levels"]] == ["log-mel statistics", "chance"]
    model = plot["lines"][1]["dots"]
    assert model[0]["x"] < model[1]["x"]
    assert model[1]["y"] < model[0]["y"] < plot["levels"][-1]["y"]
    ticks = {label: y for label, y in plot["ticks"]}
    assert list(ticks) == ["0.00", "0.20", "0.40", "0.60", "0.80"]
    assert ticks["0.00"] > plot["levels"][1]["y"] > ticks["0.20"]


def test_names_of_level_lines_do_not_lie_on_each_other():
    levels = {f"level {number}": Estimate(0.5 + number / 1_000, 0.5, 0.5) for number in range(5)}
    labels = [level["label"] for level in plots.sweep(Figure("R@1", 0.1, levels))["levels"]]
    assert all(after - before > 10.9 for before, after in pairwise(labels))


def test_the_table_and_the_json():
    (shown,) = tables(FINDINGS)
    assert [column.header for column in shown.columns] == ["vectors", "R@1", "error"]
    assert list(shown.columns[1].cells)[-1] == "0.600 .50-.75"
    assert list(shown.columns[2].cells)[-1] == "-0.050 -.10-.00"
    written = as_json(EvaluateConfig(), [FINDINGS])
    (suite,) = written["suites"]
    assert suite["matrix"]["cells"] == [[None, 0.5], [0.25, None]]
    assert suite["figures"][0]["values"]["model, layer 1"] == {"value": 0.6, "low": 0.5, "high": 0.75}


def test_where_it_goes(tmp_path):
    config = EvaluateConfig.model_validate({"evaluate": {"html_uri": str(tmp_path / "a/b.html")}})
    page.write_page(config, [FINDINGS])
    assert (tmp_path / "a/b.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    with pytest.raises(ConfigError, match=r"evaluate\.html_uri must be a file"):
        page.write_page(EvaluateConfig.model_validate({"evaluate": {"html_uri": "/proc/no/b.html"}}), [FINDINGS])
    page.write_page(EvaluateConfig(), [FINDINGS])
