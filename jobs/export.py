"""Export a smaller, faster artifact: `python -m jobs.export CONF.yaml [section.key=value ...] [--print-config]`."""

import sys

from jobs.cli import end, job_main, parse
from w2vb_ray.config import load_config, show_config
from w2vb_ray.config.export import ExportConfig
from w2vb_ray.errors import ExitCode

_EXIT_CODES = (
    "exit codes: 0 the artifact is written; 2 bad configuration or input; 5 it is below a limit of `gate`, and not "
    "written;\n7 interrupted, run it again"
)


def main(arguments: list[str]) -> ExitCode:
    """Parse, export, show, exit code."""
    options = parse("export", __doc__, arguments, exit_codes=_EXIT_CODES)
    config = load_config(ExportConfig, options.config, options.overrides)
    if options.print_config:
        sys.stdout.write(show_config(config))
        return ExitCode.DONE

    from rich.console import Console

    from w2vb_ray.export import run  # after the config: a misspelt key is told in 0.3 s, without torch

    console = Console()
    exported = run.export(config, console)
    console.print(run.table(config, exported))
    for line in run.closing_lines(config, exported):
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    return ExitCode.DONE if exported.written else ExitCode.NOT_ACCEPTED


if __name__ == "__main__":
    end(job_main(main))
