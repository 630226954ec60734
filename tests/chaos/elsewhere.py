"""Run the job as if on another machine: `python -m tests.chaos.elsewhere NAME CONF.yaml ...`, as `jobs.embed` else.

A run asks the kernel of its own machine whether a holder is alive, and the lease only when it is on another one. A
paused driver can therefore be overtaken only by a driver elsewhere; this is the one line that makes it so.
"""

import runpy
import sys

from w2vb_ray.embed import holder

if __name__ == "__main__":
    name = sys.argv.pop(1)
    holder._namespace = lambda: name
    runpy.run_module("jobs.embed", run_name="__main__", alter_sys=True)
