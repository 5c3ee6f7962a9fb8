"""Model files: folders in Hugging Face format and GGUF files, read and written.

Lives here: config.json (`config`), safetensors (`tensor_files`), the layout of tensors on disk (`layout`), GGUF
(`gguf`), parameters loaded from and saved to these (`weights`), adapters in the format of PEFT (`peft`), and what a
trained model keeps of the files of its base (`origin`). What the files of each family mean is in `models/families`.
May import: `models/`, `distributed` (parameters go straight to their shards) and `errors`.
Main names: `config.read_config`, `weights.load`, `weights.save`.
"""
