"""tmp"""
from mig_jax.configs import default


def get_config():
    return default.get_config()
