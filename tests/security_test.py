"""Data that is read is never executed."""

import ast
import json
from pathlib import Path

import pytest

from mig_jax.data.problem_files import read_problems
from mig_jax.errors import UserError
from mig_jax.records.given_transcripts import FIELDS, read_given_transcripts
from mig_jax.records.transcripts import make_transcripts, read_transcripts
from mig_jax.text import chat_template, tokenizer
from mig_jax.text.prompts import PromptStyle

PACKAGE = Path(__file__).parent.parent / "mig_jax"
FILES = [
    *PACKAGE.glob("**/*.py"),
    *(PACKAGE.parent / "configs").glob("*.py"),
    *(PACKAGE.parent / "benchmarks").glob("*.py"),
]
MODULES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "code", "codeop"}
BUILTINS = {"eval", "exec", "compile", "__import__"}
# Keyword → its only permitted value.
KEYWORDS = {"allow_pickle": False, "trust_remote_code": False, "shell": False}


def unsafe_calls(source: str) -> list[str]:
    """Return the imports, calls and arguments that execute data, or could."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in {*MODULES, "yaml"}:
            found.append(node.module)
        elif isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Name) and called.id in BUILTINS:
                found.append(called.id)
            text = ast.unparse(called)
            if text in ("os.system", "os.popen") or (text.startswith("yaml.") and text != "yaml.safe_load"):
                found.append(text)
            elif text.endswith((".unsafe_load", "torch.load", ".read_pickle")):
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
        ("yaml.load(text)", "yaml.load"),
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
        chat_template.prompt_text(fast, [{"role": "user", "content": "7"}], PromptStyle())


@pytest.mark.parametrize("name", ["{folder}/theirs.py:KIND", "theirs.code:KIND"])
def test_rows_that_name_code_are_refused(name, tmp_path):
    (tmp_path / "theirs.py").write_text("raise SystemExit('it ran')")
    kind = name.format(folder=tmp_path)
    row = {"question": "3 + 4?", "answer": "7", "response": "7", "kind": kind}
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(row) + "\n")
    columns = {field: field for field in FIELDS}
    way_out = rf"kind is '{kind}': rows cannot name code of your own; .*data.columns.kind='={kind}'"
    with pytest.raises(UserError, match=rf"rows.jsonl, row 1: {way_out}"):
        read_problems("jsonl", str(file), columns=columns)
    with pytest.raises(UserError, match=rf"rows.jsonl, row 1: {way_out}"):
        read_problems("jsonl", str(file), columns={**columns, "kind": "{kind}"})
    with pytest.raises(UserError, match=rf"rows.jsonl: .*\n  row 1: {way_out}"):
        read_given_transcripts(str(file), columns=columns)
    with pytest.raises(UserError, match=rf"line 1: {way_out}"):
        read_transcripts(str(file))
    with pytest.raises(UserError, match=rf"row 1: {way_out}"):
        make_transcripts([row])


def test_config_names_an_own_kind_for_all_rows(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"question": "3 + 4?", "answer": "7", "response": "7", "kind": "number"}) + "\n")
    columns = {field: field for field in FIELDS} | {"kind": "=mine.py:KIND"}
    assert read_problems("jsonl", str(file), columns=columns)[0].kind == "mine.py:KIND"
    assert read_given_transcripts(str(file), columns=columns)[0].kind == "mine.py:KIND"
