"""Chat templates in the shapes of published models, written for these tests: twenty-six ways to write a prompt.

Each has what is special about the model's own: where the system message goes, what is written without one, dates,
thinking, what is stripped, escaped or deleted.
"""

# ruff: noqa: E501  # a template is easier to read in one line

from typing import NamedTuple


class Shape(NamedTuple):
    """A chat template.

    template: in Jinja.
    place: where the instructions of the format `mig` end up: "system", "user", or "refused".
    opened: what the template writes of a response.
    args: arguments for it.
    """

    template: str
    place: str = "system"
    opened: str = ""
    args: str = ""


def turns(user: str, assistant: str, system: str = "", *, first: str = "", ask: str = "") -> str:
    """Return a template of one piece for each role; `{}` in it is the trimmed content."""
    pieces = {"system": system, "user": user, "assistant": assistant}
    cases = "".join(
        f"{{% {'if' if n == 0 else 'elif'} m['role'] == '{role}' %}}" + text.replace("{}", "{{ m['content'] | trim }}")
        for n, (role, text) in enumerate(pieces.items())
    )
    return f"{first}{{% for m in messages %}}{cases}{{% endif %}}{{% endfor %}}{{% if add_generation_prompt %}}{ask}{{% endif %}}"


CHATML = turns(
    "<|im_start|>user\n{}<|im_end|>\n", "<|im_start|>assistant\n{}<|im_end|>\n", "<|im_start|>system\n{}<|im_end|>\n",
    ask="<|im_start|>assistant\n",
)  # fmt: skip
DEFAULT_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
)
LLAMA = turns(
    "<|user_h|>\n\n{}<|eot_id|>", "<|assistant_h|>\n\n{}<|eot_id|>", "<|system_h|>\n\n{}<|eot_id|>",
    first="<|begin|>", ask="<|assistant_h|>\n\n",
)  # fmt: skip
# The date is an argument, else today's, else a fixed one.
LLAMA_DATE = (
    "{% if date_string is not defined %}{% if strftime_now is defined %}{% set date_string = strftime_now('%d %b %Y') %}"
    "{% else %}{% set date_string = '26 Jul 2024' %}{% endif %}{% endif %}"
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] | trim %}{% set messages = messages[1:] %}"
    "{% else %}{% set system = '' %}{% endif %}"
    "<|system_h|>\n\nCutting Knowledge Date: December 2023\nToday Date: {{ date_string }}\n\n{{ system }}<|eot_id|>"
    "{% for m in messages %}<|{{ m['role'] }}_h|>\n\n{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant_h|>\n\n{% endif %}"
)
# The system message begins the last user turn.
MISTRAL = (
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}{% set rest = messages[1:] %}"
    "{% else %}{% set rest = messages %}{% endif %}<s>"
    "{% for m in rest %}{% if m['role'] == 'user' %}{% if loop.last and system is defined %}"
    "[INST] {{ system + '\n\n' + m['content'] }}[/INST]{% else %}[INST] {{ m['content'] }}[/INST]{% endif %}"
    "{% else %} {{ m['content'] }}</s>{% endif %}{% endfor %}"
)
MISTRAL_SMALL = (
    "{% set today = strftime_now('%Y-%m-%d') %}{% set default = 'You are a model. The current date is ' + today + '.' %}"
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}{% set rest = messages[1:] %}"
    "{% else %}{% set system = default %}{% set rest = messages %}{% endif %}<s>[SYSTEM_PROMPT]{{ system }}[/SYSTEM_PROMPT]"
    "{% for m in rest %}{% if m['role'] == 'user' %}[INST]{{ m['content'] }}[/INST]{% else %}{{ m['content'] }}</s>"
    "{% endif %}{% endfor %}"
)
GEMMA = (
    "<bos>{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{% if m['role'] == 'assistant' %}{% set role = 'model' %}{% else %}{% set role = m['role'] %}"
    "{% endif %}<start_of_turn>{{ role }}\n{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
GEMMA_3 = (
    "<bos>{% if messages[0]['role'] == 'system' %}{% set prefix = messages[0]['content'] + '\n\n' %}"
    "{% set rest = messages[1:] %}{% else %}{% set prefix = '' %}{% set rest = messages %}{% endif %}"
    "{% for m in rest %}<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{{ prefix if loop.first else '' }}{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
R1 = (
    "{% set ns = namespace(system='') %}{% for m in messages %}{% if m['role'] == 'system' %}{% set ns.system = m['content'] %}"
    "{% endif %}{% endfor %}<begin>{{ ns.system }}{% for m in messages %}{% if m['role'] == 'user' %}<|User|>{{ m['content'] }}"
    "{% elif m['role'] == 'assistant' %}{% set content = m['content'] %}{% if '</think>' in content %}"
    "{% set content = content.split('</think>')[-1] %}{% endif %}<|Assistant|>{{ content }}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|Assistant|><think>\n{% endif %}"
)
QWEN3 = CHATML.replace(
    "{% if add_generation_prompt %}<|im_start|>assistant\n",
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}",
)
# The reasoning mode is written into the system message, from which the switches are deleted, wherever they stand.
SMOLLM3 = (
    "{% if enable_thinking is not defined %}{% set enable_thinking = true %}{% endif %}"
    "{% set mode = '/think' if enable_thinking else '/no_think' %}{% set custom = 'You are a helpful assistant.' %}"
    "{% if messages[0]['role'] == 'system' %}{% set given = messages[0]['content'] %}"
    "{% if '/no_think' in given %}{% set mode = '/no_think' %}{% elif '/think' in given %}{% set mode = '/think' %}{% endif %}"
    "{% set custom = given.replace('/no_think', '').replace('/think', '').rstrip() %}{% endif %}"
    "<|im_start|>system\n## Metadata\n\nToday Date: {{ strftime_now('%d %B %Y') }}\nReasoning Mode: {{ mode }}\n\n"
    "## Custom Instructions\n\n{{ custom }}<|im_end|>\n"
    "{% for m in messages %}{% if m['role'] == 'user' %}<|im_start|>user\n{{ m['content'] }}<|im_end|>\n"
    "{% elif m['role'] == 'assistant' %}<|im_start|>assistant\n{{ m['content'].lstrip('\n') }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% if mode == '/no_think' %}<think>\n\n</think>\n{% endif %}{% endif %}"
)
# The same deletion in every message.
NEMOTRON = (
    "{% for m in messages %}<SPECIAL_11>{{ m['role'] }}\n"
    "{{ m['content'].replace('/no_think', '').replace('/think', '') | trim }}\n{% endfor %}"
    "{% if add_generation_prompt %}<SPECIAL_11>assistant\n<think>\n{% endif %}"
)
GRANITE = (
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}{% set rest = messages[1:] %}{% else %}"
    "{% set system = \"Today's Date: \" + strftime_now('%B %d, %Y') + '.' %}{% set rest = messages %}{% endif %}"
    "{% if thinking %}{% set system = system + ' Write your thoughts first.' %}{% endif %}"
    "<|start|>system<|end_role|>{{ system }}<|end_of_text|>\n{% for m in rest %}<|start|>{{ m['role'] }}<|end_role|>"
    "{{ m['content'] }}<|end_of_text|>\n{% endfor %}{% if add_generation_prompt %}<|start|>assistant<|end_role|>{% endif %}"
)
LLAMA_2 = (
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}{% set rest = messages[1:] %}"
    "{% else %}{% set system = false %}{% set rest = messages %}{% endif %}{% for m in rest %}"
    "{% if loop.index0 == 0 and system != false %}{% set content = '<<SYS>>\n' + system + '\n<</SYS>>\n\n' + m['content'] %}"
    "{% else %}{% set content = m['content'] %}{% endif %}"
    "{% if m['role'] == 'user' %}<s>[INST] {{ content | trim }} [/INST]{% else %} {{ content | trim }} </s>{% endif %}{% endfor %}"
)
HARMONY = (
    "{% if reasoning_effort is not defined %}{% set reasoning_effort = 'medium' %}{% endif %}"
    "<|start|>system<|message|>Current date: {{ strftime_now('%Y-%m-%d') }}\n\nReasoning: {{ reasoning_effort }}<|end|>"
    "{% for m in messages %}{% if m['role'] == 'system' %}<|start|>developer<|message|># Instructions\n\n{{ m['content'] }}"
    "<|end|>{% elif m['role'] == 'user' %}<|start|>user<|message|>{{ m['content'] }}<|end|>{% else %}"
    "<|start|>assistant<|channel|>final<|message|>{{ m['content'] }}<|return|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)
ALTERNATING = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/…') }}{% endif %}"
    "{{ '[INST] ' + m['content'] + ' [/INST]' if m['role'] == 'user' else m['content'] + '</s>' }}{% endfor %}"
)
# Content is a string, or a list of texts and images; images may be numbered.
QWEN3_VL = (
    "{% macro text(content) %}{% if content is string %}{{ content }}{% else %}{% for part in content %}{{ part.text }}{% endfor %}"
    "{% endif %}{% endmacro %}{% set count = namespace(value=0) %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'user' and m.content is not string %}"
    "{% for part in m.content %}{% if part.type == 'image' or 'image' in part %}{% set count.value = count.value + 1 %}"
    "{% if add_vision_id %}Picture {{ count.value }}: {% endif %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part.type == 'video' %}<|vision_start|><|video_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}{% endfor %}"
    "{% else %}{{ text(m.content) }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

SHAPES = {
    "chatml": Shape(CHATML),
    "qwen2.5": Shape(DEFAULT_SYSTEM + CHATML),
    "qwen3": Shape(QWEN3),
    "qwen3 without thinking": Shape(QWEN3, opened="<think>\n\n</think>\n\n", args="enable_thinking=False"),
    "qwen3 thinking 2507": Shape(CHATML.replace("%}<|im_start|>assistant\n{% endif", "%}<|im_start|>assistant\n<think>\n{% endif"), opened="<think>\n"),
    "qwen3 vl": Shape(QWEN3_VL),
    "qwen3 vl thinking": Shape(QWEN3_VL.replace("assistant\n{% endif", "assistant\n<think>\n{% endif"), opened="<think>\n"),
    "llama 3": Shape(LLAMA),
    "llama 3.2": Shape(LLAMA_DATE),
    "llama 3.2 with a date": Shape(LLAMA_DATE, args="date_string=1 Jan 2026"),
    "mistral 0.3": Shape(MISTRAL),
    "mistral small": Shape(MISTRAL_SMALL),
    "mistral 0.1": Shape(ALTERNATING, "user"),
    "gemma 2": Shape(GEMMA, "user"),
    "gemma 3": Shape(GEMMA_3),
    "phi 3": Shape(turns("<|user|>\n{}<|end|>\n", "<|assistant|>\n{}<|end|>\n", "<|system|>\n{}<|end|>\n", ask="<|assistant|>\n")),
    "phi 3 small": Shape(turns("<|user|>\n{}<|end|>\n", "<|assistant|>\n{}<|end|>\n", ask="<|assistant|>\n"), "user"),
    "phi 4": Shape(CHATML.replace("\n{{", "<|im_sep|>{{")),
    "r1 distill": Shape(R1, opened="<think>\n"),
    "smollm2": Shape(DEFAULT_SYSTEM.replace("You are", "You are SmolLM,") + CHATML),
    "smollm3": Shape(SMOLLM3, "user"),
    "smollm3 without thinking": Shape(SMOLLM3, "user", opened="<think>\n\n</think>\n", args="enable_thinking=False"),
    "nemotron": Shape(NEMOTRON, "refused"),
    "granite": Shape(GRANITE),
    "granite with thinking": Shape(GRANITE, args="thinking=True"),
    "tulu": Shape(turns("<|user|>\n{}\n", "<|assistant|>\n{}<eos>\n", "<|system|>\n{}\n", ask="<|assistant|>\n")),
    "vicuna": Shape(turns("USER: {} ", "ASSISTANT: {}</s>", "{} ", ask="ASSISTANT:")),
    "llama 2": Shape(LLAMA_2),
    "glm 4.5": Shape(turns("<|user|>\n{}", "<|assistant|>\n{}", "<|system|>\n{}", first="[gMASK]<sop>", ask="<|assistant|>{{ '\n<think></think>' if (enable_thinking is defined and not enable_thinking) else '' }}"), opened="<think></think>", args="enable_thinking=false"),
    "command r": Shape(turns("<|TURN|><|USER|>{}<|END|>", "<|TURN|><|BOT|>{}<|END|>", "<|TURN|><|SYSTEM|>{}<|END|>", first="<BOS>", ask="<|TURN|><|BOT|>")),
    "gpt-oss": Shape(HARMONY, args="reasoning_effort=low"),
    "html": Shape("{% for m in messages %}<{{ m['role'] }}>{{ m['content'] | e }}</{{ m['role'] }}>{% endfor %}", "refused"),
}  # fmt: skip
