import pytest

from w2vb_ray.config import EmbedConfig, load_config
from w2vb_ray.errors import ConfigError

MINIMAL = "source: {uri: audio}\nsink: {uri: tables}\n"


@pytest.fixture
def load(tmp_path):
    def load(text=MINIMAL, *overrides):
        path = tmp_path / "conf.yaml"
        path.write_text(text, encoding="utf-8")
        return load_config(EmbedConfig, str(path), overrides)

    return load


@pytest.fixture
def complaints(load):
    """The lines of the one message that loading ends with."""

    def complaints(text=MINIMAL, *overrides):
        with pytest.raises(ConfigError) as caught:
            load(text, *overrides)
        return str(caught.value).splitlines()

    return complaints
