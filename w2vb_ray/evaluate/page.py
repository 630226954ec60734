"""Findings as one page with pictures, without a script and without anything from elsewhere."""

from collections.abc import Sequence

from jinja2 import Environment, PackageLoader

from w2vb_ray import storage
from w2vb_ray.config.evaluate import EvaluateConfig
from w2vb_ray.errors import ConfigError
from w2vb_ray.evaluate import plots
from w2vb_ray.evaluate.findings import ABOUT_AHEAD, AHEAD, Findings, mark
from w2vb_ray.evaluate.report import versions


def write_page(config: EvaluateConfig, all_findings: Sequence[Findings]) -> None:
    """Write the page to `evaluate.html_uri`, when it is set.

    Raises:
        ConfigError: it cannot be written there.
    """
    uri = config.evaluate.html_uri
    if uri is None:
        return
    try:
        storage.write_atomic(uri, render(config, all_findings).encode(), config.evaluate.storage)
    except storage.STORE_ERRORS as err:
        raise ConfigError(f"evaluate.html_uri must be a file that can be written, but is {uri} ({err})") from err


def render(config: EvaluateConfig, all_findings: Sequence[Findings]) -> str:
    """The page as HTML."""
    environment = Environment(loader=PackageLoader("w2vb_ray.evaluate", "."), autoescape=True, trim_blocks=True)
    suites = [
        {
            "name": one.suite,
            "notes": one.notes,
            "figures": one.figures,
            "kinds": list(dict.fromkeys(name for figure in one.figures for name in figure.values)),
            "sweeps": [plots.sweep(figure) for figure in one.figures if figure.values],
            "matrix": None if one.matrix is None else plots.heat(one.matrix),
            "points": None if one.points is None else plots.scatter(one.points),
        }
        for one in all_findings
    ]
    return environment.get_template("page.html.j2").render(
        what=config.evaluate.table_uri or config.encoder.checkpoint,
        source=None if config.source is None else config.source.uri,
        suites=suites,
        mark=mark,
        about_mark=f"{AHEAD} {ABOUT_AHEAD}",
        width=plots.WIDTH,
        height=plots.HEIGHT,
        side=plots.SIDE,
        versions=versions(),
    )
