"""A policy: a model with its tokenizer, on a mesh of devices.

Lives here: loading and saving policies, prompts and images to arrays, completions to steps and cuts, sampling.
May import: models, text, data, learning, rewards, distributed. Knows nothing of rollouts, training or evaluation.
Main names: `load.Policy`, `prompts.encode_prompts`, `generate.Sampler`.
"""
