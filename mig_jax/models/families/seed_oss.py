"""Seed-OSS of ByteDance: Llama with biases of queries, keys and values alone."""

from mig_jax.models.families.family import Family

FAMILY = Family(
    architecture="SeedOssForCausalLM",
    default_max_positions=524_288,
    default_head_size=128,
    defaults={"num_key_value_heads": 8},
    fixed={"attention_bias": True, "attention_out_bias": False},
    qkv_bias=True,
)
