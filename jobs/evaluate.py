"""Check the vectors of a checkpoint: `python -m jobs.evaluate CONF.yaml [section.key=value ...] [--print-config]`."""

import sys

from jobs.cli import end, job_main, parse
from w2vb_ray.config import load_config, show_config
from w2vb_ray.config.evaluate import EvaluateConfig
from w2vb_ray.errors import ExitCode

_EXIT_CODES = "exit codes: 0 every check holds; 1 a check fails; 2 bad configuration or input; 7 interrupted"
_FAILED = 1


def main(arguments: list[str]) -> int:
    """Parse, check, show, exit code."""
    options = parse("evaluate", __doc__, arguments, exit_codes=_EXIT_CODES)
    config = load_config(EvaluateConfig, options.config, options.overrides)
    if options.print_config:
        sys.stdout.write(show_config(config))
        return ExitCode.DONE

    from rich.console import Console

    from w2vb_ray.evaluate import report  # after the config: a misspelt key is told in 0.3 s, without torch
    from w2vb_ray.runtime.progress import stage

    console = Console()
    with stage(console, "checking, which takes minutes for a large model on a CPU"):
        found = report.run_selfcheck(config)
    heading = f"{found.checkpoint.name} in {found.precision} on {found.device}"
    console.print(heading, soft_wrap=True, highlight=False)
    console.print(report.table(found))
    for line in report.closing_lines(found):
        console.print(line, soft_wrap=True, highlight=False)
    report.write_report(config, found)  # last: what took minutes is on the screen whatever the store says
    return _FAILED if found.failed else ExitCode.DONE


if __name__ == "__main__":
    end(job_main(main))
