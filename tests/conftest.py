"""Settings of every test: eight fake devices, no implicit rank promotion, a shared compilation cache."""

import gc
import os
import tempfile

from jaxlib.version import __version_info__

# In the environment, so that other workers and subprocesses of tests share it.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", tempfile.mkdtemp(prefix="mig_jax_tests_"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

# With a TPU compiler installed (mig-jax aot), jax would look for a TPU.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

# Tests compile more than they compute.
FLAGS = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
FLAGS += " --xla_cpu_parallel_codegen_split_count=1"
if __version_info__ < (0, 11):  # later versions have neither the emitters that are slow to compile, nor the flag
    FLAGS += " --xla_cpu_use_fusion_emitters=false"
if os.environ["JAX_PLATFORMS"] == "cpu":
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAGS}"

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_collection_finish(session):
    """Collect garbage less often: tracing makes many objects, and all modules would be looked through again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)


def _skip_without_qwix():
    """Skip tests of LoRA where its package is not installed: it needs a newer flax than the rest."""
    try:
        return (yield)
    except Exception as error:
        if "LoRA needs qwix" in str(error):
            pytest.skip("LoRA needs qwix: pip install -e '.[lora]'")
        raise


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item):
    return (yield from _skip_without_qwix())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    return (yield from _skip_without_qwix())
