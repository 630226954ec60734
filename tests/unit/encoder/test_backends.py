"""Which backend a machine gets."""

import pytest
import torch

from w2vb_ray.encoder import cpu, portable
from w2vb_ray.encoder.backends import MKL, ONEDNN, ONEDNN_INT8, choose_backend

CPU = torch.device("cpu")


@pytest.fixture
def maker(monkeypatch, tmp_path):
    """Says whose CPU this is; None: the system does not tell."""

    def say(name):
        path = tmp_path / "cpuinfo"
        path.unlink(missing_ok=True)
        if name is not None:
            path.write_text(f"processor\t: 0\nvendor_id\t: {name}\n")
        monkeypatch.setattr(cpu, "_CPU_INFO", path)

    return say


@pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="a torch without MKL")
def test_mkl_multiplies_floats_on_the_cpus_of_its_maker(maker):
    maker("GenuineIntel")
    assert choose_backend(CPU, torch.float32) is MKL
    assert choose_backend(CPU, torch.bfloat16) is not MKL
    for name in ("AuthenticAMD", None):
        maker(name)
        assert choose_backend(CPU, torch.float32) is ONEDNN


def test_a_cpu_that_cannot_multiply_bytes_gets_floats(monkeypatch):
    monkeypatch.setattr(cpu, "multiplies_bytes", lambda: True)
    assert choose_backend(CPU, torch.float32, int8=True) is ONEDNN_INT8
    monkeypatch.setattr(cpu, "multiplies_bytes", lambda: False)
    assert choose_backend(CPU, torch.float32, int8=True).int8 is portable.Int8Linear
