"""Compile the programs of a training run for machines that are not here, and see whether they fit: compiled, not run.

The policy, the rollout, the scores and the update come from the functions that training has them from, and get shapes
on the devices of a topology in the place of arrays: nothing is allocated, no weight is read. The memory is what the
compiler says of each program, and what else a device holds while that program runs.
"""

import copy
import functools
import importlib.util
import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.experimental import topologies
from jax.sharding import NamedSharding

from mig_jax import rewards
from mig_jax.aot.collectives import Amount, Sent, read_collectives
from mig_jax.aot.flops import CHIPS, CLOSING, LEAD_IN, Chip
from mig_jax.check_config import unit_of_prompts
from mig_jax.config import Config, ModelConfig
from mig_jax.distributed import sharding
from mig_jax.learning.losses import Batch
from mig_jax.learning.train_step import partition
from mig_jax.models import lora, sampler
from mig_jax.models.decoder import KVCache
from mig_jax.models.qwen2_vl import Images, Pixels
from mig_jax.policy.generate import rollout_param_specs
from mig_jax.policy.load import abstract_policy
from mig_jax.rollout.batch import Outcome
from mig_jax.rollout.rollout import make_rollout_functions
from mig_jax.trainer.update import build_step

# How the compiler of a TPU says that a program does not fit.
_FULL = re.compile(r"\(([\d.]+)([MG])\) exceeds available HBM")
# Without a GPU to try them on, Triton finds no tiles for matrices of some heights; cuBLAS, which takes any, is as good.
GPU_OPTIONS = {"xla_gpu_enable_triton_gemm": False}
_UNITS = {"M": 2**20, "G": 2**30}


class Program(NamedTuple):
    """A function of a run, with abstract arguments on their devices.

    held: part → pytree of shapes on their devices, what it takes and gives.
    waiting: part → pytree of what devices hold beside it, for other programs.
    options: static arguments.
    """

    function: Callable
    arguments: tuple[Any, ...]
    held: dict[str, Any]
    waiting: dict[str, Any]
    options: dict[str, Any] = {}


class Compiled(NamedTuple):
    """What the compiler says of a program, on each device.

    parts: part → bytes, those of `Program.held` and `Program.waiting`.
    peak: bytes at most, with all parts; what is no part of it are activations and temporaries.
    sent: its collectives; none where it does not fit.
    results: where they are; None where it does not fit.
    """

    parts: dict[str, int]
    peak: int
    sent: dict[Sent, Amount]
    results: Any


def open_topology(name: str) -> tuple[list[jax.Device], Chip]:
    """The devices of a topology such as "v5p:4x4x8" (a slice of TPUs) or "h100:8", to compile for.

    Raises:
      ValueError: there is no such chip or slice, or what compiles for it is not installed.
    """
    kind, _, size = name.partition(":")
    if kind not in CHIPS or not re.fullmatch(r"\d+" if CHIPS[kind].target else r"\d+(x\d+)+", size):
        raise ValueError(
            f"--topology={name!r}: a chip and how many, such as v5p:4x4x8 or h100:8; chips are {', '.join(CHIPS)}"
        )
    chip = CHIPS[kind]
    module, extra = ("jax_cuda12_plugin", "aot-gpu") if chip.target else ("libtpu", "aot")
    if importlib.util.find_spec(module) is None:
        raise ValueError(f"--topology={name}: its compiler is not installed: pip install -e '.[{extra}]'")
    gpu = {"topology": f"1x1x{size}", "target_config": chip.target} if chip.target else {}
    try:
        found = topologies.get_topology_desc("" if gpu else name, "cuda" if gpu else "tpu", **gpu)
    except jax.errors.JaxRuntimeError as error:
        raise ValueError(f"--topology={name}: its compiler knows no such slice: {error}") from error
    return list(found.devices), chip


class Run:
    """What a training run compiles, for any number of questions."""

    def __init__(self, config: Config, devices: list[jax.Device]):
        config = with_compilable_attention(config, devices)
        self.config, self.mesh = config, sharding.make_mesh(config.mesh.to_dict(), devices=devices)
        self.policy = abstract_policy(config.model, self.mesh)
        self.functions = make_rollout_functions(self.policy, config)
        init, self.update = build_step(self.policy, config, "train")
        self.state = jax.eval_shape(init, self.policy.params)
        self.weights = rollout_param_specs(self.policy, gather=config.rollout.gather_params)

    @property
    def unit(self) -> int:
        """Questions come in multiples of this, so that every device has as many rows of every micro-batch."""
        return unit_of_prompts(
            devices=sharding.count_batch_shards(self.mesh),
            microbatches=self.config.optimizer.microbatches,
            group_size=self.config.rollout.group_size,
            has_images=self.policy.config.vision is not None,
        )

    def compiled(self, name: str, questions: int) -> Compiled:
        """What the compiler says of one of `programs` for so many questions."""
        with jax.set_mesh(self.mesh):
            options = GPU_OPTIONS if self.mesh.devices.flat[0].platform == "gpu" else {}
            return compile_program(self.programs(questions)[name], options)

    def programs(self, questions: int) -> dict[str, Program]:
        """Name → program, in the order in which they run."""
        f, params, loss = self.functions, self.policy.params, self.config.loss
        state, optimizer = {"parameters": params}, {"optimizer": self.state.opt_state}
        reference, waiting = {}, optimizer
        if loss.kl_coef and not self.policy.config.lora:
            reference = {"reference": partition(params, self.policy.is_trainable)[0]}
            waiting = optimizer | ({} if loss.kl_reference_on_host else reference)
        named, weights, held = {}, self.weights, state
        if weights is not params:
            held, waiting = {"rollout weights": weights}, waiting | state
        prompts, cuts, answers = self._prompts(questions), self._cuts(questions), self._answers(questions)
        encoded = self._rows(jax.eval_shape(f.encode_images, weights, prompts))
        if encoded.images:
            named["encode_images"] = Program(
                jax.jit(f.encode_images), (weights, prompts), held | {"batch": prompts}, waiting
            )
        sampled = self._add_sampling(named, weights, encoded, held, waiting)
        tokens = self._rows(sampled._replace(cache=()))
        scores = jax.eval_shape(f.score, weights, encoded, sampled, cuts, answers)
        batch = self._batch(encoded, tokens, scores if loss.alpha else None, cuts)
        if loss.alpha:
            scored = {"KV cache": sampled.cache, "batch": (encoded, tokens, cuts, answers)}
            named["score"] = Program(f.score, (weights, encoded, sampled, cuts, answers), held | scored, waiting)
        learned = state | {"batch": batch}
        if loss.kl_coef:
            arguments = lora.strip(params), batch
            named["reference"] = Program(f.ref_logprobs, arguments, learned | reference, optimizer)
        waiting = {} if loss.kl_reference_on_host else reference
        named["update"] = Program(self.update, (self.state, batch), learned | optimizer, waiting)
        return named

    def _add_sampling(
        self, named: dict[str, Program], weights: Any, encoded: sampler.Prompts, held: dict, waiting: dict
    ) -> sampler.Completions:
        """What is sampled to the last token, and the programs that do it; of those that decode the last one."""
        sample = self.functions.sample
        key = sharding.with_shardings(
            jax.eval_shape(lambda: jax.random.key(0)), sharding.replicated_sharding(self.mesh)
        )
        state, prompt = jax.eval_shape(sample.prefill, weights, encoded)
        state = self._decode_state(state)
        cache = (self._cache(prompt),)
        begun = {"KV cache": cache, "batch": (encoded, state)}
        named["prefill"] = Program(sample.prefill, (weights, encoded), held | begun, waiting)
        for width in sample.widths:
            before, options = cache, {"width": width}
            part = jax.eval_shape(functools.partial(sample.decode, **options), weights, state, cache, key)[1]
            cache = (*cache, self._cache(part))
        named["decode"] = Program(
            sample.decode,
            (weights, state, before, key),
            held | {"KV cache": cache, "batch": state},
            waiting | {"prompts": encoded},
            options,
        )
        return sampler.to_completions(state, cache)

    def _decode_state(self, state: sampler.DecodeState) -> sampler.DecodeState:
        """Rows over the data axes; the number of the token has none."""
        rows, whole = sharding.batch_sharding(self.mesh), sharding.replicated_sharding(self.mesh)
        return jax.tree.map(lambda x: sharding.with_shardings(x, rows if x.ndim else whole), state)

    def _prompts(self, questions: int) -> sampler.Prompts:
        width, vision, images = self.config.data.max_prompt_tokens, self.policy.config.vision, None
        if vision:
            slots = questions, self.config.model.vision.max_patches
            pixels = Pixels(_float(*slots, vision.values_per_patch), _int(*slots, 2), _int(*slots))
            images = Images(_int(questions, width), _int(questions, width, 3), _int(questions), pixels)
        return self._rows(sampler.Prompts(_int(questions, width), _int(questions), images))

    def _cuts(self, questions: int) -> rewards.Cuts:
        shape = questions * self.config.rollout.group_size, self.config.reward.max_steps + 1
        return self._rows(rewards.Cuts(_int(*shape), _bool(*shape)))

    def _answers(self, questions: int) -> rewards.Answers:
        variants, scored = self.config.reward.max_variants, self.config.data.max_answer_tokens + CLOSING
        scored_qay = questions, variants, scored
        token_qap = _int(questions, variants, LEAD_IN + scored - 1)
        return self._rows(rewards.Answers(token_qap, _int(*scored_qay), _bool(*scored_qay)))

    def _batch(self, prompts, completions, scores, cuts) -> Batch:
        rows, width = completions.token_bt.shape
        outcome, step_bt = Outcome(_bool(rows), _bool(rows), _bool(rows)), _int(rows, width)
        batch, _ = jax.eval_shape(self.functions.assemble, prompts, completions, scores, cuts, outcome, step_bt)
        reference = batch.old_logprob_bt if self.config.loss.kl_coef else None
        return self._rows(batch._replace(ref_logprob_bt=reference))

    def _rows(self, tree: Any) -> Any:
        """Rows over the data axes, where training puts them and the compiler leaves them."""
        return sharding.with_shardings(tree, sharding.batch_sharding(self.mesh))

    def _cache(self, cache: KVCache) -> KVCache:
        """Where the compiler leaves it: rows like all rows, heads like those of the projections."""
        cut = sharding.kv_cache_spec(self.policy.config.kv_heads, self.mesh)
        return sharding.with_shardings(cache, NamedSharding(self.mesh, cut))


def with_compilable_attention(config: Config, devices: list[jax.Device]) -> ModelConfig:
    """cuDNN's attention cannot be compiled where there is no cuDNN; XLA's stands in for it, and takes more memory."""
    if devices[0].platform != "gpu":
        return config
    config = copy.deepcopy(config)
    config.model.attention = "xla"
    return config


def _int(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, "int32")


def _bool(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, "bool")


def _float(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, "float32")


def compile_program(program: Program, options: dict[str, Any]) -> Compiled:
    """Compile it, and ask the compiler. That it does not fit is an answer, too."""
    waits = {part: bytes_on_device(tree) for part, tree in program.waiting.items()}
    parts = {part: bytes_on_device(tree) for part, tree in program.held.items()} | waits
    waiting = sum(waits.values())
    try:
        executable = program.function.lower(*program.arguments, **program.options).compile(options)
    except jax.errors.JaxRuntimeError as error:
        if not (full := _FULL.search(str(error))):
            raise
        return Compiled(parts, waiting + int(float(full[1]) * _UNITS[full[2]]), {}, None)
    m = executable.memory_analysis()
    held = m.argument_size_in_bytes + m.output_size_in_bytes - m.alias_size_in_bytes + m.temp_size_in_bytes
    # Of a GPU the compiler gives no peak. What a program does not use it does not take, but it is there.
    unused = max(0, bytes_on_device(program.arguments) - m.argument_size_in_bytes)
    peak = waiting + unused + (m.peak_memory_in_bytes or held)
    return Compiled(parts, peak, read_collectives(executable.as_text()), executable.output_shardings)


def bytes_on_device(tree: Any) -> int:
    """Bytes of a tree of shapes on their places, of which every device holds as much."""
    return sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree))


def largest_that_fits(need: Callable[[int], float], room: float, *, start: int, limit: int | None = None) -> int:
    """About the largest n with need(n) ≤ room, at most `limit`; 0 where there is none.

    `need` grows about linearly, and each call is dear: a guess lies on the line through the two calls that came nearest
    to `room`. What comes back did fit; how much more would not is read off the line, to a fiftieth.
    """
    known, low, high = {}, 0, math.inf if limit is None else limit + 1
    guess = start if limit is None else limit
    while low < guess < high:
        known[guess] = need(guess)
        low, high = (guess, high) if known[guess] <= room else (low, guess)
        if len(known) == 1:
            guess = min(2 * low, high - 1) or high // 2
            continue
        a, b = sorted(known, key=lambda n: abs(known[n] - room))[:2]
        slope = (known[b] - known[a]) / (b - a)
        guess = low + low // 50 if slope <= 0 else a + math.floor((room - known[a]) / slope)
        guess = low if guess <= low + low // 50 else min(guess, high - 1)
    return low
