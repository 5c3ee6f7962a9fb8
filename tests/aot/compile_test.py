"""Topologies, compilers that are missing or run out of memory, and the search for the largest batch."""

import importlib.util

import jax
import pytest

from mig_jax.aot.compile import Program, compile_program, largest_that_fits, open_topology
from mig_jax.distributed import sharding
from mig_jax.errors import UserError

GIB = 2**30


@pytest.mark.parametrize("start, limit", [(1, None), (7, None), (500, None), (1, 60), (1, 1000), (40, 3)])
@pytest.mark.parametrize(
    "curve", [lambda n: 10 + n, lambda n: 10 + n + n**2 / 500, lambda n: 30 + 2 * n - 2 * (n > 20)]
)
def test_largest_that_fits_needs_few_calls(curve, start, limit):
    calls = []

    def needed_at(n):
        calls.append(n)
        return curve(n)

    found = largest_that_fits(needed_at, 100.0, start=start, limit=limit)
    largest = max(n for n in range((limit or 1000) + 1) if curve(n) <= 100)
    assert curve(found) <= 100 and found in calls
    assert largest - found <= largest // 50
    assert len(calls) <= 7 and len(set(calls)) == len(calls)


def test_largest_that_fits_where_nothing_or_all_fits():
    assert largest_that_fits(lambda n: 101, 100.0, start=8) == 0
    assert largest_that_fits(lambda n: 101 + n, 100.0, start=8) == 0
    assert largest_that_fits(lambda n: 99, 100.0, start=8, limit=64) == 64
    assert largest_that_fits(lambda n: n, 100.0, start=8, limit=0) == 0
    assert largest_that_fits(lambda n: 99, 100.0, start=8) > 8  # constant: the search must end all the same


@pytest.mark.parametrize("name", ["", "v5p", "v99:2x2", "v5e:4", "v5e:4x", "v5e:axb", "h100:2x4", "h100:"])
def test_unknown_topology_is_refused(name):
    with pytest.raises(UserError, match="a chip and how many.*v5p:4x4x8 or h100:8.*v5e, v5p, v6e"):
        open_topology(name)


@pytest.mark.parametrize("name, extra", [("v5e:2x2", "aot"), ("h100:8", "aot-gpu")])
def test_missing_compiler_is_named(monkeypatch, name, extra):
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None)
    with pytest.raises(UserError, match=rf"not installed: pip install 'mig_jax\[{extra}\]'"):
        open_topology(name)


def test_memory_is_read_from_the_error_of_the_tpu_compiler():
    message = "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (17.50G) "

    class Function:
        def lower(self):
            raise jax.errors.JaxRuntimeError(message + tail)

    replicated = sharding.replicated_sharding(sharding.make_mesh({}, devices=jax.devices()[:1]))
    resident = {"optimizer": jax.ShapeDtypeStruct((GIB // 4,), "float32", sharding=replicated)}
    program = Program(Function(), (), {}, resident)
    tail = "exceeds available HBM (15.75G)."
    compiled = compile_program(program, {})
    assert compiled.peak_nbytes == 18.5 * GIB and compiled.output_shardings is None
    tail = "is something else"
    with pytest.raises(jax.errors.JaxRuntimeError):
        compile_program(program, {})
