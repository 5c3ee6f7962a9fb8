"""Configs. A config anywhere else starts from the defaults: `from mig_jax.configs import default`."""
