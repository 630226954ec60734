"""Configuration: frozen sections with all defaults, YAML, overrides. Imports neither torch nor ray."""

from w2vb_ray.config.embed import EmbedConfig
from w2vb_ray.config.loader import load_config, show_config

__all__ = ["EmbedConfig", "load_config", "show_config"]
