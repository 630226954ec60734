import pytest
import torch
from transformers import AutoConfig

from tests.unit.pretrain.small import SIZES, config, model
from w2vb_ray.errors import ConfigError
from w2vb_ray.pretrain import state
from w2vb_ray.pretrain.optimiser import make_optimiser

CANARY = "hunter2-in-a-store"


def told(folder, **sections):
    return config(
        pretrain={"uri": str(folder), "keep_checkpoints": 2},
        source={"uri": "unused", "storage": {"secret": CANARY}},
        **{"model": {**SIZES, "storage": {"secret": CANARY}}, **sections},
    )


def write(found, updates):
    trained = model(found)
    optimiser = make_optimiser(trained, found)
    for parameter in trained.parameters():
        parameter.grad = torch.ones_like(parameter)
    for update in updates:
        optimiser.step()
        line = {"update": float(update), "contrastive_loss": 1.0}
        state.save(trained, optimiser, state.Position(update, 1, 2, "digest", [line]), found)
    return trained, optimiser


@pytest.mark.parametrize("model_type", ["wav2vec2-bert", "wav2vec2", "wav2vec2-conformer"])
def test_what_is_read_is_what_was_written(model_type, tmp_path):
    found = told(tmp_path, model={**SIZES, "type": model_type})
    trained, optimiser = write(found, [3, 6, 9])
    assert state.newest(found).endswith("checkpoints/update-000000009")
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [
        "update-000000006",
        "update-000000009",
    ]
    other = model(found, seed=1)
    another = make_optimiser(other, found)
    position = state.load(state.newest(found), other, another, found)
    assert (position.update, position.epoch, position.done, position.corpus, position.written) == (9, 1, 2, "digest", 9)
    assert all(torch.equal(one, trained.state_dict()[key]) for key, one in other.state_dict().items())
    ours, theirs = another.state_dict()["state"], optimiser.state_dict()["state"]
    assert all(torch.equal(ours[key]["exp_avg"], theirs[key]["exp_avg"]) for key in theirs)


def test_who_fine_tunes_hides_what_transformers_does_by_default(tmp_path):
    write(told(tmp_path), [1])
    config = AutoConfig.from_pretrained(tmp_path / "checkpoints/update-000000001")
    default = type(config)()
    assert (config.mask_time_prob, config.mask_time_length) == (default.mask_time_prob, default.mask_time_length)
    assert config.apply_spec_augment


def test_a_checkpoint_without_its_config_is_none(tmp_path):
    found = told(tmp_path)
    write(found, [3, 6])
    (tmp_path / "checkpoints/update-000000006/config.json").unlink()
    assert state.newest(found).endswith("update-000000003")
    assert state.newest(told(tmp_path / "elsewhere")) is None


def test_no_secret_of_a_store_is_written(tmp_path):
    write(told(tmp_path), [1])
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 6
    assert [path for path in files if CANARY.encode() in path.read_bytes()] == []


def test_another_model_is_refused_and_other_credentials_are_not(tmp_path):
    write(told(tmp_path), [1])
    uri = state.newest(told(tmp_path))
    assert state.check(uri, told(tmp_path, model={**SIZES, "storage": {}})) == 1
    with pytest.raises(ConfigError, match=r"begun with other settings: model\.num_heads, loss\.diversity"):
        state.check(uri, told(tmp_path, model={**SIZES, "num_heads": 4}, loss={"diversity": 0.2}))
