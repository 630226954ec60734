"""Check or measure the vectors of a checkpoint: `python -m jobs.evaluate CONF.yaml [section.key=value ...]`."""

import sys
from typing import Any

from jobs.cli import end, job_main, parse
from w2vb_ray.config import load_config, show_config
from w2vb_ray.config.evaluate import EvaluateConfig
from w2vb_ray.errors import ExitCode

_EXIT_CODES = "exit codes: 0 measured, or every check holds; 1 a check fails; 2 bad input; 7 interrupted"
_FAILED = 1


def main(arguments: list[str]) -> int:
    """Parse, evaluate, show, exit code."""
    options = parse("evaluate", __doc__, arguments, exit_codes=_EXIT_CODES)
    config = load_config(EvaluateConfig, options.config, options.overrides)
    if options.print_config:
        sys.stdout.write(show_config(config))
        return ExitCode.DONE

    from rich.console import Console  # after the config: a misspelt key is told in 0.3 s, without torch

    return (_selfcheck if config.evaluate.suite == "selfcheck" else _measure)(config, Console())


def _selfcheck(config: EvaluateConfig, console: Any) -> int:
    from w2vb_ray.evaluate import report
    from w2vb_ray.runtime.progress import stage

    with stage(console, "checking, which takes minutes for a large model on a CPU"):
        found = report.run_selfcheck(config)
    console.print(f"{found.checkpoint.name} in {found.precision} on {found.device}", soft_wrap=True, highlight=False)
    _show(console, [report.table(found)], report.closing_lines(found))
    report.write_report(config, report.as_json(config, found))  # last: it is on the screen whatever the store says
    return _FAILED if found.failed else ExitCode.DONE


def _measure(config: EvaluateConfig, console: Any) -> int:
    from w2vb_ray.evaluate import findings, page, report, suites
    from w2vb_ray.runtime.progress import stage

    with stage(console, "encoding and measuring"):
        found = suites.run(config)
    for one in found:
        _show(console, findings.tables(one), [*one.notes, f"{one.suite} took {one.wall_s:.0f} s"])
    _show(console, [], findings.closing_lines(config, found))
    report.write_report(config, findings.as_json(config, found))
    page.write_page(config, found)
    return ExitCode.DONE


def _show(console: Any, tables: list[Any], lines: list[str]) -> None:
    for shown in (*tables, *lines):
        console.print(shown, soft_wrap=isinstance(shown, str), highlight=False)


if __name__ == "__main__":
    end(job_main(main))
