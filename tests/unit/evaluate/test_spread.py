"""Mean and spread of figures over models that differ in their seed."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import machine, spread

RESULTS = Path(machine.ROOT, "benchmarks", "results")


def report(checkpoint: str, layers: tuple[float, float], *, higher_is_better: bool = True) -> dict[str, Any]:
    values = {"MFCC": 0.4, "random weights, layer 0": 0.3, "model, layer 0": layers[0], "model, layer 1": layers[1]}
    figure = {
        "name": "phone",
        "higher_is_better": higher_is_better,
        "values": {name: {"value": value} for name, value in values.items()},
    }
    return {"checkpoint": checkpoint, "suites": [{"figures": [figure]}]}


@pytest.mark.parametrize(("higher_is_better", "best"), [(True, "0.400"), (False, "0.300")])
def test_each_layer_has_its_mean_and_standard_deviation_beside_the_best_of_the_others(
    higher_is_better: bool, best: str
) -> None:
    reports = [
        report(f"seed-{seed}", layers, higher_is_better=higher_is_better)
        for seed, layers in enumerate([(0.5, 0.1), (0.6, 0.1), (0.7, 0.1)])
    ]
    head, _, row = spread.table(reports).splitlines()
    assert head == "| figure | best other row | layer 0 | layer 1 |"
    assert row == f"| phone | {best} | 0.600 ± 0.100 | 0.100 ± 0.000 |"


def test_one_model_has_no_spread() -> None:
    with pytest.raises(ValueError, match="two reports"):
        spread.table([report("a", (0.5, 0.1))])
    with pytest.raises(ValueError, match="different checkpoints"):
        spread.table([report("a", (0.5, 0.1)), report("a", (0.5, 0.1))])


def test_the_card_says_what_the_reports_say() -> None:
    paths = [
        path
        for suite in ("phones", "probes", "retrieval")
        for path in sorted(RESULTS.glob(f"evaluate-tiny-seed-*-{suite}.json"))
    ]
    card = Path(machine.ROOT, "w2vb_ray", "encoder", "tiny", "README.md").read_text(encoding="utf-8").splitlines()
    lines = spread.table(json.loads(path.read_text(encoding="utf-8")) for path in paths).splitlines()
    assert len(paths) == 9
    assert not [line for line in lines if line not in card]
