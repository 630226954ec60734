"""Which encoder the configuration asks for. torch is imported only when one is loaded."""

from typing import TYPE_CHECKING

from w2vb_ray.encoder.attention_head import read_attention_head
from w2vb_ray.encoder.base import Encoder
from w2vb_ray.encoder.batching import default_max_frames
from w2vb_ray.encoder.checkpoint import Checkpoint, resolve_checkpoint, resolve_layers
from w2vb_ray.encoder.precision import resolve_precision
from w2vb_ray.encoder.windows import window_limits
from w2vb_ray.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from w2vb_ray.config.sections import AudioSection, BatchingSection, EncoderSection, PoolingMethod, PoolingSection
    from w2vb_ray.encoder.pooling import Pooling


def load_encoder(
    encoder: "EncoderSection",
    pooling: "PoolingSection",
    batching: "BatchingSection",
    audio: "AudioSection",
    *,
    num_threads: int | None = None,
) -> Encoder:
    """Loads `encoder.checkpoint` on `encoder.device`, ready to encode.

    Args:
        encoder: the model, its precision, device and layers.
        pooling: how frames become one vector, or several.
        batching: the frame budget; unset it is that of `batching.default_max_frames`. A longer window goes alone.
        audio: the longest window and its context.
        num_threads: torch's threads in this process; None leaves them.

    Raises:
        CheckpointError: the checkpoint cannot be loaded, or lacks the attention head that is asked for.
        ConfigError: the device is missing, or the precision needs an exported artifact.
    """
    import torch

    from w2vb_ray.encoder.forward import make_forward
    from w2vb_ray.encoder.frontend import make_frontend
    from w2vb_ray.encoder.torch_backend import Settings, TorchEncoder

    if num_threads is not None:
        torch.set_num_threads(num_threads)
    checkpoint = resolve_checkpoint(encoder)
    device = _device(encoder.device, cuda_available=torch.cuda.is_available())
    precision = resolve_precision(encoder.precision, checkpoint, device)
    layers = resolve_layers(encoder.layers, checkpoint.num_layers)
    longest, context = window_limits(audio.max_window_s, audio.window_context_s)
    frontend = make_frontend(checkpoint, torch.device(device))
    forward = make_forward(checkpoint, layers, frontend, precision, torch.device(device))
    settings = Settings(
        num_layers=checkpoint.num_layers,
        dimension=checkpoint.dimension,
        layers=layers,
        layer_weights=encoder.layer_weights,
        precision=precision,
        device=device,
        poolings=[_pooling(method, checkpoint, encoder, torch.device(device)) for method in pooling.methods],
        normalise=pooling.normalise,
        max_frames=batching.max_frames or default_max_frames(device, pads=forward.pads),
        attention_frames=batching.attention_frames,
        longest_window=longest,
        context=context,
    )
    return TorchEncoder(forward, frontend, settings)


def _pooling(
    method: "PoolingMethod", checkpoint: Checkpoint, encoder: "EncoderSection", device: "torch.device"
) -> "Pooling":
    from w2vb_ray.encoder.attention_pooling import AttentionPooling
    from w2vb_ray.encoder.pooling import Max, Mean, MeanStd

    match method:
        case "mean":
            return Mean()
        case "mean_std":
            return MeanStd()
        case "max":
            return Max()
        case "attention":
            return AttentionPooling(read_attention_head(checkpoint, encoder), device)


def _device(wanted: str, *, cuda_available: bool) -> str:
    if wanted == "auto":
        return "cuda" if cuda_available else "cpu"
    if wanted == "cuda" and not cuda_available:
        raise ConfigError(
            "encoder.device must be a device of the machine that encodes, but is cuda and torch finds none there; "
            "use auto or cpu, or check the driver and the torch build"
        )
    return wanted
