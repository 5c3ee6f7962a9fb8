"""Configs; anywhere else, start from the defaults with `from mig_jax.configs import default`."""
