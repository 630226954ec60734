"""What every job's command line shares: arguments, exit codes, and no secret in anything it prints."""

import argparse
import atexit
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from w2vb_ray.errors import ExitCode, NotReconciled, TableHeld, UserError
from w2vb_ray.runtime import interrupt
from w2vb_ray.runtime.redaction import redact_output

_EXIT_CODES = """\
exit codes: 0 done or nothing to do; 2 bad configuration or input; 4 another run holds the tables;
5 rows do not reconcile; 6 more rejects than sink.max_reject_fraction; 7 interrupted, run it again to resume"""


def parse(
    verb: str, description: str | None, arguments: list[str], *, exit_codes: str = _EXIT_CODES
) -> argparse.Namespace:
    """Parse `CONF.yaml [section.key=value ...] [--print-config]`; `exit_codes` is the end of the help."""
    parser = argparse.ArgumentParser(
        prog=f"python -m jobs.{verb}",
        description=(description or "").partition(":")[0] + ".",
        epilog=exit_codes,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", metavar="CONF.yaml", help="what differs from the defaults")
    parser.add_argument("overrides", metavar="section.key=value", nargs="*", help="override one setting; YAML values")
    parser.add_argument("--print-config", action="store_true", help="show the merged config and do nothing")
    return parser.parse_intermixed_args(arguments)


def job_main(main: Callable[[list[str]], int]) -> int:
    """Run a job's `main` with the process's arguments and turn what it raises into the contract's exit codes."""
    interrupt.raise_on_terminate()
    redact_output()
    # Else a thread of Ray Data that is still at work when a run has let go of Ray would start it once more.
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
    try:
        return main(sys.argv[1:])
    except UserError as err:
        return _say(f"error: {err}", ExitCode.USER_ERROR)
    except TableHeld as err:
        return _say(f"held: {err}", ExitCode.TABLE_HELD)
    except NotReconciled as err:
        return _say(f"not reconciled: {err}", ExitCode.NOT_RECONCILED)
    except KeyboardInterrupt:
        return _say("interrupted; run the same command again to resume", ExitCode.INTERRUPTED)
    except Exception:  # noqa: BLE001 - the last stop: the traceback goes through the redacting stream
        traceback.print_exc()
        return 1


def end(code: int) -> NoReturn:
    """End the process with a job's exit code, all output written.

    Where Ray was loaded the interpreter is not taken apart: now and then a thread of Ray's that is still at work runs
    into what is gone by then, and the process would end by SIGSEGV after its work was done and told.
    """
    if "ray" not in sys.modules:
        sys.exit(code)
    atexit._run_exitfuncs()  # pyright: ignore[reportPrivateUsage] - what else runs them?
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # nobody reads it any more
            stream.flush()
    os._exit(code)


def _say(message: str, code: ExitCode) -> int:
    sys.stderr.write(f"{message}\n")
    return code
