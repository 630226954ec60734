"""Train w2v-BERT on speech without labels: `python -m jobs.pretrain CONF.yaml [section.key=value ...]`."""

import sys

from jobs.cli import end, job_main, parse
from w2vb_ray.config import load_config, show_config
from w2vb_ray.config.pretrain import PretrainConfig
from w2vb_ray.errors import ExitCode

_EXIT_CODES = (
    "exit codes: 0 done or nothing to do; 1 the codes collapsed (with alarm.stop=true), or a failure; 2 bad "
    "configuration or input;\n4 another run trains in pretrain.uri; 7 interrupted, run it again to go on from the last "
    "checkpoint"
)


def main(arguments: list[str]) -> int:
    """Parse, train, exit code."""
    options = parse("pretrain", __doc__, arguments, exit_codes=_EXIT_CODES)
    config = load_config(PretrainConfig, options.config, options.overrides)
    if options.print_config:
        sys.stdout.write(show_config(config))
        return ExitCode.DONE

    from rich.console import Console

    from w2vb_ray.pretrain.run import pretrain  # after the config: a misspelt key is told in 0.3 s, without torch, ray

    return pretrain(config, Console())


if __name__ == "__main__":
    end(job_main(main))
