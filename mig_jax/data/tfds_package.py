"""TensorFlow Datasets as installed: its import only logs what fails, and leaves a module without its contents."""

import importlib

from absl import logging

from mig_jax.errors import UserError


def require_tfds() -> None:
    """Import TFDS.

    Raises:
      UserError: it cannot be imported.
    """
    logger = logging.get_absl_logger()
    logs_nothing, logger.disabled = logger.disabled, True
    try:
        importlib.import_module("tensorflow_datasets.core")
    except Exception as error:  # of any type: protobuf has one of its own for packages that do not fit together
        # tensorflow-metadata 1.21 asks for protobuf 4.25 or newer, and needs 6.31.
        hint = "; pip install 'tensorflow-metadata<1.18'" if type(error).__name__ == "VersionError" else ""
        reason = str(error).split(". ")[0]
        raise UserError(f"benchmarks and tfds folders need TFDS, which cannot be imported: {reason}{hint}") from error
    finally:
        logger.disabled = logs_nothing
