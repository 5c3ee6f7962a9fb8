"""Learning: from rewards to an update of the parameters, for any model.

Lives here: advantages, the hybrid loss, the optimizer, the train step with micro-batches, stochastic rounding.
May import: rewards, jax, chex and optax; no other room of mig_jax. The model is a function of parameters and batch.
Main names: `advantages.normalize`, `losses.total_loss`, `train_step.make_train_step`.
"""
