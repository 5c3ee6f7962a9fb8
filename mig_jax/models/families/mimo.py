"""MiMo (arXiv 2505.07608): Qwen2 with a head that predicts a further token, which is not loaded.

transformers computes it only with code from the hub, and without that head. So it is saved as the Qwen2 that it is.
"""

from mig_jax.models.families.family import Family
from mig_jax.models.families.qwen2 import SLIDING_WINDOW

FAMILY = Family(
    architecture="MiMoForCausalLM",
    default_max_positions=32_768,
    defaults=SLIDING_WINDOW,
    fixed={"attention_bias": True},
    harmless=("num_nextn_predict_layers",),
    qkv_bias=True,
    is_written=False,
)
