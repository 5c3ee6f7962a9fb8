"""A model with its tokenizer on a mesh: load, encode, generate."""
