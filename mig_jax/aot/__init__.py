"""Ahead-of-time compilation of a training run for accelerators that are not attached. Nothing is run.

Lives here: the programs of a run with abstract arguments, their memory and collectives as the compiler reports them,
    FLOPs and minimum times by formula, the report of `mig-jax aot`.
May import: every room but commands and main.
Main names: `report.compile_run`, `programs.TrainingPrograms`, `compile.compile_program`.
"""
