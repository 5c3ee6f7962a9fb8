"""Model files: folders in Hugging Face format and GGUF files, read and written.

Lives here: config.json (`config`), safetensors (`tensor_files`), the layout of tensors on disk (`layout`), GGUF
(`gguf`), and the parameters of a decoder from and to all of these (`weights`); adapters (`peft`). What a family's files
mean is in `models/families`.
May import: `models/`, `distributed` (parameters go straight to their shards) and `errors`.
Main names: `config.read_config`, `weights.load`, `weights.save`.
"""
