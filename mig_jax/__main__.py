"""Run the command line: `python -m mig_jax`."""

from mig_jax.main import main

if __name__ == "__main__":
    main()
