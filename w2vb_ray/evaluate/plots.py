"""Figures as the coordinates of plots; `page.html.j2` draws them. Pure."""

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from w2vb_ray.evaluate.estimates import Estimate, Figure
from w2vb_ray.evaluate.findings import Map, Matrix

WIDTH, HEIGHT, SIDE = 460, 240, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 8, 10, 24
_LAYER = re.compile(r"(.+), layer (\d+)(.*)")
_NUM_HUES = 12
_LABEL_HEIGHT = 11
_STEPS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_MAX_TICKS = 5


@dataclass(frozen=True, slots=True)
class _Scale:
    low: float
    high: float
    start: float
    stop: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low or 1)
        return round(self.start + share * (self.stop - self.start), 1)


def sweep(figure: Figure) -> dict[str, Any]:
    """A figure over layers: a line per model with its intervals, a level line for each of the others, and chance."""
    lines: dict[str, dict[int, Estimate]] = {}
    levels: dict[str, float] = {"chance": figure.chance}
    for name, estimate in figure.values.items():
        if (match := _LAYER.fullmatch(name)) is None:
            levels[name] = estimate.value
        else:
            lines.setdefault(match[1] + match[3], {})[int(match[2])] = estimate
    shown = [
        *levels.values(),
        *(value for line in lines.values() for one in line.values() for value in (one.low, one.high)),
    ]
    layers = sorted({layer for line in lines.values() for layer in line}) or [0]
    across = _Scale(layers[0], layers[-1], _LEFT + 8, WIDTH - _RIGHT - 8)
    ticks = _ticks(min(shown), max(shown))
    up = _Scale(ticks[0], ticks[-1], HEIGHT - _BOTTOM, _TOP)
    return {
        "name": figure.name,
        "better": "higher is better" if figure.higher_is_better else "lower is better",
        "lines": [_line(name, line, across, up) for name, line in lines.items()],
        "levels": _labelled({name: (value, up(value)) for name, value in levels.items()}),
        "layers": [(layer, across(layer)) for layer in _thinned(layers)],
        "ticks": [(f"{value:.2f}", up(value)) for value in ticks],
        "left": _LEFT,
        "right": WIDTH - _RIGHT,
        "bottom": HEIGHT - _BOTTOM,
    }


def heat(matrix: Matrix) -> dict[str, Any]:
    """A cell per ordered pair of languages, the darker the higher."""
    count = len(matrix.languages)
    most = max(float(np.nanmax(matrix.cells)), 1e-9) if not np.isnan(matrix.cells).all() else 1.0
    size = (SIDE - _LEFT) / count
    cells = [
        {
            "x": round(_LEFT + column * size, 1),
            "y": round(row * size, 1),
            "share": round(float(matrix.cells[row, column]) / most, 3),
            "title": f"{matrix.languages[row]} → {matrix.languages[column]}: {matrix.cells[row, column]:.3f}",
        }
        for row in range(count)
        for column in range(count)
        if not np.isnan(matrix.cells[row, column])
    ]
    labels = [(name, round((place + 0.5) * size, 1)) for place, name in enumerate(matrix.languages)]
    return {"name": matrix.name, "cells": cells, "size": round(size, 1), "labels": labels, "most": f"{most:.3f}"}


def scatter(points: Map) -> dict[str, Any]:
    """A dot per utterance; languages by colour and, since there are more of those than colours, by shape."""
    low, high = points.points.min(0), points.points.max(0)
    across, up = _Scale(low[0], high[0], 8, SIDE - 8), _Scale(low[1], high[1], SIDE - 8, 8)
    names = sorted(set(points.languages))
    style = {name: (place % _NUM_HUES * 360 // _NUM_HUES, place // _NUM_HUES % 3) for place, name in enumerate(names)}
    dots = [
        {"x": across(x), "y": up(y), "hue": style[name][0], "shape": style[name][1], "language": name}
        for (x, y), name in zip(points.points.tolist(), points.languages, strict=True)
    ]
    legend = [{"language": name, "hue": hue, "shape": shape} for name, (hue, shape) in style.items()]
    return {"name": points.name, "dots": dots, "legend": legend}


def _line(name: str, line: dict[int, Estimate], across: _Scale, up: _Scale) -> dict[str, Any]:
    layers = sorted(line)
    upper = [f"{across(layer)},{up(line[layer].high)}" for layer in layers]
    lower = [f"{across(layer)},{up(line[layer].low)}" for layer in reversed(layers)]
    return {
        "name": name,
        "path": " ".join(f"{across(layer)},{up(line[layer].value)}" for layer in layers),
        "band": " ".join([*upper, *lower]),
        "dots": [
            {"x": across(layer), "y": up(line[layer].value), "title": _title(name, layer, line[layer])}
            for layer in layers
        ],
    }


def _title(name: str, layer: int, one: Estimate) -> str:
    return f"{name}, layer {layer}: {one.value:.3f} ({one.low:.3f} to {one.high:.3f})"


def _labelled(levels: dict[str, tuple[float, float]]) -> list[dict[str, Any]]:
    """Level lines from the top down, with their names so far apart that they can be read."""
    shown: list[dict[str, Any]] = []
    free = 0.0
    for name, (value, y) in sorted(levels.items(), key=lambda level: level[1][1]):
        label = max(y - 3, free)
        free = label + _LABEL_HEIGHT
        shown.append({"name": name, "y": y, "label": label, "value": f"{value:.3f}"})
    return shown


def _ticks(low: float, high: float) -> list[float]:
    """Round values around all that is shown."""
    step = next((step for step in _STEPS if (high - low) / step <= _MAX_TICKS), _STEPS[-1])
    return [step * place for place in range(math.floor(low / step), math.ceil(high / step + 1e-9) + 1)]


def _thinned(layers: list[int]) -> list[int]:
    return layers[:: max(1, -(-len(layers) // 13))]
