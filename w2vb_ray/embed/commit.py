"""Descriptors of written files -> one batch of Delta commits, earlier rows of the same ids taken out with them."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from w2vb_ray.config.embed import SinkSection
from w2vb_ray.embed.claim import Actions, Claim
from w2vb_ray.embed.plan import Plan
from w2vb_ray.embed.rewrite import rewrite
from w2vb_ray.embed.tables import FRAMES, REJECTS, UTTERANCES, DataFile, Table, add_action, remove_action
from w2vb_ray.embed.write import WriteTask
from w2vb_ray.errors import W2vbError


class Waiting:
    """Descriptors that wait for the next commit.

    Args:
        sink: when a commit is due.
    """

    def __init__(self, sink: SinkSection) -> None:
        self._sink = sink
        self._descriptors: list[dict[str, Any]] = []
        self._oldest = 0.0

    def add(self, descriptor: dict[str, Any]) -> None:
        """Let one more wait."""
        if not self._descriptors:
            self._oldest = time.monotonic()
        self._descriptors.append(descriptor)

    @property
    def is_due(self) -> bool:
        """Whether enough files wait, or the oldest has waited long enough."""
        num_files = sum(len(descriptor["files"]) for descriptor in self._descriptors)
        waited_s = time.monotonic() - self._oldest if self._descriptors else 0.0
        return num_files >= self._sink.commit_files or waited_s > self._sink.commit_interval_s

    def take(self) -> list[dict[str, Any]]:
        """All that wait; they wait no longer."""
        taken, self._descriptors = self._descriptors, []
        return taken


class Committer:
    """Commits what write tasks describe, and counts what it committed.

    Args:
        claim: this run's hold on the tables.
        tables: the tables by name.
        plan: where the earlier rows of changed ids are.
        task: how to write the files that replace those that lose rows.
    """

    def __init__(self, claim: Claim, tables: Mapping[str, Table], plan: Plan, task: WriteTask) -> None:
        self._claim = claim
        self._tables = tables
        self._task = task
        self._places = {UTTERANCES: plan.utterance_files, FRAMES: plan.frame_files, REJECTS: plan.reject_files}
        self._moved: dict[str, str] = {}  # file -> the file that replaced it in this run
        self.num_commits = 0
        self.expected_rows = {name: table.num_rows() for name, table in tables.items() if table.exists}

    def commit(self, descriptors: Sequence[Mapping[str, Any]]) -> None:
        """One batch: every file of the descriptors, and without the rows that they replace.

        Raises:
            TableHeld: another run took over; nothing of the batch is visible.
        """
        actions: dict[str, Actions] = {UTTERANCES: [], FRAMES: [], REJECTS: []}
        for descriptor in descriptors:
            for file in descriptor["files"]:
                added = DataFile(file["path"], file["language"], file["num_rows"], file["num_bytes"])
                actions[file["table"]].append(add_action(added))
                self.expected_rows[file["table"]] += added.num_rows
        utterances = [id_ for descriptor in descriptors for id_ in descriptor["replaced_utterances"]]
        rejects = [id_ for descriptor in descriptors for id_ in descriptor["replaced_rejects"]]
        actions[UTTERANCES] += self._without(UTTERANCES, utterances)
        actions[FRAMES] += self._without(FRAMES, utterances)
        actions[REJECTS] += self._without(REJECTS, rejects)
        self._claim.commit_batch(actions)
        self.num_commits += 1

    def found_rows(self) -> dict[str, int]:
        """Rows of each table as its log has them now."""
        return {name: self._tables[name].num_rows() for name in self.expected_rows}

    def _without(self, name: str, ids: Sequence[str]) -> Actions:
        """Remove rows: each file that holds some of them goes, and comes back rewritten unless nothing is left."""
        places = self._places[name]
        by_file: dict[str, list[str]] = {}
        for id_ in ids:
            if id_ in places:
                by_file.setdefault(self._current(places[id_]), []).append(id_)
        if not by_file:
            return []
        table = self._tables[name]
        try:
            table.check_live(by_file.keys())
        except W2vbError:
            self._claim.renew()  # if it was another run, the fence says so
            raise
        live = {file.path: file for file in table.files()}
        actions: Actions = []
        for path, gone in by_file.items():
            old = live[path]
            new = rewrite(table, [old], self._task.run_id, without=pa.array(gone), between=self._claim.renew_if_due)
            actions.append(remove_action(old))
            if new is not None:
                self._moved[path] = new.path
                actions.append(add_action(new))
            self.expected_rows[name] += (0 if new is None else new.num_rows) - old.num_rows
        return actions

    def _current(self, path: str) -> str:
        while path in self._moved:
            path = self._moved[path]
        return path
