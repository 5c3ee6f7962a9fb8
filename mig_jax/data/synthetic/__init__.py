"""Generated problems: chain arithmetic, rendered scenes, and tasks of the reasoning-gym package.

Imports `mig_jax.errors` and the modules of `mig_jax.data` that hold problems and options.

Start at `generators.open_chains`, `generators.open_scenes` and `generators.open_reasoning_gym`. `chains` and `scenes`
draw questions and write solutions; `rendering` draws the images.
"""
