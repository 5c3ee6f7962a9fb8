"""Language models as pure functions of their parameters.

Lives here: the decoder, attention kernels, rotary embeddings, adapters, the vision tower and the sampler.
`families/` maps published models to the decoder; `huggingface/` reads and writes model files. Knows nothing of text,
problems, rewards or training.
May import: distributed, errors.
Main names: `decoder.Decoder`, `attention.attend`, `sampler.sample`.
"""
