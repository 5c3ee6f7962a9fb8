"""mig_jax: step-wise credit for reasoning policies, in JAX."""

from setuptools import find_packages, setup

setup(
    name="mig_jax",
    version="0.1.0",
    description="Marginal information gain: step-wise credit for reasoning policies in JAX and Flax.",
    packages=[*find_packages(include=["mig_jax", "mig_jax.*"]), "mig_jax.configs"],
    # So that a config anywhere can start from the defaults: `from mig_jax.configs import default`.
    package_dir={"mig_jax.configs": "configs"},
    package_data={"mig_jax.assets": ["quickstart/*", "shapes/*/config.json"]},
    python_requires=">=3.11",
    install_requires=[
        "absl-py",
        "chex",
        "flax>=0.12",
        "gguf",
        "grain",
        "importlib_resources",
        "jax>=0.10",
        "jinja2",
        "math-verify",
        "matplotlib",
        "ml-collections",
        "numpy",
        "optax",
        "orbax-checkpoint",
        "pillow",
        "pyarrow",
        "qwix>=0.1.8,<0.2",
        "safetensors",
        "tensorboardX",
        "tensorflow-datasets",
        "tokenizers",
        "tqdm",
        "transformers>=5",
    ],
    extras_require={
        "test": ["pytest", "pytest-xdist", "reasoning-gym"],
        "reasoning-gym": ["reasoning-gym"],
        # Compilers for machines that are not here: of TPUs, and of NVIDIA GPUs without their libraries.
        "aot": ["jax[tpu]"],
        "aot-gpu": ["jax[cuda12-local]"],
        # Only the live parity tests need torch; without it they are skipped and the stored references are used.
        "parity": ["torch"],
    },
    entry_points={"console_scripts": ["mig-jax = mig_jax.main:main"]},
)
