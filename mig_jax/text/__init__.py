"""Text on its way into and out of the model.

Lives here: tokenizers, chat templates, response formats with their parser; `answers/` compares answers.
May import: errors and parts only. Knows no models, no devices and no JAX; tokenizer libraries are imported when they
are first needed.
Main names: `tokenizer.load`, `response_format.parse_response`, `answers.verifier.Verifier`.
"""
