"""Llama, and models that use its architecture, such as SmolLM2 (arXiv 2302.13971, 2407.21783)."""

from mig_jax.models.families.family import Family

FAMILY = Family(architecture="LlamaForCausalLM", default_max_positions=2048)
