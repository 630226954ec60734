"""Look after the tables: `python -m jobs.maintain CONF.yaml [section.key=value ...] [--print-config]`."""

import sys

from jobs.cli import end, job_main, parse
from w2vb_ray.config import load_config, show_config
from w2vb_ray.config.maintain import MaintainConfig
from w2vb_ray.errors import ExitCode

_EXIT_CODES = """\
exit codes: 0 done or nothing to do; 2 bad configuration or input; 4 a run holds the tables;
7 interrupted, run it again to finish"""


def main(arguments: list[str]) -> ExitCode:
    """Parse, do it, exit code."""
    options = parse("maintain", __doc__, arguments, exit_codes=_EXIT_CODES)
    config = load_config(MaintainConfig, options.config, options.overrides)
    if options.print_config:
        sys.stdout.write(show_config(config))
        return ExitCode.DONE

    from rich.console import Console

    from w2vb_ray.maintain.run import maintain  # after the config: a misspelt key is told without deltalake

    maintain(config, Console())
    return ExitCode.DONE


if __name__ == "__main__":
    end(job_main(main))
