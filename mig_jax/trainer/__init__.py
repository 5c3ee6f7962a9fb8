"""The training loop, and everything that keeps a run alive."""
