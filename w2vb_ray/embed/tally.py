"""What a run did, counted from the descriptors that were committed; the source of its report and its exit code."""

import math
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from w2vb_ray.embed.plan import Plan
from w2vb_ray.errors import NotReconciled


@dataclass
class LanguageTally:
    """One language: embedded utterances, their audio in seconds, rejects by reason."""

    embedded: int = 0
    audio_s: float = 0.0
    rejected: Counter[str] = field(default_factory=Counter[str])


@dataclass
class Tally:
    """Totals of the committed descriptors of a run."""

    languages: defaultdict[str, LanguageTally] = field(default_factory=lambda: defaultdict(LanguageTally))
    units: Counter[int] = field(default_factory=Counter[int])
    num_frames: int = 0
    num_padding_frames: int = 0
    num_by_length: Counter[int] = field(default_factory=Counter[int])  # bin of `schema.LENGTH_EDGES_S` -> utterances
    read_s: float = 0.0
    encode_s: float = 0.0
    write_s: float = 0.0
    commit_s: float = 0.0
    encode_started: float = math.inf
    timeline: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    """Unix time of each commit, and the seconds of audio embedded by then."""

    def add(self, descriptors: Sequence[Mapping[str, Any]], commit_s: float = 0.0) -> None:
        """Count what one batch has just committed, in so many seconds."""
        self.commit_s += commit_s
        for descriptor in descriptors:
            self.units.update(descriptor["units"])
            self.num_frames += descriptor["num_frames"]
            self.num_padding_frames += descriptor["num_padding_frames"]
            self.num_by_length.update(dict(enumerate(descriptor["num_by_length"])))
            self.read_s += descriptor["read_s"]
            self.encode_s += descriptor["encode_s"]
            self.write_s += descriptor["write_s"]
            self.encode_started = min(self.encode_started, descriptor["encode_started"])
            for outcome in descriptor["outcomes"]:
                language = self.languages[outcome["language"]]
                if outcome["reason"] is None:
                    language.embedded += outcome["count"]
                    language.audio_s += outcome["audio_s"] or 0.0
                else:
                    language.rejected[outcome["reason"]] += outcome["count"]
        self.timeline.append((time.time(), self.audio_s))

    @property
    def embedded(self) -> int:
        """Utterances embedded."""
        return sum(language.embedded for language in self.languages.values())

    @property
    def rejected(self) -> int:
        """Utterances rejected."""
        return sum(self.reasons.values())

    @property
    def reasons(self) -> Counter[str]:
        """Rejects by reason."""
        return sum((language.rejected for language in self.languages.values()), Counter[str]())

    @property
    def audio_s(self) -> float:
        """Seconds of audio embedded."""
        return sum(language.audio_s for language in self.languages.values())

    @property
    def steady_s(self) -> float:
        """Seconds from the first unit's arrival at an encoder to the last commit: the run without its start-up."""
        return max(0.0, self.timeline[-1][0] - self.encode_started) if self.timeline else 0.0

    @property
    def padding_waste(self) -> float:
        """Share of the encoder's frames that were padding."""
        return self.num_padding_frames / max(1, self.num_frames + self.num_padding_frames)

    def reconcile(
        self,
        plan: Plan,
        expected_rows: Mapping[str, int],
        found_rows: Mapping[str, int],
        units: Collection[int] | None = None,
    ) -> None:
        """Check `input = embedded + rejected + unchanged`, each unit once, and the row counts of the tables.

        Args:
            plan: what there was to do.
            expected_rows: of each table, by what was committed.
            found_rows: of each table, by its log.
            units: that had to come out, where some of the plan's were cut into others.

        Raises:
            NotReconciled: says which sum does not hold.
        """
        accounted = self.embedded + self.rejected + plan.num_unchanged
        if accounted != plan.num_input:
            raise NotReconciled(
                f"input {plan.num_input} != {self.embedded} embedded + {self.rejected} rejected + "
                f"{plan.num_unchanged} unchanged; run the same command again, and report this if it stays"
            )
        repeated = [unit for unit, count in self.units.items() if count > 1]
        expected = set(range(len(plan.units))) if units is None else set(units)
        if repeated or self.units.keys() != expected:
            raise NotReconciled(f"{len(self.units)} of {len(expected)} units came out, {len(repeated)} of them twice")
        if dict(expected_rows) != dict(found_rows):
            raise NotReconciled(f"the tables should hold {dict(expected_rows)} rows, but hold {dict(found_rows)}")
