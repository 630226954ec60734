"""One run of the `embed` job, from config to exit code. The order of the steps is the protocol:

open tables, who holds them? does the store fence? ─ list the source ─ plan ─ nothing to do: end, Ray never starts
─ start Ray, does the job fit? ─ claim the tables ─ stream units, commit as files come ─ reconcile ─ report
"""

import time
from collections.abc import Generator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pyarrow as pa
import ray
from deltalake.exceptions import DeltaError
from rich.console import Console

from w2vb_ray import schema
from w2vb_ray.config.embed import EmbedConfig
from w2vb_ray.config.secrets import masked
from w2vb_ray.embed import page, pipeline
from w2vb_ray.embed.card import write_card
from w2vb_ray.embed.claim import Claim
from w2vb_ray.embed.commit import Committer, Waiting
from w2vb_ray.embed.metrics import RunMetrics
from w2vb_ray.embed.plan import Plan
from w2vb_ray.embed.planning import plan_run
from w2vb_ray.embed.probe import check_conditional_put
from w2vb_ray.embed.provenance import Provenance
from w2vb_ray.embed.report import describe_encoders, describe_plan, report, show_closing
from w2vb_ray.embed.rounds import Retries, Rounds
from w2vb_ray.embed.stream import Descriptor, leave_ray, stream
from w2vb_ray.embed.tables import FRAMES, REJECTS, UTTERANCES, Layout, one_line, open_tables
from w2vb_ray.embed.tally import Tally
from w2vb_ray.embed.watch import Watchdog
from w2vb_ray.embed.write import WriteTask
from w2vb_ray.encoder import Checkpoint, resolve_checkpoint
from w2vb_ray.encoder.precision import DEVICES, loaded_bytes, resolve_precision
from w2vb_ray.errors import ExitCode, NotReconciled, SinkError, TableHeld
from w2vb_ray.runtime import cluster, interrupt
from w2vb_ray.runtime.progress import EmbedProgress, stage
from w2vb_ray.runtime.run_folder import RunFolder, new_run_id
from w2vb_ray.source import Inventory, build_inventory

_PLAN_ATTEMPTS = 3  # another run may begin and end between our plan and our claim


class EmbedRun:
    """One run; `run()` is its whole life.

    Args:
        config: the validated config.
        console: where plan, progress and summary are shown.
    """

    def __init__(self, config: EmbedConfig, console: Console) -> None:
        self.config = config
        self.console = console
        self.run_id = new_run_id()
        self.started = datetime.now(UTC)
        self.tally = Tally()
        self._metrics = RunMetrics()
        self._num_encoders = 0
        self._rounds: Rounds | None = None
        self._clock = time.monotonic()
        self._checkpoint: Checkpoint
        self._folder = RunFolder(config.sink.uri, config.sink.storage, self.run_id)
        self._tables = open_tables(config.sink.uri, config.sink.storage)
        self._claim = Claim(self._tables, self.run_id, config.sink.lease_s)

    def run(self) -> ExitCode:
        """Plan, embed what is new, commit, report.

        Raises:
            UserError: exit 2.
            TableHeld: exit 4.
            NotReconciled: exit 5, after the report is written.
        """
        self._claim.check_free()
        if not self.config.sink.single_writer:
            check_conditional_put(self.config.sink.uri, self.config.sink.storage, self.run_id)
        with stage(self.console, "reading the checkpoint"):
            self._checkpoint = resolve_checkpoint(self.config.encoder)
        provenance = Provenance.of(self.config, self._checkpoint, self._known_precision())
        provenance.check(self._tables[UTTERANCES].properties, self.config.sink.uri)
        with stage(self.console, "listing the source"):
            inventory = build_inventory(self.config.source)
        try:
            return self._plan_and_embed(inventory)
        finally:
            if ray.is_initialized():
                leave_ray()

    def _known_precision(self) -> str | None:
        """None where it depends on the device, which is known when Ray has started."""
        found = {resolve_precision(self.config.encoder.precision, self._checkpoint, device) for device in DEVICES}
        return found.pop() if len(found) == 1 else None

    def _plan_and_embed(self, inventory: Inventory) -> ExitCode:
        for attempt in range(_PLAN_ATTEMPTS):
            if attempt:
                for table in self._tables.values():
                    table.reload()
            self._claim.check_free()
            if self._claim.has_unconfirmed() and not self._claim.take():
                continue
            plan = self._plan(inventory)
            if not plan.units:
                self._claim.release()
                return self._finish(ExitCode.DONE, plan, None)
            pool = self._connect(len(plan.units))
            provenance = Provenance.of(self.config, self._checkpoint, self.config.encoder.precision)
            provenance.check(self._tables[UTTERANCES].properties, self.config.sink.uri)
            if self._hold(self._layouts(provenance, plan.columns)):
                return self._embed(plan, pool, provenance)
        raise TableHeld("other runs keep taking these tables between this run's plan and its claim; run it again")

    def _plan(self, inventory: Inventory) -> Plan:
        with stage(self.console, "planning"):
            plan = plan_run(self.config, self._tables, inventory)
        self._say(describe_plan(plan, inventory.format, inventory.num_skipped))
        return plan

    def _say(self, line: str) -> None:
        self.console.print(line, soft_wrap=True, highlight=False)

    def _connect(self, num_units: int) -> cluster.EncoderPool:
        """Start or join Ray, resolve everything that was `auto`, and record the resolved config."""
        if not ray.is_initialized():
            with stage(self.console, "starting Ray"):
                cluster.connect(self.config.cluster)
        weights_bytes = loaded_bytes(self._checkpoint, self.config.encoder.precision)
        pool = cluster.fit_pool(
            self.config.cluster,
            self.config.encoder,
            cluster.nodes(),
            memory_bytes=pipeline.ENCODER_MEMORY_BYTES + 2 * weights_bytes,
            task_memory_bytes=pipeline.READ_MEMORY_BYTES + pipeline.WRITE_MEMORY_BYTES,
            num_units=num_units,
        )
        self._num_encoders = pool.size
        precision = resolve_precision(self.config.encoder.precision, self._checkpoint, pool.device)
        encoder = self.config.encoder.model_copy(update={"device": pool.device, "precision": precision})
        self.config = self.config.model_copy(update={"encoder": encoder})
        self._say(describe_encoders(pool, encoder))
        return pool

    def _layouts(self, provenance: Provenance, inventory: pa.Schema) -> dict[str, Layout]:
        columns = {
            UTTERANCES: schema.utterances_schema(provenance.vectors, schema.extra_fields(inventory)),
            REJECTS: schema.REJECTS,
        }
        if self.config.sink.frames:
            columns[FRAMES] = schema.frames_schema(provenance.vectors)
        return {name: Layout(fields, provenance.properties) for name, fields in columns.items()}

    def _hold(self, layouts: Mapping[str, Layout]) -> bool:
        """Hold the tables, create those that are missing, add the source's new columns."""
        utterances = self._tables[UTTERANCES]
        if utterances.exists and not self._claim.is_held and not self._claim.take():
            return False
        if not self._claim.create_missing(layouts):
            return False
        self._claim.extend(utterances, layouts[UTTERANCES].columns)
        return True

    def _embed(self, plan: Plan, pool: cluster.EncoderPool, provenance: Provenance) -> ExitCode:
        sink = self.config.sink
        task = WriteTask(sink.uri, sink.storage, provenance.vectors, self.run_id, provenance.properties)
        committer = Committer(self._claim, self._tables, plan, task)
        rounds = self._rounds = Rounds(plan)
        self._folder.write_config(self.config)
        pipeline.configure()
        try:
            watchdog = Watchdog(self.config.cluster.unit_timeout_s, pool)
            build = partial(pipeline.build, rounds=rounds, config=self.config, task=task, watchdog=watchdog)
            interrupted = self._stream(plan, committer, rounds, stream(rounds, watchdog, build, self._say))
        except BaseException:
            self._claim.release_quietly()
            raise
        self._claim.release()
        if interrupted:
            return self._finish(ExitCode.INTERRUPTED, plan, committer)
        try:
            self.tally.reconcile(plan, committer.expected_rows, committer.found_rows(), rounds.expected)
        except NotReconciled:
            self._finish(ExitCode.NOT_RECONCILED, plan, committer)
            raise
        share = self.tally.rejected / plan.num_planned
        code = ExitCode.TOO_MANY_REJECTS if share > sink.max_reject_fraction else ExitCode.DONE
        return self._finish(code, plan, committer)

    def _stream(
        self, plan: Plan, committer: Committer, rounds: Rounds, descriptors: Generator[Descriptor | None]
    ) -> bool:
        """Commit descriptors as they come. True when the person at the keyboard asked to stop."""
        waiting = Waiting(self.config.sink)
        with (
            interrupt.deferred() as stop,
            EmbedProgress(self.console, sum(plan.unit_s), plan.num_planned) as progress,
            closing(descriptors),
        ):
            try:
                for descriptor in descriptors:
                    if descriptor is not None:
                        waiting.add(descriptor)
                        progress.advance(*_advance(descriptor, rounds))
                    if waiting.is_due:
                        self._commit(committer, waiting)
                    with self._writing_tables():
                        self._claim.renew_if_due()
                    progress.tick()
                    if stop.is_set():
                        break
            except TableHeld:
                raise
            except Exception:
                self._commit(committer, waiting)  # what has come out is whole, whatever stopped the stream
                raise
            self._commit(committer, waiting)
            return stop.is_set()

    def _commit(self, committer: Committer, waiting: Waiting) -> None:
        if batch := waiting.take():
            started = time.perf_counter()
            with self._writing_tables():
                committer.commit(batch)
            commit_s = time.perf_counter() - started
            self.tally.add(batch, commit_s)
            self._metrics.count(batch, commit_s)

    @contextmanager
    def _writing_tables(self) -> Generator[None]:
        """Tell plainly why the store does not let this run commit: no space, no permission, an expired token."""
        try:
            yield
        except (DeltaError, OSError) as err:
            raise SinkError(
                f"the tables under sink.uri ({self.config.sink.uri}) cannot be written: {one_line(err)}. What was "
                "committed before stays; mend what stands in the way and run the same command again"
            ) from err

    def _finish(self, code: ExitCode, plan: Plan, committer: Committer | None) -> ExitCode:
        wall_s = time.monotonic() - self._clock
        facts = {
            "run_id": self.run_id,
            "status": code.name.lower(),
            "exit_code": int(code),
            "started": self.started.isoformat(timespec="seconds"),
            "wall_s": wall_s,
            "audio_hours_per_hour": self.tally.audio_s / wall_s,
            "commits": 0 if committer is None else committer.num_commits,
            "checkpoint": self.config.encoder.checkpoint,
            "trained": not self._checkpoint.untrained,
            "precision": self.config.encoder.precision,
            "device": self.config.encoder.device,
            "num_encoders": self._num_encoders,
            "source": masked(self.config.source.uri),
            "sink": masked(self.config.sink.uri),
            "retries": asdict(self._rounds.retries if self._rounds else Retries()),
        }
        self._folder.write_config(self.config)
        found = report(self.tally, plan, **facts)
        self._folder.write_report(found, page.render(found))
        write_card(self.config.sink.uri, self.config.sink.storage, self._tables)
        trained = not self._checkpoint.untrained
        show_closing(self.console, self.tally, plan, code, wall_s=wall_s, folder=self._folder.uri, trained=trained)
        return code


def _advance(descriptor: Mapping[str, Any], rounds: Rounds) -> tuple[float, float, int, int]:
    outcomes = descriptor["outcomes"]
    embedded = sum(o["count"] for o in outcomes if o["reason"] is None)
    audio_s = sum(o["audio_s"] or 0.0 for o in outcomes if o["reason"] is None)
    rejected = sum(o["count"] for o in outcomes) - embedded
    return rounds.seconds(descriptor["units"]), audio_s, embedded, rejected
