import pyarrow as pa
import pytest
import yaml
from datasets import get_dataset_config_names, load_dataset

from w2vb_ray import schema
from w2vb_ray.embed.card import write_card
from w2vb_ray.embed.tables import UTTERANCES, add_action
from w2vb_ray.embed.write import WriteTask, write_file

from .sink import LAYOUTS, Driver

MADE = {
    "w2vb.checkpoint": "facebook/w2v-bert-2.0",
    "w2vb.trained": "true",
    "w2vb.pooling": "mean",
    "w2vb.layers": "[4]",
}


@pytest.fixture
def tables(tmp_path):
    """Real tables with one row in each of two languages, one of which YAML takes for False."""
    driver = Driver(tmp_path, "run-1")
    layouts = {name: type(layout)(layout.columns, MADE) for name, layout in LAYOUTS.items()}
    driver.hold(layouts)
    columns = schema.utterances_schema(schema.Vectors([4]), pa.schema([("text", pa.string())]))
    task = WriteTask(str(tmp_path), {}, schema.Vectors([4]), "run-1", MADE)
    files = []
    for language in ("no", "x/y"):
        row = {name: None for name in columns.names} | {"utterance_id": language, "embedding": [0.5, 1.0]}
        rows = pa.Table.from_pylist([row], schema=columns).drop_columns(["language"])
        files.append(write_file(UTTERANCES, rows, language, task))
    driver.claim.commit_batch({UTTERANCES: [add_action(file) for file in files]})
    return driver.tables


def head(folder):
    return yaml.safe_load((folder / "README.md").read_text(encoding="utf-8").split("---\n")[1])


def test_datasets_loads_each_language_by_its_name(tmp_path, tables, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    write_card(str(tmp_path), {}, tables)
    assert head(tmp_path)["language"] == ["no"], "the other is no tag of a language"
    assert get_dataset_config_names(str(tmp_path)) == ["no", "x%2Fy"]
    for name, language in (("no", "no"), ("x%2Fy", "x/y")):
        rows = load_dataset(str(tmp_path), name, split="train", cache_dir=str(tmp_path / "cache"))
        assert rows["utterance_id"][:] == [language]
        assert rows["embedding"][0] == [0.5, 1.0]


def test_the_card_says_how_much_and_by_what(tmp_path, tables):
    write_card(str(tmp_path), {}, tables)
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "2 utterances in 2 languages" in text
    assert "`facebook/w2v-bert-2.0`" in text
    assert "UNTRAINED" not in text


def test_a_card_of_ones_own_stays(tmp_path, tables):
    write_card(str(tmp_path), {}, tables)
    write_card(str(tmp_path), {}, tables)  # ours is written again
    (tmp_path / "README.md").write_text("mine", encoding="utf-8")
    write_card(str(tmp_path), {}, tables)
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == "mine"


def test_no_tables_no_card(tmp_path):
    write_card(str(tmp_path), {}, Driver(tmp_path, "run-1").tables)
    assert not (tmp_path / "README.md").exists()
