"""What is compiled ahead of time is what training runs; what is found out about it, and how it is said."""

import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from mig_jax import commands
from mig_jax.aot import compile as aot
from mig_jax.aot import report as aot_report
from mig_jax.aot.collectives import Amount, Sent
from mig_jax.aot.compile import Compiled, Run, bytes_on_device, compile_program, largest_that_fits, open_topology
from mig_jax.distributed import sharding
from mig_jax.policy.load import load_policy
from mig_jax.policy.prompts import encode_prompts
from mig_jax.rollout.problem_set import open_training
from mig_jax.rollout.rollout import Rollout
from mig_jax.text.answers.verifier import Verifier
from mig_jax.trainer import train
from tests import tiny

ROOT = Path(__file__).parents[2]
MESH = {"mesh__data": 2, "mesh__fsdp": 2, "mesh__tensor": 2}
GIB = 2**30


def laid_out(tree):
    """Shape, dtype and bytes on a device of every leaf."""
    return jax.tree.map(lambda x: (x.shape, x.dtype.name, bytes_on_device(x)), tree)


def test_arguments_are_those_of_training():
    """A step on eight devices has the shapes, dtypes and places that were announced without it."""
    config = tiny.get_scenes(
        **MESH, loss__kl_coef=0.1, rollout__questions=4, model__vision__freeze=False, rollout__kv_cache_chunks=2
    )
    announced = Run(config, jax.devices()).programs(4)
    mesh = sharding.make_mesh(config.mesh.to_dict())
    with jax.set_mesh(mesh), Verifier(workers=1) as verifier:
        policy = load_policy(config.model, mesh, seed=0)
        ((chosen,), _) = open_training(policy, config, solved=False)
        reference = train.reference_of(policy, on_host=False)
        state, _ = train.build_update(policy, config, "train")
        rollout = Rollout(policy, config, verifier, reference=reference)
        prompt_batch = encode_prompts(policy, config, chosen[:4])
        weights = rollout.compiled.prepare(state.params)
        prompts = rollout.compiled.encode_images(weights, rollout.place(prompt_batch.prompts))
        completions = rollout.compiled.sample(weights, prompts, jax.random.key(0))
        batch, _, _ = rollout(state.params, prompt_batch, jax.random.key(0))
    assert list(announced) == ["encode_images", "prefill", "decode", "score", "reference", "update"]
    assert laid_out(announced["update"].arguments[0]) == laid_out(state)
    assert laid_out(announced["update"].arguments[1]) == laid_out(batch)
    assert laid_out(announced["score"].arguments[:3]) == laid_out((weights, prompts, completions))
    assert len(completions.cache) == 3
    assert announced["decode"].options == {"width": completions.cache[-1].key_lbsmh.shape[2]}
    assert laid_out(announced["encode_images"].arguments[1]) == laid_out(rollout.place(prompt_batch.prompts))


def test_bytes_on_a_device_by_hand():
    """Width over fsdp; heads, mlp and vocabulary over tensor; the single key head and the odd mlp stay whole."""
    config = tiny.get_config(**MESH, model__init__mlp_width=33, rollout__gather_params=False)
    run = Run(config, jax.devices())
    vocabulary = run.policy.tokenizer.vocab_size
    assert vocabulary % 2 == 0
    embedding = (vocabulary // 2) * (16 // 2)
    attention = 2 * (8 * 1 * 8) + 2 * (8 * 8)  # query and out over both axes, key and value over fsdp
    biases = 1 * 8 + 2 * 8
    mlp, norms = 3 * 8 * 33, 2 * 8
    weights = embedding + 8 + 2 * (attention + biases + mlp + norms)
    programs = run.programs(8)
    score = programs["score"]
    held = {part: bytes_on_device(tree) for part, tree in (score.held | score.waiting).items()}
    assert held["parameters"] == 4 * weights
    assert held["optimizer"] == 2 * 4 * weights + 8  # two moments, and two counters
    # A row of prompt for each question, of completion for each sample.
    assert held["KV cache"] == 4 * 2 * 2 * (8 // 4 * 32 + 8 * 2 // 4 * 40) * 1 * 8
    assert "reference" not in held and "KV cache" not in programs["update"].held


def test_weights_that_sample_are_whole_over_fsdp_and_narrow():
    """They are sent once, instead of in every layer for every token."""
    sent = {}
    for gather in (False, True):
        config = tiny.get_config(mesh__fsdp=8, model__compute_dtype="bfloat16", rollout__gather_params=gather)
        run = Run(config, jax.devices())
        programs = run.programs(8)
        with jax.set_mesh(run.mesh):
            sent[gather] = compile_program(programs["decode"], {}).sent
        held = {part: bytes_on_device(x) for part, x in (programs["decode"].held | programs["decode"].waiting).items()}
        whole = 8 if gather else 1
        assert held["rollout weights"] == pytest.approx(held["parameters"] * whole / 2, rel=0.1)
    in_layers = Sent("all-gather", (40, 2))
    assert in_layers in sent[False] and in_layers not in sent[True]


def test_a_reference_on_the_host_is_held_for_its_log_probs_alone():
    def held(on_host):
        programs = Run(tiny.get_config(loss__kl_coef=0.1, loss__kl_reference_on_host=on_host), jax.devices()).programs(
            8
        )
        return {name for name, program in programs.items() if "reference" in program.held | program.waiting}

    assert held(False) == {"prefill", "decode", "score", "reference", "update"} and held(True) == {"reference"}


def test_adapters_have_moments_and_a_reference_of_no_bytes():
    run = Run(tiny.get_config(**MESH, model__lora__rank=2, loss__kl_coef=0.1), jax.devices())
    programs = run.programs(8)
    assert "reference" in programs and "reference" not in programs["update"].held
    held = programs["update"].held
    assert bytes_on_device(held["optimizer"]) < bytes_on_device(held["parameters"])
    trained = {jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(held["optimizer"])}
    assert all("lora" in path for path in trained if "layers" in path) and any("lora" in path for path in trained)


def test_a_program_is_compiled_and_what_waits_is_counted():
    run = Run(tiny.get_config(**MESH, rollout__gather_params=False), jax.devices())
    with jax.set_mesh(run.mesh):
        program = run.programs(8)["score"]
        with_optimizer = compile_program(program, {})
        without = compile_program(program._replace(waiting={}), {})
    assert with_optimizer.peak - without.peak == with_optimizer.parts["optimizer"]
    assert with_optimizer.peak > sum(with_optimizer.parts[part] for part in ("parameters", "optimizer", "KV cache"))
    # The widths of both layers' weights are put together for every use, and those of what reads the answers.
    assert {sent.kind for sent in with_optimizer.sent} >= {"all-gather"}


def test_questions_come_in_units_that_fill_every_device_in_every_micro_batch():
    for microbatches, unit in ((1, 4), (2, 4), (4, 8), (8, 16)):
        run = Run(tiny.get_config(**MESH, optimizer__microbatches=microbatches), jax.devices())
        assert run.unit == unit
        assert run.unit * 2 // microbatches % 4 == 0


@pytest.mark.parametrize("start, limit", [(1, None), (7, None), (500, None), (1, 60), (1, 1000), (40, 3)])
@pytest.mark.parametrize(
    "curve", [lambda n: 10 + n, lambda n: 10 + n + n**2 / 500, lambda n: 30 + 2 * n - 2 * (n > 20)]
)
def test_search_for_the_largest_batch(curve, start, limit):
    prompt_batch = []

    def need(n):
        prompt_batch.append(n)
        return curve(n)

    found = largest_that_fits(need, 100.0, start=start, limit=limit)
    largest = max(n for n in range((limit or 1000) + 1) if curve(n) <= 100)
    assert curve(found) <= 100 and found in prompt_batch
    assert largest - found <= largest // 50
    assert len(prompt_batch) <= 7 and len(set(prompt_batch)) == len(prompt_batch)


def test_search_where_nothing_or_all_fits():
    assert largest_that_fits(lambda n: 101, 100.0, start=8) == 0
    assert largest_that_fits(lambda n: 101 + n, 100.0, start=8) == 0
    assert largest_that_fits(lambda n: 99, 100.0, start=8, limit=64) == 64
    assert largest_that_fits(lambda n: n, 100.0, start=8, limit=0) == 0
    assert largest_that_fits(lambda n: 99, 100.0, start=8) > 8  # flat: it need not grow for ever


@pytest.mark.parametrize("name", ["", "v5p", "v99:2x2", "v5e:4", "v5e:4x", "v5e:axb", "h100:2x4", "h100:"])
def test_no_topology(name):
    with pytest.raises(ValueError, match="a chip and how many.*v5p:4x4x8 or h100:8.*v5e, v5p, v6e"):
        open_topology(name)


@pytest.mark.parametrize("name, extra", [("v5e:2x2", "aot"), ("h100:8", "aot-gpu")])
def test_a_compiler_that_is_missing_is_named(monkeypatch, name, extra):
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None)
    with pytest.raises(ValueError, match=rf"not installed: pip install -e '.\[{extra}\]'"):
        open_topology(name)


def test_the_compiler_of_a_tpu_says_how_much_is_missing(monkeypatch):
    message = "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (17.50G) "

    class Function:
        def lower(self):
            raise jax.errors.JaxRuntimeError(message + tail)

    held = {
        "optimizer": jax.ShapeDtypeStruct((GIB // 4,), "float32", sharding=sharding.replicated_sharding(make_mesh()))
    }
    tail = "exceeds available HBM (15.75G)."
    compiled = compile_program(aot.Program(Function(), (), {}, held), {})
    assert compiled.peak == 18.5 * GIB and compiled.results is None
    tail = "is something else"
    with pytest.raises(jax.errors.JaxRuntimeError):
        compile_program(aot.Program(Function(), (), {}, held), {})


def make_mesh():
    return sharding.make_mesh({}, devices=jax.devices()[:1])


def test_what_does_not_fit_is_said_with_what_to_turn():
    parts = {"parameters": 2 * GIB, "optimizer": 4 * GIB, "batch": GIB}
    sent = {Sent("all-gather", (8, 2)): Amount(7, 3 * GIB)}
    config = tiny.get_config(mesh__data=1, optimizer__microbatches=4)
    said = aot_report.describe(Compiled(parts, 20 * GIB, sent, None), "update", config, 15.75 * GIB)
    assert (said["fits"], said["gib"][aot_report.REST]) == (False, 13.0)
    assert said["turn"][:3] == ["model.compute_dtype=bfloat16", "model.remat=matmuls", "optimizer.microbatches=8"]
    assert "mesh.fsdp higher, on more devices" in said["turn"] and "model.lora.rank=16" in said["turn"]
    assert aot_report.describe(Compiled(parts, 15 * GIB, sent, None), "update", config, 15.75 * GIB)["turn"] == []
    report = {
        "programs": {"update": said}, "hbm_gib": 15.75, "most_questions": 0, "unit": 3, "topology": "v5e:2x2",
        "devices": 4, "device_kind": "TPU v5 lite", "jaxlib": "1", "mesh": {"fsdp": 4}, "weights": 3e9,
        "limited_by": "update", "platform": "gpu",
        "model": config.model.to_dict() | {"attention": "xla"},
        "rollout": config.rollout.to_dict(), "optimizer": config.optimizer.to_dict(),
        "flops": {"learn": 2e15}, "floor_seconds": {"learn": 4.0}, "decode_memory_seconds": 1.5,
        "chip": {"tflops": 197.0, "gb_per_s": 800.0, "source": "a data sheet"},
    }  # fmt: skip
    page = aot_report.render(report)
    assert "**Compiled, not run**" in page and "attention xla (cuDNN's, which takes less, cannot be" in page
    assert "| update | 2.00 | 4.00 | 1.00 | 13.00 | 20.00 | 4.25 too much |" in page
    assert "The update does not fit. Turn: model.compute_dtype=bfloat16; " in page
    assert "| all-gather | update | 8 × 2 | 7 | 3.000 |" in page
    assert "rollout.questions must be a multiple of 3" in page
    assert "| learn | 2 | 4 |" in page and "No number of questions fits." in page


def test_levers_belong_to_what_is_full():
    config = tiny.get_config(model__compute_dtype="bfloat16", model__remat="layer")
    assert aot_report.suggestions("KV cache", "decode", config)[0] == "rollout.questions lower"
    assert aot_report.suggestions("parameters", "decode", config)[0] == "mesh.fsdp=-1, mesh.data=1"
    assert aot_report.suggestions("rollout weights", "decode", config)[-1] == "rollout.gather_params=False"
    assert "optimizer.state_dtype=bfloat16" in aot_report.suggestions("optimizer", "update", config)
    assert "loss.kl_reference_on_host=True" in aot_report.suggestions("reference", "decode", config)
    assert "reward.max_variants lower" in aot_report.suggestions(aot_report.REST, "score", config)
    assert aot_report.suggestions(aot_report.REST, "update", config)[0] == "optimizer.microbatches=2"


def test_the_command_prints_and_writes(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(aot_report, "compile_run", lambda config, topology: {"on": topology})
    monkeypatch.setattr(aot_report, "render", lambda report: f"# on {report['on']}\n")
    commands.aot(tiny.get_config(), "v5e:2x2", str(tmp_path / "out"))
    assert json.loads((tmp_path / "out" / "aot.json").read_text()) == {"on": "v5e:2x2"}
    assert (tmp_path / "out" / "aot.md").read_text() in capsys.readouterr().out


def test_the_command_asks_for_what_it_needs():
    command = [sys.executable, "-m", "mig_jax.main", "aot"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode != 0 and "aot needs --config; aot needs --topology" in done.stderr


@pytest.mark.aot
def test_all_programs_compile_for_a_tpu(monkeypatch):
    monkeypatch.setenv("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    # No product of the slice's own axes, which the axes of a mesh need not be.
    sharding.make_mesh({"data": 2, "fsdp": 64}, devices=open_topology("v5p:4x4x8")[0])
    config = tiny.get_config(mesh__data=2, mesh__fsdp=2, rollout__gather_params=False)
    devices, chip = open_topology("v5e:2x2")
    run = Run(config, devices)
    numbers = sum(math.prod(x.shape) // (2 if 16 in x.shape else 1) for x in jax.tree.leaves(run.policy.params))
    jax.config.update("jax_optimization_level", "O0")  # a third of the time
    try:
        compiled = {name: run.compiled(name, 8) for name in run.programs(8)}
    finally:
        jax.config.update("jax_optimization_level", "UNKNOWN")
    assert list(compiled) == ["prefill", "decode", "score", "update"]
    for program in compiled.values():
        assert program.parts["parameters"] == 4 * numbers
        assert sum(program.parts.values()) < program.peak < chip.hbm_gib * GIB
    # Weights are put together in both layers, for prompts and for every token; what is sampled stays where it is.
    tokens, prompts = (
        compiled[name].sent[Sent("all-gather", loops)] for name, loops in (("decode", (40, 2)), ("prefill", (2,)))
    )
    assert tokens.nbytes == 40 * prompts.nbytes
    state, cache = run.programs(8)["decode"].arguments[1:3]
    for announced, results in (((state, cache[0]), compiled["prefill"].results),):
        assert laid_out(sharding.with_shardings(announced, results)) == laid_out(announced)
