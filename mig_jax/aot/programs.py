"""Programs of a training step, with abstract arguments in place of arrays.

The policy, the rollout functions and the update come from the same functions as in training. They get shapes on the
devices of a topology, so that no memory is allocated and no parameter is read.
"""

import copy
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding

from mig_jax import rewards
from mig_jax.aot.compile import CompiledProgram, Program, compile_program
from mig_jax.aot.flops import probe_tokens
from mig_jax.check_config import prompt_multiple
from mig_jax.config import Config
from mig_jax.distributed import sharding
from mig_jax.learning.losses import Batch
from mig_jax.learning.train_step import partition
from mig_jax.models import leaving, lora, sampler
from mig_jax.models.decoder import KVCache
from mig_jax.models.vision import Images, Pixels
from mig_jax.policy.encoding import bucket_size
from mig_jax.policy.generate import rollout_param_specs
from mig_jax.policy.load import abstract_policy, check_run_lengths
from mig_jax.rollout.batch import make_outcome
from mig_jax.rollout.rollout import make_rollout_functions
from mig_jax.rollout.scoring import ProbedSteps, Probes
from mig_jax.trainer.update import build_step

# Triton tries tile sizes on a GPU. Without one it finds none for matrices of some heights. cuBLAS takes any matrix and
# serves as well here.
GPU_OPTIONS = {"xla_gpu_enable_triton_gemm": False}


class TrainingPrograms:
    """The programs of a training step on given `jax.Device`s, for any number of questions Q.

    mesh: of the devices.
    policy: with shapes in place of parameters.
    question_multiple: Q must be a multiple of it, so that every device has equally many rows of every micro-batch.
    """

    def __init__(self, config: Config, devices: Sequence[Any]):
        config = with_compilable_attention(config, devices)
        self.config, self.mesh = config, sharding.make_mesh(config.mesh.to_dict(), devices=devices)
        self.policy = abstract_policy(config.model, self.mesh)
        check_run_lengths(self.policy, config)
        self._functions = make_rollout_functions(self.policy, config)
        init, self._update, self._take_minibatch = build_step(self.policy, config, "train")
        self._state = jax.eval_shape(init, self.policy.params)
        self._rollout_params = rollout_param_specs(self.policy, gather=config.rollout.gather_params)
        self.question_multiple = prompt_multiple(
            devices=sharding.count_batch_shards(self.mesh),
            microbatches=max(1, config.optimizer.microbatches) * config.optimizer.minibatches,
            group_size=config.rollout.group_size,
            has_images=self.policy.config.vision is not None,
        )
        # Parts of memory that outlive a program.
        self._params = {"parameters": self.policy.params}
        self._optimizer = {"optimizer": self._state.opt_state}
        self._reference = {}
        if config.loss.kl_coef and not self.policy.config.lora:
            self._reference = {"reference": partition(self.policy.params, self.policy.is_trainable)[0]}
        self._resident_reference = {} if config.loss.kl_reference_on_host else self._reference

    def compile(self, name: str, questions: int) -> CompiledProgram:
        """Compile one of `programs` for this number of questions."""
        with jax.set_mesh(self.mesh):
            options = GPU_OPTIONS if self.mesh.devices.flat[0].platform == "gpu" else {}
            return compile_program(self.programs(questions)[name], options)

    def programs(self, questions: int) -> dict[str, Program]:
        """Return name → program, in the order in which a step runs them."""
        f, params, programs = self._functions, self._rollout_params, {}
        prompts, cuts, probes = self._prompts(questions), self._cuts(questions), self._probes(questions)
        encoded = self._shard_rows(jax.eval_shape(f.encode_images, params, prompts))
        if encoded.images:
            programs["encode_images"] = self._rollout_program(
                jax.jit(f.encode_images), prompts, operands={"batch": prompts}
            )
        sampling, completions = self._sampling_programs(encoded)
        programs |= sampling
        tokens = self._shard_rows(completions._replace(cache=()))
        ell_bk = None
        if self.config.loss.alpha:
            ell_bk = jax.eval_shape(f.likelihood, params, encoded, completions, cuts, probes)
            operands = {"KV cache": completions.cache, "batch": (encoded, tokens, cuts, probes)}
            programs["score"] = self._rollout_program(
                f.likelihood, encoded, completions, cuts, probes, operands=operands
            )
        return programs | self._update_programs(self._batch(encoded, tokens, ell_bk))

    def _rollout_program(
        self, function: Callable, *arguments: Any, operands: dict[str, Any], resident: dict[str, Any] | None = None
    ) -> Program:
        """Return a program that runs before the update; its first argument is the rollout's parameters."""
        params, others = self._params, self._optimizer | self._resident_reference
        if self._rollout_params is not self.policy.params:
            params, others = {"rollout parameters": self._rollout_params}, others | self._params
        return Program(function, (self._rollout_params, *arguments), params | operands, others | (resident or {}))

    def _sampling_programs(self, prompts: sampler.Prompts) -> tuple[dict[str, Program], sampler.Completions]:
        """Return the prefill and the decoding of the last chunk, and the completions at their maximum length."""
        sample, params = self._functions.sample, self._rollout_params
        replicated = sharding.replicated_sharding(self.mesh)
        key = sharding.with_shardings(jax.eval_shape(lambda: jax.random.key(0)), replicated)
        state, prompt_cache = jax.eval_shape(sample.prefill, params, prompts)
        state, cache = self._shard_decode_state(state), (self._shard_cache(prompt_cache),)
        prefill = self._rollout_program(
            sample.prefill, prompts, operands={"KV cache": cache, "batch": (prompts, state)}
        )
        rows, shards = state.row_b.shape[0], sharding.batch_parts(prompts.start_q.shape[0])
        for width in sample.widths:
            empty_chunk = functools.partial(sampler.empty_chunk, rows=rows, width=width)
            cache = (*cache, self._shard_cache(jax.eval_shape(empty_chunk, prompt_cache)))
        leave_at = max(leaving.subset_sizes(rows // shards), default=0)
        resident: dict[str, Any] = {"prompts": prompts}
        if leave_at:  # when rows leave late, the cache of all rows waits beside that of the others
            leave = functools.partial(leaving.leave, shards=shards, size=leave_at)
            _, few_cache, _ = jax.eval_shape(leave, state, cache)
            resident["KV cache of open rows"] = tuple(self._shard_cache(part) for part in few_cache)
        decode = self._rollout_program(
            sample.decode,
            state,
            cache[:-1],
            cache[-1],
            key,
            operands={"KV cache": cache, "batch": state},
            resident=resident,
        )
        decode = decode._replace(static_kwargs={"leave_at": leave_at, "shards": shards})
        return {"prefill": prefill, "decode": decode}, sampler.to_completions(state, cache)

    def _update_programs(self, batch: Batch) -> dict[str, Program]:
        """Return the recomputed old log-probs and those of the KL reference, where they are on, and the update."""
        operands, programs = self._params | {"batch": batch}, {}
        if self.config.loss.old_logprobs == "recomputed":
            arguments = self.policy.params, batch
            programs["recompute"] = Program(
                self._functions.recompute_logprobs, arguments, operands, self._optimizer | self._resident_reference
            )
            batch = self._shard_rows(jax.eval_shape(self._functions.recompute_logprobs, *arguments))
        if self.config.loss.kl_coef:
            arguments = lora.strip(self.policy.params), batch
            programs["reference"] = Program(
                self._functions.ref_logprobs, arguments, operands | self._reference, self._optimizer
            )
        part = self._shard_rows(jax.eval_shape(self._take_minibatch, batch, 0))
        operands = self._params | {"batch": part} | self._optimizer
        resident = self._resident_reference | ({"rollout": batch} if self.config.optimizer.minibatches > 1 else {})
        programs["update"] = Program(self._update, (self._state, part), operands, resident)
        return programs

    def _prompts(self, questions: int) -> sampler.Prompts:
        width, vision, images = self.config.data.max_prompt_tokens, self.policy.config.vision, None
        if vision:
            slots = questions, self.config.model.vision.max_patches
            pixels = Pixels(_float(*slots, vision.values_per_patch), _int(*slots, 2), _int(*slots))
            images = Images(_int(questions, width), _int(questions, width, 3), _int(questions), pixels)
        return self._shard_rows(sampler.Prompts(_int(questions, width), _int(questions), images))

    def _cuts(self, questions: int) -> rewards.Cuts:
        shape = questions * self.config.rollout.group_size, self.config.reward.max_steps
        width = probe_tokens(self.config).prefix
        prefixes = (_int(*shape, bucket_size(width)), _int(*shape)) if width else (None, None)
        return self._shard_rows(rewards.Cuts(_int(*shape), _bool(*shape), *prefixes))

    def _probes(self, questions: int) -> Probes:
        variants = self.config.reward.max_variants
        fixed = probe_tokens(self.config)
        scored = self.config.data.max_answer_tokens + fixed.closing
        target_qaye = _int(questions, variants, scored, fixed.endings)
        token_qap = _int(questions, variants, fixed.lead_in + scored - 1)
        answers = rewards.Answers(token_qap, target_qaye, _bool(questions, variants, scored))
        return self._shard_rows(Probes(answers, _int(questions, fixed.opening)))

    def _batch(self, prompts: sampler.Prompts, completions: sampler.Completions, ell_bk: Any) -> Batch:
        rows, width = completions.token_bt.shape
        probes = self.config.reward.max_steps
        outcome = make_outcome([True] * rows, [True] * rows, np.zeros(rows), np.ones(rows))
        steps = ProbedSteps(_bool(rows, probes + 1), _int(rows, probes), _int(rows, probes), _int(rows, width))
        make_batch = self._functions.make_train_batch
        batch = jax.eval_shape(make_batch, prompts, completions, outcome, steps, ell_bk).batch
        reference = batch.old_logprob_bt if self.config.loss.kl_coef else None
        return self._shard_rows(batch._replace(ref_logprob_bt=reference))

    def _shard_rows(self, tree: Any) -> Any:
        """Shard the leading axis of every leaf over the data axes, as in training."""
        return sharding.with_shardings(tree, sharding.batch_sharding(self.mesh))

    def _shard_decode_state(self, state: sampler.DecodeState) -> sampler.DecodeState:
        """Shard rows over the data axes and replicate the token counter, which has no rows."""
        rows, replicated = sharding.batch_sharding(self.mesh), sharding.replicated_sharding(self.mesh)
        return jax.tree.map(lambda x: sharding.with_shardings(x, rows if x.ndim else replicated), state)

    def _shard_cache(self, cache: KVCache) -> KVCache:
        """Shard rows over the data axes and heads over `tensor`, as the compiler shards this result."""
        spec = sharding.kv_cache_spec(self.policy.config.kv_heads, self.mesh)
        return sharding.with_shardings(cache, NamedSharding(self.mesh, spec))


def with_compilable_attention(config: Config, devices: Sequence[Any]) -> Config:
    """Return the config with XLA's attention for GPUs: cuDNN's cannot be compiled without cuDNN.

    XLA's attention takes more memory.
    """
    if devices[0].platform != "gpu":
        return config
    config = copy.deepcopy(config)
    config.model.attention = "xla"
    return config


def _int(*shape: int) -> Any:
    """Return an abstract array; like those below, it is passed where functions expect arrays."""
    return jax.ShapeDtypeStruct(shape, "int32")


def _bool(*shape: int) -> Any:
    return jax.ShapeDtypeStruct(shape, "bool")


def _float(*shape: int) -> Any:
    return jax.ShapeDtypeStruct(shape, "float32")
