"""The three tables as text. A change here is a change of the public contract: readers must be told."""

import pyarrow as pa
import pytest

from w2vb_ray import schema

OWN = pa.schema([pa.field("text", pa.string()), pa.field("parallel_id", pa.int64())])

UTTERANCES = """
utterance_id: string
audio_uri: string
source_version: string
start_s: double
end_s: double
duration_s: double
sampling_rate: int32
num_frames: int32
{vectors}
run_id: string
text: string
parallel_id: int64
language: string
"""
ONE_VECTOR = "embedding: list<item: float>"
TWO_VECTORS = "embedding_layer_08: list<item: float>\nembedding_layer_24: list<item: float>"
TWO_METHODS = "embedding_mean: list<item: float>\nembedding_max: list<item: float>"
FOUR_VECTORS = """
embedding_mean_layer_08: list<item: float>
embedding_max_layer_08: list<item: float>
embedding_mean_layer_24: list<item: float>
embedding_max_layer_24: list<item: float>
""".strip()
BOTH = ["mean", "max"]

FRAMES = """
utterance_id: string
num_frames: int32
frame_rate_hz: double
{matrices}
run_id: string
language: string
"""
ONE_MATRIX = "frames: list<item: list<item: float>>"
TWO_MATRICES = "frames_layer_08: list<item: list<item: float>>\nframes_layer_24: list<item: list<item: float>>"

REJECTS = """
utterance_id: string
audio_uri: string
source_version: string
reason: string
detail: string
run_id: string
language: string
"""


def text_of(columns):
    return "\n".join(f"{field.name}: {field.type}{'' if field.nullable else ' not null'}" for field in columns)


@pytest.mark.parametrize(
    ("made", "vectors"),
    [
        (schema.Vectors([24]), ONE_VECTOR),
        (schema.Vectors([24], ["max"]), ONE_VECTOR),
        (schema.Vectors([8, 24], mixed=True), ONE_VECTOR),
        (schema.Vectors([8, 24]), TWO_VECTORS),
        (schema.Vectors([24], BOTH), TWO_METHODS),
        (schema.Vectors([8, 24], BOTH), FOUR_VECTORS),
        (schema.Vectors([8, 24], BOTH, mixed=True), TWO_METHODS),
    ],
)
def test_utterances(made, vectors):
    assert text_of(schema.utterances_schema(made, OWN)) == UTTERANCES.format(vectors=vectors).strip()


@pytest.mark.parametrize(
    ("made", "matrices"),
    [
        (schema.Vectors([24], BOTH), ONE_MATRIX),
        (schema.Vectors([8, 24], BOTH), TWO_MATRICES),
        (schema.Vectors([8, 24], mixed=True), ONE_MATRIX),
    ],
)
def test_frames(made, matrices):
    assert text_of(schema.frames_schema(made)) == FRAMES.format(matrices=matrices).strip()


def test_rejects():
    assert text_of(schema.REJECTS) == REJECTS.strip()
