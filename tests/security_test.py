"""Data that is read is never executed."""

import ast
from pathlib import Path

import pytest

from mig_jax.text import chat_template, tokenizer

PACKAGE = Path(__file__).parent.parent / "mig_jax"
FILES = [
    *PACKAGE.glob("**/*.py"),
    *(PACKAGE.parent / "configs").glob("*.py"),
    *(PACKAGE.parent / "benchmarks").glob("*.py"),
]
MODULES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "yaml", "code", "codeop"}
BUILTINS = {"eval", "exec", "compile", "__import__"}
# Keyword → its only permitted value.
KEYWORDS = {"allow_pickle": False, "trust_remote_code": False, "shell": False}


def unsafe_calls(source: str) -> list[str]:
    """Return the imports, calls and arguments that execute data, or could."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in MODULES:
            found.append(node.module)
        elif isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Name) and called.id in BUILTINS:
                found.append(called.id)
            text = ast.unparse(called)
            if text in ("os.system", "os.popen") or text.endswith((".unsafe_load", "torch.load", ".read_pickle")):
                found.append(text)
            found += [
                f"{keyword.arg}={ast.unparse(keyword.value)}"
                for keyword in node.keywords
                if keyword.arg in KEYWORDS
                and not (isinstance(keyword.value, ast.Constant) and keyword.value.value is KEYWORDS[keyword.arg])
            ]
    return found


def test_package_never_executes_data():
    found = {str(path.relative_to(PACKAGE.parent)): unsafe_calls(path.read_text(encoding="utf-8")) for path in FILES}
    assert len(found) > 50
    assert {path: calls for path, calls in found.items() if calls} == {}


@pytest.mark.parametrize(
    "source, expected",
    [
        ("import pickle", "pickle"),
        ("from yaml import load", "yaml"),
        ("eval(text)", "eval"),
        ("np.load(path, allow_pickle=True)", "allow_pickle=True"),
        ("np.load(path, allow_pickle=flag)", "allow_pickle=flag"),
        ("AutoModel.from_pretrained(path, trust_remote_code=True)", "trust_remote_code=True"),
        ("subprocess.run(text, shell=True)", "shell=True"),
        ("os.system(text)", "os.system"),
        ("pandas.read_pickle(path)", "pandas.read_pickle"),
    ],
)
def test_unsafe_calls_are_found(source, expected):
    assert unsafe_calls(source) == [expected]


@pytest.mark.parametrize(
    "attack",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
        "{{ messages.append({'role': 'user'}) }}",
        "{{ raise_exception.__globals__.os }}",
    ],
)
def test_untrusted_chat_templates_run_in_a_sandbox(attack):
    fast = tokenizer.build_character_tokenizer().fast
    fast.chat_template = attack + "{{ messages[0].content }}"
    with pytest.raises(ValueError, match="refuses a chat of user"):
        chat_template.prompt_text(fast, [{"role": "user", "content": "7"}])
