"""A model as OpenVINO's intermediate representation, made from its ONNX file: same inputs and outputs."""

from pathlib import Path
from typing import Any

from w2vb_ray.encoder.artifact import ONNX, OPENVINO
from w2vb_ray.export.optional_packages import quiet_packages, require


def write_openvino(source: Path, folder: Path, *, int8: bool) -> list[str]:
    """Convert the graph in one folder into another.

    Args:
        source: what `onnx_files.write_onnx` filled.
        folder: where.
        int8: matrices as int8 with a scale per output; OpenVINO then rounds what they are multiplied with, groups of
            numbers of a frame by groups. Otherwise all weights become fp16, which are multiplied in fp32.

    Returns:
        Names of the files.

    Raises:
        ConfigError: OpenVINO is not installed, or for int8 its NNCF.
    """
    require("openvino", "openvino", *(["nncf"] if int8 else []))
    import openvino

    with quiet_packages():
        model: Any = openvino.convert_model(source / ONNX)
        if int8:
            import nncf

            model = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_SYM)
        openvino.save_model(model, folder / OPENVINO, compress_to_fp16=True)
    return [OPENVINO, str(Path(OPENVINO).with_suffix(".bin"))]
