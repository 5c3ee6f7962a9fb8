"""The config's keys and types, for editors and type checkers; `configs/default.py` has the defaults.

A config is an `ml_collections.ConfigDict`, whose attributes no checker knows. These classes describe it:

    def train(config: Config, workdir: str): ...

They are never instantiated. `tests/config_test.py` checks that they name exactly the keys of `configs/default.py`, and
`check_config` checks values against their types and ranges.
"""

from typing import Annotated, Any, Protocol

# Old name of a key -> its name now.
RENAMED_KEYS = {
    "loss.kappa": "loss.kl_coef",
    "loss.mean_over": "loss.aggregate",
    "loss.reference_on_host": "loss.kl_reference_on_host",
    "optimizer.logprob_chunk": "optimizer.logprob_tokens",
    "reward.accuracy": 'reward.outcomes["accuracy"]',
    "reward.assign": "reward.credit_level",
    "reward.by_std": "reward.outcome_scale",
    "reward.format": 'reward.outcomes["format"]',
    "reward.overlong_buffer": "reward.outcome_args.overlong_buffer",
    "reward.scale": "reward.outcome_scale",
    "rollout.cache_parts": "rollout.kv_cache_chunks",
    "rollout.gather_weights": "rollout.gather_params",
}


# Numbers with their ranges, which `check_config` checks; all are finite.
PositiveInt = Annotated[int, "positive"]
PositiveFloat = Annotated[float, "positive"]
NonNegativeInt = Annotated[int, "non-negative"]
NonNegativeFloat = Annotated[float, "non-negative"]


class Section(Protocol):
    """The methods that every section of a config has."""

    def to_dict(self) -> dict[str, Any]: ...

    def __getitem__(self, key: str) -> Any: ...


class CheckpointConfig(Section):
    every: PositiveInt
    keep: PositiveInt
    keep_best: NonNegativeInt


class DataColumnsConfig(Section):
    answer: str
    choices: str
    id: str
    images: str
    kind: str
    level: str
    question: str
    response: str
    source: str
    steps: str
    subject: str


class DataConfig(Section):
    bad_rows: str
    choice_answers: str
    columns: DataColumnsConfig
    dir: str
    eval: str
    eval_seed: int
    eval_size: PositiveInt
    max_answer_tokens: PositiveInt
    max_prompt_tokens: PositiveInt
    read_ahead: NonNegativeInt
    system_prompt: str
    template_args: str
    template_date: str
    train: str
    train_size: PositiveInt
    user_template: str
    user_templates: dict[str, str]
    variants: str


class EvalConfig(Section):
    at_end: bool
    at_start: bool
    batch_size: PositiveInt
    benchmarks: str
    every: NonNegativeInt
    problems: NonNegativeInt
    samples: PositiveInt
    scored: NonNegativeInt


class LogConfig(Section):
    every: PositiveInt
    profile_steps: tuple[int, ...]
    transcripts: NonNegativeInt
    transcripts_every: PositiveInt
    wandb_project: str
    writers: tuple[str, ...]


class LossConfig(Section):
    aggregate: str
    alpha: NonNegativeFloat
    beta: NonNegativeFloat
    clip_high: NonNegativeFloat
    clip_low: NonNegativeFloat
    dual_clip: PositiveFloat
    gamma: NonNegativeFloat
    importance_cap: NonNegativeFloat
    kl_coef: NonNegativeFloat
    kl_reference_on_host: bool
    old_logprobs: str
    policy_loss: str
    ratio: str
    router_balance: NonNegativeFloat


class MeshConfig(Section):
    data: int
    fsdp: int
    tensor: int


class ModelInitExpertsConfig(Section):
    count: NonNegativeInt
    per_token: PositiveInt
    width: PositiveInt


class ModelInitVisionConfig(Section):
    full_layers: tuple[int, ...]
    heads: PositiveInt
    layers: NonNegativeInt
    merge_size: PositiveInt
    mlp_width: PositiveInt
    patch_size: PositiveInt
    width: PositiveInt
    window_size: PositiveInt


class ModelInitConfig(Section):
    experts: ModelInitExpertsConfig
    head_size: PositiveInt
    heads: PositiveInt
    kv_heads: PositiveInt
    layers: PositiveInt
    mlp_width: PositiveInt
    norm_eps: PositiveFloat
    qk_norm: bool
    qkv_bias: bool
    rope_sections: tuple[int, ...]
    rope_theta: PositiveFloat
    tied_head: bool
    vision: ModelInitVisionConfig
    width: PositiveInt


class ModelLoraConfig(Section):
    alpha: PositiveFloat
    modules: tuple[str, ...]
    rank: NonNegativeInt
    save: str


class ModelVisionConfig(Section):
    freeze: bool
    max_patches: PositiveInt
    max_pixels: PositiveInt
    min_pixels: PositiveInt


class ModelConfig(Section):
    attention: str
    compute_dtype: str
    eos: str
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
    clip_norm: PositiveFloat
    decay: str
    logprob_tokens: PositiveInt
    max_skipped: PositiveInt
    microbatches: NonNegativeInt
    minibatches: PositiveInt
    peak_lr: PositiveFloat
    state_dtype: str
    updates_per_rollout: PositiveInt
    warmup_steps: NonNegativeInt
    weight_decay: NonNegativeFloat


class CreditArgsConfig(Section):
    drawdown: NonNegativeFloat
    excess_step_price: NonNegativeFloat
    gate: str
    gate_tolerance: NonNegativeFloat
    step_price: NonNegativeFloat
    threshold: NonNegativeFloat


class ProcessEpsConfig(Section):
    nats: PositiveFloat
    probability: PositiveFloat


class OutcomeArgsConfig(Section):
    deadline_s: PositiveFloat
    max_steps: PositiveInt
    min_steps: NonNegativeInt
    overlong_buffer: NonNegativeInt
    repetition_ngram: PositiveInt
    workers: PositiveInt


class RewardConfig(Section):
    advantage: str
    credit: str
    credit_args: CreditArgsConfig
    credit_level: str
    max_steps: PositiveInt
    max_variants: PositiveInt
    outcome_args: OutcomeArgsConfig
    outcome_eps: PositiveFloat
    outcome_scale: str
    outcomes: dict[str, float]
    over_spellings: str
    over_tokens: str
    overlong: str
    process_eps: ProcessEpsConfig
    process_mask: str
    process_scale: str
    reading: str
    step_discount: NonNegativeFloat
    terminator: str


class RolloutConfig(Section):
    gather_params: bool
    group_size: PositiveInt
    kv_cache_chunks: PositiveInt
    max_new_tokens: PositiveInt
    max_resamples: NonNegativeInt
    questions: PositiveInt
    temperature: PositiveFloat


class SftConfig(Section):
    batch_size: PositiveInt
    data: str
    data_size: NonNegativeInt
    peak_lr: PositiveFloat
    steps: NonNegativeInt


class VerifierConfig(Section):
    deadline_s: PositiveFloat
    workers: PositiveInt


class Config(Section):
    checkpoint: CheckpointConfig
    data: DataConfig
    eval: EvalConfig
    log: LogConfig
    loss: LossConfig
    mesh: MeshConfig
    model: ModelConfig
    optimizer: OptimizerConfig
    response_format: str
    reward: RewardConfig
    rollout: RolloutConfig
    seed: int
    sft: SftConfig
    steps: PositiveInt
    verifier: VerifierConfig
