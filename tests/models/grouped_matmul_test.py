"""Products in groups equal a loop over the rows, whatever the sizes of the groups; so do their gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mig_jax.models import grouped_matmul as module
from mig_jax.models.grouped_matmul import block_rows, grouped_matmul

SIZES = {
    "even": [10, 10, 10, 10],
    "empty groups": [0, 40, 0, 0],
    "blocks and rests": [1, 16, 17, 6],
    "rows of no group": [3, 0, 20, 2],
    "no rows": [0, 0, 0, 0],
}
FORMS = {
    "blocks": (jax.jit(module._matmul_blocks), jax.jit(module._sum_outer_blocks)),
    "ragged": (jax.jit(module._ragged_dot), jax.jit(module._ragged_outer)),
}


def example(sizes):
    rng = np.random.default_rng(0)
    x_pd, w_edf, dy_pf = (rng.normal(size=shape).astype(np.float32) for shape in ((40, 6), (4, 6, 5), (40, 5)))
    group_p = np.repeat(np.arange(4), sizes)
    return x_pd, w_edf, dy_pf, group_p


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_product_and_gradients(sizes, form):
    """Of the rows of groups: those of no group are the caller's to ignore, even if they are NaN."""
    x_pd, w_edf, dy_pf, group_p = example(sizes)
    rows, size_e, (matmul, outer) = len(group_p), jnp.array(sizes), FORMS[form]
    want = np.array([x @ w_edf[group] for x, group in zip(x_pd, group_p, strict=False)]).reshape(rows, 5)
    np.testing.assert_allclose(np.asarray(matmul(x_pd, w_edf, size_e))[:rows], want, atol=1e-5)
    want = np.zeros_like(w_edf)
    for x, dy, group in zip(x_pd, dy_pf, group_p, strict=False):
        want[group] += np.outer(x, dy)
    np.testing.assert_allclose(outer(x_pd, dy_pf, size_e), want, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_derivative_is_that_of_the_product(dtype):
    x_pd, w_edf, dy_pf, group_p = example(SIZES["blocks and rests"])
    x_pd, w_edf, dy_pf = (jnp.array(x, dtype) for x in (x_pd, w_edf, dy_pf))
    size_e = jnp.array(SIZES["blocks and rests"])

    def pull_back(product):
        return jax.jit(lambda x, w, dy: jax.vjp(product, x, w)[1](dy))(x_pd, w_edf, dy_pf)

    found = pull_back(lambda x, w: grouped_matmul(x, w, size_e))
    want = pull_back(lambda x, w: jnp.einsum("pd,pdf->pf", x, w[group_p]))
    for got, expected in zip(found, want, strict=True):
        assert got.dtype == expected.dtype == dtype
        atol = 1e-5 if dtype == "float32" else 0.1
        np.testing.assert_allclose(*(np.asarray(x, np.float32) for x in (got, expected)), atol=atol)


@pytest.mark.parametrize(
    "rows, groups, want", [(8, 128, 16), (1024, 128, 16), (4096, 128, 32), (6000, 128, 32), (10**6, 8, 256)]
)
def test_blocks_are_about_as_long_as_a_group(rows, groups, want):
    assert block_rows(rows, groups) == want


def test_bfloat16_sums_in_float32():
    """300 ones are 300: added one after the other in bfloat16 they would stop at 256."""
    x_pd = jnp.ones((300, 1), jnp.bfloat16)
    outer = FORMS["blocks"][1](x_pd, x_pd, jnp.array([300]))
    assert outer.dtype == jnp.bfloat16 and outer[0, 0, 0] == 300
