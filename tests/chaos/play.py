"""Plays a scenario: runs under their faults, then runs in peace until one has nothing to do, then the check."""

import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

from w2vb_ray.errors import ExitCode

from .bench import Bench
from .check import Findings, check_tables
from .cluster import ENCODER, WORKERS
from .corpus import Corpus
from .gate import Held, Verdict
from .job import Driver, Job
from .scenario import ROUGH, Act, Edit, Fault, Moment, Scenario
from .watch import Watch

LEASE_S = 3.0  # for those elsewhere; here the kernel tells whether a holder lives
ATTEMPTS = 6  # until a run that nothing strikes must have ended with 0
DONE, HELD, INTERRUPTED = int(ExitCode.DONE), int(ExitCode.TABLE_HELD), int(ExitCode.INTERRUPTED)
NO_TABLES = int(ExitCode.USER_ERROR)  # of maintenance
KILLED, TERMINATED = -signal.SIGKILL, -signal.SIGTERM


@dataclass
class Outcome:
    """How a seed went.

    Args:
        findings: what was wrong.
        story: what was done, and how each run ended.
        struck: faults that met their moment; the others came too late for it.
    """

    findings: Findings = field(default_factory=Findings)
    story: list[str] = field(default_factory=list)
    struck: list[Fault] = field(default_factory=list)
    seconds: float = 0.0


class Play:
    """One seed.

    Args:
        scenario: what happens.
        bench: where.
    """

    def __init__(self, scenario: Scenario, bench: Bench) -> None:
        self._bench = bench
        self._scenario = scenario
        self._folder: Path = bench.folder / f"seed{scenario.seed}"
        self._folder.mkdir()
        source, self._sink, options = bench.places(scenario.seed, on_s3=scenario.on_s3)
        self._corpus = Corpus(source, scenario)
        self._job = Job(self._corpus, self._sink, options, self._folder, bench.cluster.address, LEASE_S)
        self._outcome = Outcome()

    def run(self) -> Outcome:
        started = time.monotonic()
        try:
            self._bench.gate.faults = ROUGH if self._scenario.rough else {}
            for act in self._scenario.acts:
                for edit in act.edits:
                    self._edit(edit)
                self._play(act)
                self._bench.gate.forget()
                self._bench.cluster.mend()
            self._bench.gate.faults = {}
            if self._settle():
                findings = self._outcome.findings
                check_tables(findings, self._corpus, self._sink, self._bench.reference, frames=self._job.frames)
        finally:
            self._job.stop()
            self._bench.empty(self._sink)
        self._outcome.seconds = time.monotonic() - started
        return self._outcome

    def _edit(self, edit: Edit) -> None:
        if edit is Edit.MAINTAIN:
            for action in ("compact", "vacuum"):  # 2: the run before this one has not come to make tables
                self._ended(action, self._job.maintain(action), {DONE, HELD, NO_TABLES})
        self._job.frames |= edit is Edit.FRAMES
        self._corpus.edit(edit)

    def _play(self, act: Act) -> None:
        watch = self._watch(act.moment)
        driver = self._job.start("another machine" if act.fault is Fault.PAUSE else "")
        if not watch.wait(driver.process):
            watch.let(Verdict.PASS)
            self._ended(act.fault, driver, {DONE})
            return
        self._outcome.struck.append(act.fault)
        match act.fault:
            case Fault.KILL_DRIVER:
                driver.send(signal.SIGKILL)
                watch.let(Verdict.DROP)
                self._ended(act.fault, driver, {KILLED, DONE})
            case Fault.KILL_ENCODER | Fault.KILL_WORKER:
                titles = ENCODER if act.fault is Fault.KILL_ENCODER else WORKERS
                if not self._bench.cluster.kill_process(titles):
                    self._outcome.struck.pop()  # none was at work
                watch.let(Verdict.PASS)
                self._ended(act.fault, driver, {DONE})
            case Fault.KILL_NODE:
                self._bench.cluster.kill_node()
                watch.let(Verdict.PASS)
                self._ended(act.fault, driver, {DONE})
            case Fault.INTERRUPT:
                driver.send(signal.SIGTERM)
                watch.let(Verdict.PASS)
                early = (
                    {TERMINATED, signal.SIGTERM} if act.moment.kind == "start" else set[int]()
                )  # the latter is Ray's
                self._ended(act.fault, driver, {DONE, INTERRUPTED} | early)
            case Fault.SECOND:
                self._second(act, driver, watch)
            case Fault.COMPACT | Fault.VACUUM:
                maintenance = self._job.maintain(act.fault.name.lower())
                watch.let(Verdict.PASS)
                self._ended(act.fault, maintenance, {DONE, HELD, NO_TABLES})
                self._ended("the run beside it", driver, {DONE, HELD})
            case Fault.PAUSE:
                self._pause(act, driver, watch)
            case Fault.BREAK | Fault.REFUSE:
                watch.let(Verdict.DROP if act.fault is Fault.BREAK else Verdict.REFUSE)
                self._ended(act.fault, driver, {DONE})
            case Fault.LATE:
                driver.send(signal.SIGKILL)
                self._ended(act.fault, driver, {KILLED})
                self._beside(act, watch.held, self._job.start())

    def _second(self, act: Act, driver: Driver, watch: Watch) -> None:
        """Two at once: one of them does the work, the other is told so, or finds nothing to do."""
        second = self._job.start()
        if not act.landing:
            watch.let(Verdict.PASS)
        codes = {self._ended("the second driver", second, {DONE, HELD})}
        watch.let(Verdict.PASS)
        codes.add(self._ended(act.fault, driver, {DONE, HELD}))
        if DONE not in codes:
            self._outcome.findings.add("stuck", "both drivers were told that the other holds the tables")

    def _pause(self, act: Act, driver: Driver, watch: Watch) -> None:
        """A driver stands still until its lease has passed and another has done its work; then it goes on."""
        driver.send(signal.SIGSTOP)
        self._bench.cluster.lend()
        for _ in range(ATTEMPTS):
            if self._beside(act, watch.held, self._job.start("a third machine")) == DONE:
                break
        watch.let(Verdict.PASS)
        driver.send(signal.SIGCONT)
        self._ended(act.fault, driver, {DONE, HELD})

    def _beside(self, act: Act, late: Held | None, driver: Driver) -> int | None:
        """A run during which (or after which) the held write of an earlier run reaches the store."""
        if late is not None and act.landing and not late.gone.is_set():
            landing = self._bench.gate.hold(Moment("log", act.landing, before=True))
            while driver.process.poll() is None and not landing.reached.wait(0.05):
                pass
            if landing.reached.is_set():
                late.let(Verdict.PASS)
                late.gone.wait(10)
            landing.let(Verdict.PASS)
        code = self._ended("the next driver", driver, {DONE, HELD})
        if late is not None and code == DONE:
            late.let(Verdict.PASS)
        return code

    def _settle(self) -> bool:
        """Runs that nothing strikes: one ends with 0, the one after it has nothing to do. Whether it came to that."""
        done = False
        for _ in range(ATTEMPTS):
            driver = self._job.start()
            code = self._ended("rerun" if done else "no fault", driver, {DONE, HELD})
            if code == DONE and "nothing to do" in driver.log.read_text():
                return True
            if code == DONE and done:
                self._outcome.findings.add("restless", f"the rerun found something to do:\n{driver.tail()}")
                return True
            done = code == DONE
        self._outcome.findings.add("stuck", f"{ATTEMPTS} runs without a fault, and none ended with 0")
        return False

    def _watch(self, moment: Moment) -> Watch:
        gate = self._bench.gate if self._scenario.on_s3 else None
        return Watch(moment, None if self._scenario.on_s3 else Path(self._sink.uri), gate)

    def _ended(self, what: str, driver: Driver, allowed: set[int]) -> int | None:
        """Wait for a driver's end and note its exit code; one that is not allowed is a finding."""
        code = driver.wait()
        self._outcome.story.append(f"{what}: {'hung' if code is None else code}")
        if code not in allowed:
            problem = f"{what}: {'hung' if code is None else f'exit {code}'}, see {driver.log}\n{driver.tail()}"
            self._outcome.findings.add("failed", problem)
        if code in (HELD, INTERRUPTED) and "Traceback" in driver.log.read_text():
            self._outcome.findings.add("noisy", f"{what}: exit {code} with a traceback, see {driver.log}")
        return code
