"""mig_jax: reinforcement learning with step-wise credit for language models, in JAX and Flax.

Rooms, from the ground floor up; imports only go down:

    distributed                     processes, meshes, shardings
    rewards, models, text, data     libraries that do not import each other
    learning                        advantages, losses, the train step
    policy, records                 a model with its tokenizer on a mesh; what a run writes
    rollout                         problems to completions, grades, scores and a batch
    evaluation                      accuracy on held-out problems; scores of given transcripts
    trainer                         one run, from config to trained model
    aot                             compile a run for another machine

Main names: `rewards`, `trainer.train.run`, `evaluation.score_transcripts.score_transcripts`.
"""

__version__ = "0.1.0"
