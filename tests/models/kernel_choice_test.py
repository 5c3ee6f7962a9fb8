"""Each device has its attention kernel."""

import re
from types import SimpleNamespace

import pytest

from mig_jax.models import kernel_choice

CPU, TPU = SimpleNamespace(platform="cpu"), SimpleNamespace(platform="tpu", device_kind="TPU v5p")


def gpu(kind, capability):
    return SimpleNamespace(platform="gpu", device_kind=kind, compute_capability=capability)


T4, V100, A100, H100 = gpu("Tesla T4", "7.5"), gpu("V100", "7.0"), gpu("A100", "8.0"), gpu("NVIDIA H100", "9.0")
B200, MI250 = gpu("B200", "10.0"), gpu("MI250", "gfx90a")


@pytest.mark.parametrize(
    ("device", "dtype", "kernel"),
    [(TPU, "bfloat16", "splash"), (TPU, "float32", "splash"), (CPU, "bfloat16", "xla"),
     (A100, "bfloat16", "cudnn"), (H100, "bfloat16", "cudnn"), (B200, "float16", "cudnn"), (H100, "float32", "xla"),
     (T4, "bfloat16", "xla"), (T4, "float16", "xla"), (V100, "bfloat16", "xla"), (MI250, "bfloat16", "xla")],
)  # fmt: skip
def test_each_device_has_its_kernel(device, dtype, kernel):
    """cuDNN's needs compute capability 8.0, which is compared as a number: 10.0 is newer than 9.0."""
    assert kernel_choice.choose_kernel("", device=device, dtype=dtype, head_size=64) == kernel
    assert kernel_choice.choose_kernel("xla", device=device, dtype=dtype, head_size=64) == "xla"
    assert kernel_choice.choose_kernel(kernel, device=device, dtype=dtype, head_size=64) == kernel


@pytest.mark.parametrize(
    ("device", "name", "dtype", "wanted"),
    [(CPU, "a cpu", "bfloat16", "splash"),
     (H100, "a gpu (NVIDIA H100, compute capability 9.0)", "float32", "cudnn"),
     (T4, "a gpu (Tesla T4, compute capability 7.5)", "bfloat16", "cudnn")],
)  # fmt: skip
def test_kernel_of_another_device_is_rejected(device, name, dtype, wanted):
    message = f"'{wanted}' does not run on {name} in {dtype} with heads of 64: model.attention='' selects xla"
    with pytest.raises(ValueError, match=re.escape(message)):
        kernel_choice.choose_kernel(wanted, device=device, dtype=dtype, head_size=64)


@pytest.mark.parametrize(
    ("device", "lacks"), [(CPU, False), (TPU, False), (MI250, False), (T4, True), (A100, False), (B200, False)]
)
def test_bfloat16_units_by_compute_capability(device, lacks):
    assert kernel_choice.lacks_bfloat16(device) == lacks


@pytest.mark.parametrize(
    ("device", "head_size", "kernel"),
    [(A100, 128, "cudnn"), (A100, 256, "xla"), (H100, 256, "cudnn"), (H100, 260, "xla"), (H100, 20, "xla"),
     (TPU, 256, "splash")],
)  # fmt: skip
def test_kernel_by_the_size_of_a_head(device, head_size, kernel):
    assert kernel_choice.choose_kernel("", device=device, dtype="bfloat16", head_size=head_size) == kernel
