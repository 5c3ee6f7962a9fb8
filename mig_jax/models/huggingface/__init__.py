"""Hugging Face folders and GGUF files: read and written."""
