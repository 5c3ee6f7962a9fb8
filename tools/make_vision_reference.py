"""Write tests/models/vision_reference: a tiny random Qwen2.5-VL, images, and the logits of transformers; Qwen3-VL too.

    python tools/make_vision_reference.py     # needs torch and transformers

With these files `qwen2_vl_test.py` and `qwen3_vl_test.py` compare with transformers without torch. See also
`make_reference`.
"""

import dataclasses
import pathlib
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image

FOLDER = pathlib.Path(__file__).parents[1] / "tests" / "models"
IMAGE, START, END, PAD = 90, 91, 92, 93

# All heads, widths and sections differ. Layers 0 and 2 attend within windows of 4 × 4 patches.
TEXT = dict(
    vocab_size=96,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
    intermediate_size=48,
    rms_norm_eps=1e-6,
    max_position_embeddings=256,
    bos_token_id=None,
    eos_token_id=94,
)
VISION = dict(depth=4, hidden_size=16, num_heads=2, intermediate_size=24, out_hidden_size=32, patch_size=4)
PROCESSOR = dict(patch_size=4, temporal_patch_size=2, merge_size=2, min_pixels=8 * 8, max_pixels=80 * 80)

# Two prompts: ids with one IMAGE per image, and image sizes in pixels. No image is a whole number of windows.
PROMPTS = (
    ([1, 2, START, IMAGE, END, 3, 4, 5, START, IMAGE, END, 6, 7], [(24, 40), (56, 8)]),
    ([8, START, IMAGE, END, START, IMAGE, END, 9], [(8, 24), (40, 24)]),
)


@dataclasses.dataclass(frozen=True)
class Family:
    """A family in transformers.

    name: of its classes.
    folder: of the reference.
    text, vision: what its configs have besides `TEXT` and `VISION`.
    """

    name: str
    folder: str
    text: dict[str, Any]
    vision: dict[str, Any]


def _rope(**fields: object) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6, **fields}}


FAMILIES = {
    "qwen2_5_vl": Family(
        "Qwen2_5_VL",
        "vision_reference",
        text=_rope(mrope_section=[1, 3, 4]),
        vision={"window_size": 16, "fullatt_block_indexes": [1, 3]},
    ),
    # Images have more patches per side than the grid of learned positions, or fewer.
    "qwen3_vl": Family(
        "Qwen3VL",
        "qwen3_vl_reference",
        text=_rope(mrope_section=[3, 3, 2], mrope_interleaved=True) | {"head_dim": 16, "num_hidden_layers": 3},
        vision={"num_position_embeddings": 49, "deepstack_visual_indexes": [0, 2]},
    ),
}


def make_config(family: str = "qwen2_5_vl", **text: object) -> transformers.PretrainedConfig:
    """Return the config; `text` overrides fields of the text decoder, including `tie_word_embeddings`."""
    tied, own = text.pop("tie_word_embeddings", False), FAMILIES[family]
    return getattr(transformers, f"{own.name}Config")(
        text_config=TEXT | own.text | text,
        vision_config=VISION | own.vision,
        image_token_id=IMAGE,
        vision_start_token_id=START,
        vision_end_token_id=END,
        video_token_id=95,
        tie_word_embeddings=tied,
    )


def make_model(config: transformers.PretrainedConfig, seed: int = 0) -> torch.nn.Module:
    """Return a model in which biases and norms are random too: their initial values would hide errors."""
    torch.manual_seed(seed)
    kind = getattr(transformers, f"{FAMILIES[config.model_type].name}ForConditionalGeneration")
    model = kind._from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for name, param in model.named_parameters():
            is_norm = ("norm" in name or "ln_q" in name) and name.endswith("weight")
            param.copy_(torch.randn_like(param) * (0.2 if is_norm or "bias" in name else 0.25) + is_norm)
    return model


def make_images(seed: int = 1) -> list[list[np.ndarray]]:
    """Return random pixels, `[height, width, 3]` uint8, for each image of each prompt."""
    rng = np.random.default_rng(seed)
    return [[rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes] for _, sizes in PROMPTS]


def torch_inputs(images: list[list[np.ndarray]]) -> dict[str, torch.Tensor]:
    """Return both prompts, padded on the left, as inputs of transformers; shares no code with what is tested."""
    processor = transformers.Qwen2VLImageProcessorPil(**PROCESSOR)
    processed = processor([Image.fromarray(x) for prompt in images for x in prompt], return_tensors="np")
    units = iter(processed["image_grid_thw"].prod(1) // 4)
    rows = [sum(([IMAGE] * next(units) if token == IMAGE else [token] for token in ids), []) for ids, _ in PROMPTS]
    width = max(map(len, rows)) + 3
    token_bt = np.array([[PAD] * (width - len(row)) + row for row in rows])
    return {
        "input_ids": torch.tensor(token_bt),
        "attention_mask": torch.tensor(token_bt != PAD).long(),
        "mm_token_type_ids": torch.tensor(token_bt == IMAGE).int(),
        "pixel_values": torch.tensor(processed["pixel_values"]),
        "image_grid_thw": torch.tensor(processed["image_grid_thw"]),
    }


def positions_of(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Return M-RoPE positions `[Q, S', 3]`, and the position after each prompt `[Q]`."""
    names = ("input_ids", "mm_token_type_ids", "image_grid_thw", "attention_mask")
    position_3qs, delta_q1 = model.model.get_rope_index(**{name: inputs[name] for name in names})
    length_q = inputs["attention_mask"].sum(1)
    return position_3qs.permute(1, 2, 0).numpy(), (length_q + delta_q1[:, 0]).numpy()


def logits_of(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> np.ndarray:
    """Return logits `[Q, S', V]`, arbitrary at padding."""
    with torch.no_grad():
        return model(**inputs).logits.numpy()


def write_reference(family: str) -> None:
    """Write the folder of one family."""
    model, images = make_model(make_config(family)), make_images()
    folder = FOLDER / FAMILIES[family].folder
    model.save_pretrained(folder)
    inputs = torch_inputs(images)
    position_qs3, next_q = positions_of(model, inputs)
    np.savez_compressed(
        folder / "logits.npz",
        **{f"image_{q}_{i}": image for q, prompt in enumerate(images) for i, image in enumerate(prompt)},
        token_qs=inputs["input_ids"].numpy(),
        valid_qs=inputs["attention_mask"].numpy().astype(bool),
        position_qs3=position_qs3,
        next_q=next_q,
        logits_qsv=logits_of(model, inputs),
    )


if __name__ == "__main__":
    for name in FAMILIES:
        write_reference(name)
