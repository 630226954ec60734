import json
import re

from w2vb_ray.config import EmbedConfig, load_config
from w2vb_ray.runtime.run_folder import RunFolder, new_run_id


def test_run_ids_are_unique_and_sort_by_time():
    ids = [new_run_id() for _ in range(100)]
    assert len(set(ids)) == 100
    assert all(re.fullmatch(r"\d{8}T\d{6}Z-[0-9a-f]{8}", run_id) for run_id in ids)
    assert [run_id[:16] for run_id in ids] == sorted(run_id[:16] for run_id in ids)


def test_a_run_leaves_its_config_and_report_without_secrets(tmp_path):
    config = EmbedConfig.model_validate(
        {"source": {"uri": "é", "storage": {"secret": "hunter2"}}, "sink": {"uri": str(tmp_path)}}
    )
    folder = RunFolder(str(tmp_path), {}, "run-1")
    folder.write_config(config)
    folder.write_report({"languages": {"ə": 1}, "exit_code": 0}, "<p>ə")
    folder.write_report({"languages": {"ə": 2}, "exit_code": 0}, "<p>é")  # the later one stands
    written = tmp_path / "_runs" / "run-1"
    assert folder.uri == str(written)
    assert sorted(path.name for path in written.iterdir()) == ["config.yaml", "report.html", "report.json"]
    assert (written / "report.html").read_text(encoding="utf-8") == "<p>é"
    text = (written / "config.yaml").read_text(encoding="utf-8")
    assert "hunter2" not in text
    shown = load_config(EmbedConfig, str(written / "config.yaml"))
    assert shown.source.storage == {"secret": "***"}
    assert shown.model_copy(update={"source": None}) == config.model_copy(update={"source": None})
    assert json.loads((written / "report.json").read_text(encoding="utf-8")) == {"languages": {"ə": 2}, "exit_code": 0}
    assert "ə" in (written / "report.json").read_text(encoding="utf-8")
