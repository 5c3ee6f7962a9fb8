"""Prompts say what they should: instructions and question word for word, through thirty chat templates."""

import dataclasses

import pytest

from mig_jax.errors import UserError
from mig_jax.text import chat_template, prompt_options
from mig_jax.text.prompts import PromptStyle, check_style
from mig_jax.text.response_format import MIG
from tests.text.byte_pairs import to_fast, train_core
from tests.text.template_shapes import SHAPES

QUESTION = 'If $x < 3$ & \\frac{6}{x} = "3", what is {x}?\n\nHint: it\'s > 1.'


@pytest.fixture(scope="module")
def core():
    return train_core()


def render(core, template, style, messages):
    return chat_template.prompt_text(to_fast(core, chat_template=template), messages, style)


@pytest.mark.parametrize("name", SHAPES)
def test_prompt_is_verbatim(core, name):
    template, place, opened, args = SHAPES[name]
    instructions = MIG.system_prompt()
    style = PromptStyle(instructions, template_args=prompt_options.parse_template_args(args))
    chat_template.check_args(to_fast(core, chat_template=template), style.template_args)
    if place == "refused":
        with pytest.raises(UserError, match="the chat template changes the instructions"):
            check_style(style, lambda messages: render(core, template, style, messages))
        return
    checked, notices = check_style(style, lambda messages: render(core, template, style, messages))
    assert checked.in_user_turn == (place == "user") == bool(notices)
    prompt = render(core, template, checked, checked.messages(QUESTION))
    assert instructions in prompt and QUESTION in prompt
    assert chat_template.opened_block(prompt, ("<think>", "</think>")) == opened


def test_messages():
    user = {"role": "user", "content": "1+1?"}
    assert PromptStyle().messages("1+1?") == [user]
    assert PromptStyle("Add.").messages("1+1?") == [{"role": "system", "content": "Add."}, user]
    with_images = {"role": "user", "content": [{"type": "image"}, {"type": "image"}, {"type": "text", "text": "1+1?"}]}
    assert PromptStyle().messages("1+1?", n_images=2) == [with_images]
    assert PromptStyle("Add.", in_user_turn=True).messages("1+1?")[0]["content"] == "Add.\n\n1+1?"


def test_system_messages_of_rows_are_moved_like_ours(core):
    for name, place in (("gemma 2", "user"), ("qwen3", "system"), ("html", "system")):
        template = SHAPES[name].template
        if name == "html":  # changes the question, too
            with pytest.raises(UserError, match="changes the question"):
                check_style(PromptStyle(), lambda messages, t=template: render(core, t, PromptStyle(), messages))
            continue
        style, notices = check_style(
            PromptStyle(), lambda messages, t=template: render(core, t, PromptStyle(), messages)
        )
        assert style.in_user_turn == (place == "user") and not notices


def test_instructions_reach_sources_with_templates_of_their_own(core):
    """The usual template has the instructions in the user turn, that of a source has not."""
    templates = {"": "{instructions}\n{question}", "gsm8k": "{question} Be brief."}
    style = PromptStyle("Add.", user_templates=templates)
    shape = SHAPES["gemma 2"].template
    style, _ = check_style(style, lambda messages: render(core, shape, PromptStyle(), messages))
    for source in ("gsm8k", "other"):
        assert render(core, shape, style, style.messages("1+1?", source=source)).count("Add.") == 1


def test_images_stand_where_they_are_marked():
    (message,) = PromptStyle().messages("Is <image> left of <image>?", n_images=2)
    assert [part.get("text", "IMAGE") for part in message["content"]] == ["Is ", "IMAGE", " left of ", "IMAGE", "?"]
    (message,) = PromptStyle().messages("What does <image> mean in HTML?")
    assert message["content"] == "What does <image> mean in HTML?"
    first, _, last = PromptStyle().messages(
        "And <image>?", n_images=2, history=[("user", "<image> 1"), ("assistant", "a")]
    )
    assert first["content"][0] == last["content"][1] == {"type": "image"}


def test_turns_before_the_question():
    history = [("system", "Be brief."), ("user", "1+1?"), ("assistant", "2")]
    roles = [message["role"] for message in PromptStyle().messages("2+2?", history=history)]
    assert roles == ["system", "user", "assistant", "user"]
    asking = PromptStyle("Add.").messages("2+2?", history=history)
    assert [message["content"] for message in asking] == ["Add.", "1+1?", "2", "2+2?"], "ours replaces the row's"
    own = PromptStyle(in_user_turn=True).messages("2+2?", history=history)
    assert [message["content"] for message in own] == ["Be brief.\n\n1+1?", "2", "2+2?"]
    moved = PromptStyle("Add.", in_user_turn=True).messages("2+2?", history=history)
    assert [message["content"] for message in moved] == ["Add.\n\n1+1?", "2", "2+2?"]


def test_user_templates():
    style = PromptStyle(
        "Add.", user_templates={"": "Q: {question} {{n}}", "mc": "{question}\n[{choices}]\n{instructions}"}
    )
    assert style.messages("1+1?", choices=["2", "3"])[1]["content"] == "Q: 1+1?\nA. 2\nB. 3 {n}"
    (message,) = style.messages("1+1?", choices=["2", "3"], source="mc")
    assert message["content"] == "1+1?\n[A. 2\nB. 3]\nAdd."
    assert style.messages("{question} {choices}")[1]["content"] == "Q: {question} {choices} {n}", "replaced once"


@pytest.mark.parametrize(
    "template, error",
    [
        ("{question} \\boxed{}", None),
        ("{question} \\boxed{{answer}}", None),
        ("{question} \\boxed{answer}", "{answer} is none of {question}, {choices}, {instructions}"),
        ("Solve it.", "must have {question}"),
    ],
)
def test_user_template_errors(template, error):
    found = prompt_options.user_template_error(template)
    assert found is None if error is None else found is not None and found.startswith(error)


def test_template_args():
    assert prompt_options.parse_template_args("") == {}
    parsed = prompt_options.parse_template_args("enable_thinking=False, date_string=26 Jul, 2024,n=3, mode='a,b'")
    assert parsed == {"enable_thinking": False, "date_string": "26 Jul, 2024", "n": 3, "mode": "a,b"}
    for text in ("enable_thinking", "x y=2", "messages=[]", "=3"):
        with pytest.raises(UserError):
            prompt_options.parse_template_args(text)


def test_argument_that_a_template_lacks_is_refused(core):
    fast = to_fast(core, chat_template=SHAPES["qwen3"].template)
    with pytest.raises(UserError, match="no argument 'thinking'; it has enable_thinking"):
        chat_template.check_args(fast, {"thinking": False})


@pytest.mark.parametrize(
    "name, printed",
    [
        ("llama 3.2", "Today Date: 03 Feb 2026\n"),
        ("gpt-oss", "Current date: 2026-02-03\n"),
        ("smollm3", "Today Date: 03 February 2026"),
    ],
)
def test_date_is_fixed(core, name, printed):
    template = SHAPES[name].template
    style = PromptStyle(date="2026-02-03")
    assert printed in render(core, template, style, style.messages("1+1?"))
    assert chat_template.prints_date(to_fast(core, chat_template=template))
    asking = dataclasses.replace(style, template_args={"date_string": "1 Jan 2030"})
    if name == "llama 3.2":
        assert "Today Date: 1 Jan 2030\n" in render(core, template, asking, style.messages("1+1?"))


def test_system_prompt_files(tmp_path):
    file = tmp_path / "prompt.md"
    file.write_text("Solve it.\n\nBriefly.\n")
    assert prompt_options.read_system_prompt(str(file)) == "Solve it.\n\nBriefly."
    assert prompt_options.read_system_prompt("Write answer.md") == "Write answer.md"
    with pytest.raises(UserError, match="cannot be read as a file"):
        prompt_options.read_system_prompt(str(tmp_path / "none.txt"))
    file.write_text("")
    with pytest.raises(UserError, match="is empty"):
        prompt_options.read_system_prompt(str(file))


def test_option_errors():
    errors = prompt_options.option_errors(
        system_prompt="True", user_templates={"data.user_template": "x"}, template_args="x", template_date="today"
    )
    assert [error.partition("=")[0].partition(":")[0] for error in errors] == [
        "data.system_prompt", "data.user_template", "data.template_args", "data.template_date",
    ]  # fmt: skip
