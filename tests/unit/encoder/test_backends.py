"""Which backend a machine gets."""

import pytest
import torch
import torch.nn.functional as F

from w2vb_ray.encoder import cpu, portable
from w2vb_ray.encoder.attention import BlockedAttention
from w2vb_ray.encoder.backends import MKL, ONEDNN, ONEDNN_INT8, choose_backend
from w2vb_ray.encoder.product_attention import ProductAttention

CPU = torch.device("cpu")


@pytest.fixture
def maker(monkeypatch, tmp_path):
    """Says whose CPU this is, None: the system does not tell; and how wide its registers are."""

    def say(name, capability="AVX2"):
        path = tmp_path / "cpuinfo"
        path.unlink(missing_ok=True)
        if name is not None:
            path.write_text(f"processor\t: 0\nvendor_id\t: {name}\n")
        monkeypatch.setattr(cpu, "_CPU_INFO", path)
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)

    return say


needs_mkl = pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="a torch without MKL")


@needs_mkl
def test_mkl_multiplies_floats_on_the_cpus_of_its_maker(maker):
    maker("GenuineIntel")
    assert choose_backend(CPU, torch.float32) is MKL
    assert choose_backend(CPU, torch.bfloat16) is not MKL
    for name in ("AuthenticAMD", None):
        maker(name)
        assert choose_backend(CPU, torch.float32) is ONEDNN


@pytest.mark.parametrize(
    ("name", "capability", "expected"),
    [
        ("AuthenticAMD", "AVX512", ProductAttention),
        ("AuthenticAMD", "AVX2", BlockedAttention),
        ("GenuineIntel", "AVX512", BlockedAttention),
    ],
)
@pytest.mark.parametrize("int8", [True, False])
def test_attention_is_by_products_where_mkl_does_not_use_the_widest_registers(maker, name, capability, expected, int8):
    maker(name, capability)
    assert choose_backend(CPU, torch.float32, int8=int8).attention is expected
    assert choose_backend(CPU, torch.bfloat16).attention is BlockedAttention


@needs_mkl
def test_an_mkl_whose_layout_serves_one_number_of_rows_is_not_used(maker, monkeypatch):
    class Strict(cpu.PackedMklLinear):
        def forward(self, rows):
            packed_for = len(rows) == cpu.MKL_CHUNK_ROWS
            return super().forward(rows) if packed_for else torch.zeros(len(rows), len(self._shape))

    maker("GenuineIntel")
    monkeypatch.setattr(cpu, "PackedMklLinear", Strict)
    assert choose_backend(CPU, torch.float32) is ONEDNN


@needs_mkl
@pytest.mark.parametrize(("num_inputs", "num_outputs"), [(160, 768), (768, 3072), (3072, 768), (1024, 4096), (17, 33)])
def test_what_mkl_laid_out_once_serves_any_number_of_rows(num_inputs, num_outputs):
    weight, bias, rows = torch.randn(num_outputs, num_inputs), torch.randn(num_outputs), torch.randn(1100, num_inputs)
    linear = MKL.linear(weight, bias, "none")
    expected = F.linear(rows, weight, bias)
    for num_rows in (1, 2, 15, 16, 31, 100, 511, 512, 513, 1023, 1100):
        torch.testing.assert_close(linear(rows[:num_rows]), expected[:num_rows], rtol=1e-4, atol=1e-3)


def test_a_cpu_that_cannot_multiply_bytes_gets_floats(maker, monkeypatch):
    maker("AuthenticAMD")
    monkeypatch.setattr(cpu, "multiplies_bytes", lambda: True)
    assert choose_backend(CPU, torch.float32, int8=True) is ONEDNN_INT8
    monkeypatch.setattr(cpu, "multiplies_bytes", lambda: False)
    assert choose_backend(CPU, torch.float32, int8=True).int8 is portable.Int8Linear
