"""The config's keys and types, for editors and type checkers; `configs/default.py` has the defaults.

A config is an `ml_collections.ConfigDict`, whose attributes no checker knows. These classes describe it:

    def train(config: Config, workdir: str): ...

They are never instantiated. `tests/config_test.py` checks that they name exactly the keys of `configs/default.py`.
"""

from typing import Any, Protocol

# Old name of a key -> its name now.
RENAMED_KEYS = {
    "loss.kappa": "loss.kl_coef",
    "loss.mean_over": "loss.aggregate",
    "loss.reference_on_host": "loss.kl_reference_on_host",
    "reward.assign": "reward.credit_level",
    "reward.by_std": "reward.scale",
    "rollout.cache_parts": "rollout.kv_cache_chunks",
    "rollout.gather_weights": "rollout.gather_params",
}


class Section(Protocol):
    """The methods that every section of a config has."""

    def to_dict(self) -> dict[str, Any]: ...

    def __getitem__(self, key: str) -> Any: ...


class CheckpointConfig(Section):
    every: int
    keep: int
    keep_best: int


class DataColumnsConfig(Section):
    answer: str
    choices: str
    id: str
    images: str
    kind: str
    level: str
    question: str
    source: str
    steps: str
    subject: str


class DataConfig(Section):
    columns: DataColumnsConfig
    dir: str
    eval: str
    eval_seed: int
    eval_size: int
    max_answer_tokens: int
    max_prompt_tokens: int
    read_ahead: int
    system_prompt: bool
    train: str
    train_size: int
    variants: str


class EvalConfig(Section):
    batch_size: int
    benchmarks: str
    every: int
    problems: int
    samples: int
    scored: int


class LogConfig(Section):
    every: int
    transcripts: int
    transcripts_every: int


class LossConfig(Section):
    aggregate: str
    alpha: float
    beta: float
    clip_high: float
    clip_low: float
    gamma: float
    kl_coef: float
    kl_reference_on_host: bool


class MeshConfig(Section):
    data: int
    fsdp: int
    tensor: int


class ModelInitVisionConfig(Section):
    full_layers: tuple[int, ...]
    heads: int
    layers: int
    merge_size: int
    mlp_width: int
    patch_size: int
    width: int
    window_size: int


class ModelInitConfig(Section):
    head_size: int
    heads: int
    kv_heads: int
    layers: int
    mlp_width: int
    norm_eps: float
    qk_norm: bool
    qkv_bias: bool
    rope_sections: tuple[int, ...]
    rope_theta: float
    tied_head: bool
    vision: ModelInitVisionConfig
    width: int


class ModelLoraConfig(Section):
    alpha: float
    modules: tuple[str, ...]
    rank: int
    save: str


class ModelVisionConfig(Section):
    freeze: bool
    max_patches: int
    max_pixels: int
    min_pixels: int


class ModelConfig(Section):
    attention: str
    compute_dtype: str
    init: ModelInitConfig
    lora: ModelLoraConfig
    param_dtype: str
    path: str
    remat: str
    save_dtype: str
    tokenizer: str
    vision: ModelVisionConfig


class OptimizerConfig(Section):
    b1: float
    b2: float
    clip_norm: float
    decay: str
    logprob_chunk: int
    max_skipped: int
    microbatches: int
    peak_lr: float
    state_dtype: str
    updates_per_rollout: int
    warmup_steps: int
    weight_decay: float


class RewardConfig(Section):
    accuracy: float
    credit: str
    credit_level: str
    format: float
    max_steps: int
    max_variants: int
    outcome_eps: float
    process_eps: float
    scale: str


class RolloutConfig(Section):
    gather_params: bool
    group_size: int
    kv_cache_chunks: int
    max_new_tokens: int
    questions: int
    temperature: float


class SftConfig(Section):
    batch_size: int
    data: str
    data_size: int
    peak_lr: float
    steps: int


class VerifierConfig(Section):
    deadline_s: float
    workers: int


class Config(Section):
    checkpoint: CheckpointConfig
    data: DataConfig
    eval: EvalConfig
    log: LogConfig
    loss: LossConfig
    mesh: MeshConfig
    model: ModelConfig
    optimizer: OptimizerConfig
    reward: RewardConfig
    rollout: RolloutConfig
    seed: int
    sft: SftConfig
    steps: int
    verifier: VerifierConfig
