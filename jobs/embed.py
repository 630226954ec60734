"""Embed a speech corpus: `python -m jobs.embed CONF.yaml [section.key=value ...] [--print-config]`."""

import sys

from jobs.cli import end, job_main, parse
from w2vb_ray.config import EmbedConfig, load_config, show_config
from w2vb_ray.errors import ExitCode


def main(arguments: list[str]) -> ExitCode:
    """Parse, run, exit code."""
    options = parse("embed", __doc__, arguments)
    config = load_config(EmbedConfig, options.config, options.overrides)
    if options.print_config:
        sys.stdout.write(show_config(config))
        return ExitCode.DONE

    from rich.console import Console

    from w2vb_ray.embed.run import EmbedRun  # after the config: a misspelt key is told in 0.3 s, without torch and ray

    return EmbedRun(config, Console()).run()


if __name__ == "__main__":
    end(job_main(main))
