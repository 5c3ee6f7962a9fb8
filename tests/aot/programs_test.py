"""Abstract programs against the arrays of a training step, and sizes computed by hand."""

import math

import jax
import pytest

from mig_jax.aot.collectives import Collective
from mig_jax.aot.compile import compile_program, nbytes_on_device, open_topology
from mig_jax.aot.programs import TrainingPrograms
from mig_jax.distributed import sharding
from mig_jax.policy.load import load_policy
from mig_jax.policy.prompts import encode_prompts
from mig_jax.rollout.problem_set import open_train_problems
from mig_jax.rollout.rollout import Rollout
from mig_jax.text.answers.verifier import Verifier
from mig_jax.trainer.kl_reference import make_kl_reference
from mig_jax.trainer.update import build_update
from tests import tiny

MESH = {"mesh__data": 2, "mesh__fsdp": 2, "mesh__tensor": 2}
GIB = 2**30


def layout(tree):
    """Return shape, dtype and bytes on one device of every leaf."""
    return jax.tree.map(lambda x: (x.shape, x.dtype.name, nbytes_on_device(x)), tree)


def all_parts(program):
    """Return part → bytes on one device, of operands and resident arrays."""
    return {part: nbytes_on_device(tree) for part, tree in (program.operands | program.resident).items()}


@pytest.mark.slow
def test_arguments_equal_those_of_training():
    """Shapes, dtypes and shardings on eight devices."""
    config = tiny.get_scenes(
        **MESH, loss__kl_coef=0.1, rollout__questions=4, model__vision__freeze=False, rollout__kv_cache_chunks=2
    )
    programs = TrainingPrograms(config, jax.devices()).programs(4)
    mesh = sharding.make_mesh(config.mesh.to_dict())
    with jax.set_mesh(mesh), Verifier(workers=1) as verifier:
        policy = load_policy(config.model, mesh, seed=0)
        ((problems,), _) = open_train_problems(policy, config, need_solution=False)
        kl_reference = make_kl_reference(policy, on_host=False)
        state, _ = build_update(policy, config, "train")
        rollout = Rollout(policy, config, verifier, kl_reference=kl_reference)
        prompt_batch = encode_prompts(policy, config, problems[:4])
        params = rollout.compiled.rollout_params(state.params)
        host_prompts = sharding.to_mesh(prompt_batch.prompts, mesh)
        prompts = rollout.compiled.encode_images(params, host_prompts)
        completions = rollout.compiled.sample(params, prompts, jax.random.key(0))
        batch = rollout(state.params, prompt_batch, jax.random.key(0)).batch
    assert list(programs) == ["encode_images", "prefill", "decode", "score", "reference", "update"]
    assert layout(programs["update"].arguments[0]) == layout(state)
    assert layout(programs["update"].arguments[1]) == layout(batch)
    assert layout(programs["score"].arguments[:3]) == layout((params, prompts, completions))
    assert len(completions.cache) == 3
    assert layout(programs["decode"].arguments[3]) == layout(completions.cache[-1])
    assert programs["decode"].static_kwargs == {"leave_at": 0, "shards": 8}
    assert layout(programs["encode_images"].arguments[1]) == layout(host_prompts)


def test_minibatches_and_recomputed_logprobs():
    """The update takes a mini-batch, while the rest of the rollout waits; old log-probs are a program of their own."""
    config = tiny.get_config(optimizer__minibatches=2, loss__old_logprobs="recomputed", rollout__questions=8)
    programs = TrainingPrograms(config, jax.devices()[:1]).programs(8)
    assert list(programs) == ["prefill", "decode", "score", "recompute", "update"]
    rollout, part = programs["recompute"].arguments[1], programs["update"].arguments[1]
    assert rollout.token_bs.shape[0] == 2 * part.token_bs.shape[0] == 16
    assert part.sampler_weight_bt.shape == part.old_logprob_bt.shape
    assert "rollout" in programs["update"].resident


def test_nbytes_on_device_by_hand():
    """Width over fsdp; heads, mlp and vocabulary over tensor; the single key head and the odd mlp are replicated."""
    config = tiny.get_config(**MESH, model__init__mlp_width=33, rollout__gather_params=False)
    training = TrainingPrograms(config, jax.devices())
    vocabulary = training.policy.tokenizer.vocab_size
    assert vocabulary % 2 == 0
    embedding = (vocabulary // 2) * (16 // 2)
    attention = 2 * (8 * 1 * 8) + 2 * (8 * 8)  # query and out over both axes, key and value over fsdp
    biases = 1 * 8 + 2 * 8
    mlp, norms = 3 * 8 * 33, 2 * 8
    params = embedding + 8 + 2 * (attention + biases + mlp + norms)
    programs = training.programs(8)
    nbytes = all_parts(programs["score"])
    assert nbytes["parameters"] == 4 * params
    assert nbytes["optimizer"] == 2 * 4 * params + 8  # two moments, and two counters
    # Prompt slots for each question, completion slots for each sample.
    assert nbytes["KV cache"] == 4 * 2 * 2 * (8 // 4 * 32 + 8 * 2 // 4 * 40) * 1 * 8
    assert "reference" not in nbytes and "KV cache" not in programs["update"].operands


@pytest.mark.slow
def test_gathered_rollout_params_are_replicated_over_fsdp_in_compute_dtype():
    """Without gathering, every layer gathers its parameters for every token."""
    collectives = {}
    for gather in (False, True):
        config = tiny.get_config(mesh__fsdp=8, model__compute_dtype="bfloat16", rollout__gather_params=gather)
        training = TrainingPrograms(config, jax.devices())
        decode = training.programs(8)["decode"]
        with jax.set_mesh(training.mesh):
            collectives[gather] = compile_program(decode, {}).collectives
        nbytes = all_parts(decode)
        copies = 8 if gather else 1
        assert nbytes["rollout parameters"] == pytest.approx(nbytes["parameters"] * copies / 2, rel=0.1)
    in_layers = Collective("all-gather", (40, 2))
    assert in_layers in collectives[False] and in_layers not in collectives[True]


def test_reference_on_host_is_on_devices_only_for_its_logprobs():
    def programs_with_reference(on_host):
        config = tiny.get_config(loss__kl_coef=0.1, loss__kl_reference_on_host=on_host)
        programs = TrainingPrograms(config, jax.devices()).programs(8)
        return {name for name, program in programs.items() if "reference" in program.operands | program.resident}

    assert programs_with_reference(False) == {"prefill", "decode", "score", "reference", "update"}
    assert programs_with_reference(True) == {"reference"}


def test_adapters_alone_have_moments_and_need_no_reference():
    training = TrainingPrograms(tiny.get_config(**MESH, model__lora__rank=2, loss__kl_coef=0.1), jax.devices())
    programs = training.programs(8)
    assert "reference" in programs and "reference" not in programs["update"].operands
    operands = programs["update"].operands
    assert nbytes_on_device(operands["optimizer"]) < nbytes_on_device(operands["parameters"])
    trained = {jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(operands["optimizer"])}
    assert all("lora" in path for path in trained if "layers" in path) and any("lora" in path for path in trained)


def test_peak_includes_resident_parts():
    training = TrainingPrograms(tiny.get_config(**MESH, rollout__gather_params=False), jax.devices())
    with jax.set_mesh(training.mesh):
        program = training.programs(8)["score"]
        with_optimizer = compile_program(program, {})
        without = compile_program(program._replace(resident={}), {})
    nbytes = with_optimizer.part_nbytes
    assert with_optimizer.peak_nbytes - without.peak_nbytes == nbytes["optimizer"]
    assert with_optimizer.peak_nbytes > sum(nbytes[part] for part in ("parameters", "optimizer", "KV cache"))
    # The parameters of both layers are gathered for every use, and so are those that read the answers.
    assert {collective.kind for collective in with_optimizer.collectives} >= {"all-gather"}


def test_question_multiple_fills_every_device_in_every_microbatch():
    for microbatches, multiple in ((1, 4), (2, 4), (4, 8), (8, 16)):
        training = TrainingPrograms(tiny.get_config(**MESH, optimizer__microbatches=microbatches), jax.devices())
        assert training.question_multiple == multiple
        assert training.question_multiple * 2 // microbatches % 4 == 0


@pytest.mark.aot
def test_all_programs_compile_for_tpu(monkeypatch):
    monkeypatch.setenv("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    # The axes of a mesh need not be products of the slice's own axes.
    sharding.make_mesh({"data": 2, "fsdp": 64}, devices=open_topology("v5p:4x4x8")[0])
    config = tiny.get_config(mesh__data=2, mesh__fsdp=2, rollout__gather_params=False)
    devices, chip = open_topology("v5e:2x2")
    training = TrainingPrograms(config, devices)
    params = sum(math.prod(x.shape) // (2 if 16 in x.shape else 1) for x in jax.tree.leaves(training.policy.params))
    jax.config.update("jax_optimization_level", "O0")  # a third of the time
    try:
        compiled = {name: training.compile(name, 8) for name in training.programs(8)}
    finally:
        jax.config.update("jax_optimization_level", "UNKNOWN")
    assert list(compiled) == ["prefill", "decode", "score", "update"]
    for program in compiled.values():
        assert program.part_nbytes["parameters"] == 4 * params
        assert sum(program.part_nbytes.values()) < program.peak_nbytes < chip.hbm_gib * GIB
    # Both layers gather their parameters for the prompts, and again for every token.
    decode, prefill = (
        compiled[name].collectives[Collective("all-gather", trip_counts)]
        for name, trip_counts in (("decode", (40, 2)), ("prefill", (2,)))
    )
    assert decode.nbytes == 40 * prefill.nbytes
    # The compiler shards what prefill returns as assumed for decode.
    state, cache = training.programs(8)["decode"].arguments[1:3]
    abstract = state, cache[0]
    assert layout(sharding.with_shardings(abstract, compiled["prefill"].output_shardings)) == layout(abstract)
