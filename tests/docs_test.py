"""What the pages in docs/ name exists, and their examples work."""

import ast
import importlib
import os
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from flax.traverse_util import flatten_dict
from mig_jax.configs import default
from ml_collections import ConfigDict

import mig_jax
from mig_jax import check_config, main, rewards
from mig_jax.records import metrics
from tests import tiny

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = {path.relative_to(DOCS).as_posix(): path.read_text(encoding="utf-8") for path in sorted(DOCS.rglob("*.md"))}
# The commands and keys of errors.md are wrong on purpose.
PROSE = {name: text for name, text in PAGES.items() if name != "errors.md"} | {
    name: (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "CONTRIBUTING.md")
}
METRIC = re.compile(r"(?:advantage|ell|gradient|kl|loss|memory|policy|ratio|reward|rollout|sft|time|verifier)/[a-z_]+")


def python_blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGES[page], re.DOTALL)


def slugs(page: str) -> set[str]:
    """Anchors of the headings of a page, as mkdocs makes them."""
    titles = re.findall(r"^#+ (.*)$", PAGES[page], re.MULTILINE)
    return {re.sub(r"[^\w\s-]", "", title).strip().lower().replace(" ", "-") for title in titles}


def test_every_page_is_in_the_navigation():
    nav = (ROOT / "mkdocs.yml").read_text().split("nav:")[1]
    assert set(re.findall(r"([\w/]+\.md)$", nav, re.MULTILINE)) == PAGES.keys()


def test_links_lead_somewhere():
    broken = []
    for page, text in PAGES.items():
        text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", text):
            target = os.path.normpath(os.path.join(os.path.dirname(page), target)) if target else page
            there = (DOCS / target).exists()
            if not there or (anchor and anchor not in slugs(target)):
                broken.append(f"{page}: {target}#{anchor}")
    assert not broken


def test_named_files_exist():
    pattern = r"`((?:mig_jax|configs|tools|tests|benchmarks|docs)/[\w/.]+)`"
    named = {(page, path) for page, text in PROSE.items() for path in re.findall(pattern, text)}
    assert not [f"{page}: {path}" for page, path in sorted(named) if "NAME" not in path and not (ROOT / path).exists()]


def test_named_functions_exist():
    named = {(page, name) for page, text in PROSE.items() for name in re.findall(r"`(mig_jax(?:\.\w+)+)`", text)}
    assert named
    for page, name in sorted(named):
        assert exists(name), f"{page}: {name}"


def test_api_pages_have_every_public_name():
    named = [name for page, text in PAGES.items() for name in re.findall(r"^::: ([\w.]+)$", text, re.MULTILINE)]
    assert all(map(exists, named)) and len(set(named)) == len(named)
    modules = {"configs", "rewards"}
    assert {f"mig_jax.{name}" for name in mig_jax.__all__ if name not in modules} <= {*named}
    assert {f"mig_jax.rewards.{name}" for name in rewards.__all__} <= {*named}


def exists(name: str) -> bool:
    """Return whether a dotted name is a module or in one; those of other frameworks are not imported."""
    module, _, attribute = name.rpartition(".")
    for part, names in ((name, []), (module, [attribute])):
        path = ROOT / f"{part.replace('.', '/')}.py"
        if part.startswith("mig_jax.integrations.") and path.exists():
            tree = ast.parse(path.read_text(encoding="utf-8"))
            return {*names} <= {getattr(node, "name", None) for node in tree.body}
    try:
        importlib.import_module(name)
    except ImportError:
        return hasattr(importlib.import_module(module), attribute)
    return True


def test_named_config_keys_exist():
    flat = flatten_dict(default.get_config().to_dict(), keep_empty_nodes=True, sep=".")
    known = {".".join(key.split(".")[:n]) for key in flat for n in (1, 2, 3, 4)}
    sections = "|".join(key for key in default.get_config() if not isinstance(default.get_config()[key], int))
    unknown = []
    for page, text in PROSE.items():
        for key in re.findall(rf"(?<![\w./])(?:config\.)?((?:{sections})(?:\.[a-z]\w*)+)", text):
            unknown += [f"{page}: {key}"] if key not in known and not key.endswith(".md") else []
    assert not unknown


def test_named_commands_and_flags_exist():
    unknown = []
    for page, text in PROSE.items():
        for line in re.findall(r"mig-jax ((?:\w+) [^`\n]*--[^`\n]*)", text):
            command, flags = line.split()[0], re.findall(r"--(\w+)", line)
            unknown += [] if command in main.COMMANDS else [f"{page}: {command}"]
            unknown += [f"{page}: --{flag}" for flag in flags if flag not in main.flags.FLAGS]
    assert not unknown


def test_every_metric_is_documented():
    logged = set()
    for path in (ROOT / "mig_jax").glob("**/*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and METRIC.fullmatch(node.value):
                logged.add(node.value)
    documented = set(re.findall(r"`([a-z]+/[a-z@_]+)`", PAGES["metrics.md"]))
    assert {"reward/accuracy", "gradient/norm", "time/seconds"} <= logged
    # Seconds become shares of the time of a row.
    assert not {name for name in logged - documented if f"{name}_share" not in documented}
    shares = {name for name in documented if name.endswith("_share")}
    assert not {name for name in documented - logged - shares if METRIC.fullmatch(name)}


def test_names_of_the_terminal_line_are_explained():
    table = PAGES["metrics.md"].split("## The line of a step")[1].split("\n## ")[0]
    for labels in (metrics.TERMINAL_METRICS, metrics.SFT_TERMINAL_METRICS, metrics.EVAL_TERMINAL_METRICS):
        assert all(f"`{label}`" in table and f"`{name}`" in table for name, label in labels.items())


@pytest.mark.parametrize("number", range(len(python_blocks("rewards.md"))))
def test_examples_of_rewards_print_what_they_say(number, capsys):
    code = python_blocks("rewards.md")[number]
    exec(code, {})
    said = re.findall(r"^print\(.*?\)  # (.*)$", code, re.MULTILINE)
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [line.split() for line in said]


@pytest.mark.parametrize("page", PAGES)
def test_python_examples_are_python_and_their_configs_have_known_keys(page):
    for code in python_blocks(page):
        namespace = {}
        if "def get_config" in code:
            exec(code, namespace)
            assert isinstance(namespace["get_config"](), ConfigDict)
        else:
            ast.parse(code)


@pytest.mark.slow
def test_python_example_of_the_quickstart_runs(tmp_path, monkeypatch, capsys):
    (code,) = (code for code in python_blocks("quickstart.md") if "mig_jax.train" in code)
    changed = '"quickstart", steps=10, rollout={"group_size": 4}'
    for old, new in {changed: "small, steps=1", "/tmp": str(tmp_path)}.items():
        assert old in code
        code = code.replace(old, new)
    first = jax.devices()[:1]
    monkeypatch.setattr(jax, "devices", lambda: first)
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    exec(code, {"small": tiny.get_quickstart()})
    printed = capsys.readouterr().out
    assert "held-out accuracy" in printed and "True (" in printed and "n = 2." in printed
    assert (tmp_path / "mig_python" / "my_curves.png").exists()


def test_examples_of_own_parts_pass_the_check(tmp_path):
    file = tmp_path / "parts.py"
    file.write_text("\n".join(python_blocks("own_parts.md")))
    config = tiny.get_config(
        reward__outcomes={"accuracy": 1.0, f"{file}:shortness": 0.1, f"{file}:judged": 1.0},
        reward__credit=f"{file}:last_step",
        reward__advantage=f"{file}:over_median",
        loss__policy_loss=f"{file}:reinforce",
        log__writers=(f"{file}:Csv",),
    )
    check_config.check_config(config, mode="train", n_devices=1)


def test_recipe_of_a_credit_rule(monkeypatch):
    (code,) = (code for code in python_blocks("recipes.md") if "Credit:" in code)
    namespace = {"jax": jax, "jnp": jnp, "Credit": rewards.Credit, "Group": rewards.Group}
    exec(code, namespace)
    monkeypatch.setitem(rewards.CREDITS, "last_step", rewards.CreditRule(namespace["last_step"], "nats"))
    valid_gk = jnp.array([[True, True, True, False], [True, True, False, False]])
    ell_gk = jnp.array([[-5.0, -4.0, -1.0, 9.0], [-5.0, -4.0, 9.0, 9.0]])
    steps_gk = valid_gk[:, 1:].astype(int)
    group = rewards.Group(ell_gk, valid_gk, steps_gk, steps_gk, jnp.array([True, False]))
    credit = rewards.make_credit("last_step", scale=2.0, step_price=0.5)(group)
    assert credit.reward_g.tolist() == [5.0, 1.5]
    assert credit.gain_gk.tolist() == [[-0.5, 5.5, 0.0], [1.5, 0.0, 0.0]]
