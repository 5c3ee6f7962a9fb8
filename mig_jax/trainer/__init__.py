"""Training runs: the loop, the update, checkpoints, and what keeps a run alive.

Lives here: one run from config to trained model, its SFT stage, resume, stop signals, disk space, non-finite updates;
the export of a checkpoint's model, with its card.
May import: every room but aot.
Main names: `train.run`, `update.build_update`, `checkpointing.Checkpoints`, `export.export`.
"""
