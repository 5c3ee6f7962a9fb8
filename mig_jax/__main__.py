"""Run the command line: `mig-jax` or `python -m mig_jax`."""

import sys

from mig_jax import extras


def main() -> None:
    """Run the command, or exit with what to install: without an extra, only `mig_jax.rewards` can be used."""
    if advice := extras.how_to_install("train"):
        sys.exit(f"mig-jax: {advice}")
    from mig_jax.main import main as run

    run()


if __name__ == "__main__":
    main()
