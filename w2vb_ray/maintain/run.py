"""One run of the `maintain` job: which action, what the person sees of it, and its report."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table as TextTable

from w2vb_ray.config.maintain import MaintainConfig
from w2vb_ray.embed.card import write_card
from w2vb_ray.embed.probe import check_conditional_put
from w2vb_ray.embed.tables import UTTERANCES, open_tables
from w2vb_ray.errors import SinkError
from w2vb_ray.maintain.compact import Merge, compact
from w2vb_ray.maintain.forget import Forgetting, forget
from w2vb_ray.maintain.leftovers import Leftover
from w2vb_ray.maintain.rejects import Group, rejects
from w2vb_ray.maintain.vacuum import Vacuumed, vacuum
from w2vb_ray.runtime.progress import stage
from w2vb_ray.runtime.run_folder import RunFolder, new_run_id

_DRY = "this was a dry run and nothing has changed; maintain.dry_run=false does it"
_EXAMPLES = 3
_GROUPS = 50  # shown at most


def maintain(config: MaintainConfig, console: Console) -> None:
    """Do what the config says and show it. Where something was changed, leave a report, and the card as it is now.

    Raises:
        SinkError: there are no tables, or the store would not do it.
        TableHeld: a run is at work on them.
    """
    section, run_id, started = config.maintain, new_run_id(), datetime.now(UTC)
    tables = open_tables(config.sink.uri, config.sink.storage)
    if not tables[UTTERANCES].exists:
        raise SinkError(
            f"there are no tables under sink.uri ({config.sink.uri}); set it to where an embed run put them"
        )
    dry = section.dry_run
    if not dry and not config.sink.single_writer:
        check_conditional_put(config.sink.uri, config.sink.storage, run_id)
    with stage(console, f"{section.action}{' (dry run)' if dry else ''}"):
        match section.action:
            case "vacuum":
                lines, facts = _vacuumed(vacuum(config, tables, run_id), dry)
            case "compact":
                lines, facts = _compacted(compact(config, tables, run_id), dry)
            case "forget":
                lines, facts = _forgotten(forget(config, tables, run_id), dry)
            case "rejects":
                retry, groups = config.rejects.retry, rejects(config, tables, run_id)
                lines, facts = _rejected(groups, retry, dry)
                dry = dry if retry else None
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    if dry:
        console.print(_DRY, soft_wrap=True, highlight=False)
    if dry is False:
        head = {"job": "maintain", "action": section.action, "run_id": run_id}
        times = {
            "started": started.isoformat(timespec="seconds"),
            "wall_s": (datetime.now(UTC) - started).total_seconds(),
        }
        RunFolder(config.sink.uri, config.sink.storage, run_id).write_report({**head, **times, **facts})
        for table in tables.values():
            table.reload()
        write_card(config.sink.uri, config.sink.storage, tables, only_again=True)


Shown = tuple[Sequence[str | TextTable], dict[str, Any]]
"""Lines for the person, and the same for the report: numbers, never a value of a row."""


def _vacuumed(found: Vacuumed, dry: bool) -> Shown:
    lines = [f"{_would(dry, 'deleted', 'be deleted')}: {_files(found.files)}"]
    lines += [f"  {file.table}/{file.path} ({_size(file.num_bytes)})" for file in found.files[:_EXAMPLES]]
    if len(found.files) > _EXAMPLES:
        lines.append("  …")
    if found.num_uploads is None:
        lines.append("the store does not tell which uploads are open; a life-cycle rule of the bucket can end them")
    elif found.num_uploads:
        lines.append(f"{_would(dry, 'ended', 'be ended')}: {found.num_uploads:,} uploads that were never completed")
    return lines, {**_file_facts(found.files), "uploads": found.num_uploads}


def _compacted(merges: Sequence[Merge], dry: bool) -> Shown:
    table = TextTable("table", "files merged", "into", "size")
    facts: dict[str, Any] = {}
    for name in dict.fromkeys(merge.table for merge in merges):
        of_table = [merge for merge in merges if merge.table == name]
        num_files, num_bytes = sum(len(m.files) for m in of_table), sum(m.num_bytes for m in of_table)
        table.add_row(name, f"{num_files:,}", f"{len(of_table):,}", _size(num_bytes))
        facts[name] = {"files": num_files, "into": len(of_table), "bytes": num_bytes}
    if not merges:
        return ["no small files to merge" + ("" if dry else "; the logs were shortened")], facts
    after = "readers of the directories see the rows of the merged files twice until a vacuum deletes these"
    return [table, *([] if dry else [after])], facts


def _forgotten(done: Forgetting, dry: bool) -> Shown:
    rows = ", ".join(f"{number:,} of {name}" for name, number in done.num_rows.items())
    lines = [
        f"{_would(dry, 'erased', 'be erased')}: rows {rows}; {done.num_reports:,} files of run reports that name them",
        f"{_would(dry, 'deleted', 'be deleted')}: {_files(done.files)} that no snapshot needs"
        + (", those that these rows leave behind, and" if dry else ", and")
        + f" {done.num_versions:,} old object versions",
        f"{_would(dry, 'kept away', 'be kept away')} from later runs: {done.num_suppressed:,} ids, URIs and values",
        "the audio in the source is not touched, nor are copies of the tables elsewhere",
    ]
    facts = {
        "values": done.num_values,
        "rows": dict(done.num_rows),
        "suppressed": done.num_suppressed,
        "reports": done.num_reports,
        **_file_facts(done.files),
        "versions": done.num_versions,
    }
    return lines, facts


def _rejected(groups: Sequence[Group], retry: bool, dry: bool) -> Shown:
    table = TextTable("reason", "language", "rejects", "for example", show_footer=True)
    total = sum(group.num_rows for group in groups)
    table.columns[2].footer = f"{total:,}"
    for group in groups[:_GROUPS]:
        table.add_row(group.reason, group.language, f"{group.num_rows:,}", f"{group.audio_uri}: {group.detail}")
    lines: list[str | TextTable] = [table] if groups else ["no rejects"]
    if len(groups) > _GROUPS:
        lines.append(
            f"and {len(groups) - _GROUPS:,} smaller groups; rejects.reasons and rejects.languages narrow it down"
        )
    if retry:
        lines.append(f"{_would(dry, 'the next embed run tries', 'be tried')} again: {total:,} rejects")
    return lines, {"rejects": total, "retry": retry}


def _would(dry: bool, did: str, do: str) -> str:
    return f"would {do}" if dry else did


def _files(files: Sequence[Leftover]) -> str:
    return f"{len(files):,} files, {_size(sum(file.num_bytes for file in files))}"


def _file_facts(files: Sequence[Leftover]) -> dict[str, int]:
    return {"files": len(files), "bytes": sum(file.num_bytes for file in files)}


def _size(num_bytes: int) -> str:
    for unit, size in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if num_bytes >= size:
            return f"{num_bytes / size:.1f} {unit}"
    return f"{num_bytes} B"
