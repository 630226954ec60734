"""The vector of a recording from an `onnx` artifact of any model: onnxruntime, and nothing of w2vb_ray."""

import sys

import numpy as np
import onnxruntime
import soundfile
from transformers import AutoFeatureExtractor

folder, recording = sys.argv[1:3]
waveform, sampling_rate = soundfile.read(recording, dtype="float32")  # one channel, 16 kHz
extractor = AutoFeatureExtractor.from_pretrained(folder)
inputs = extractor(waveform, sampling_rate=sampling_rate, return_tensors="np")
session = onnxruntime.InferenceSession(f"{folder}/model.onnx")
types = {"tensor(float)": np.float32, "tensor(int64)": np.int64}
feed = {one.name: inputs[one.name].astype(types[one.type]) for one in session.get_inputs()}
(frames,) = session.run([session.get_outputs()[-1].name], feed)  # (1, T, D) of the last layer
real = feed.get("attention_mask", np.ones(frames.shape[:2]))[..., np.newaxis]  # padding is no frame
print(*((frames * real).sum(1) / real.sum(1))[0])
