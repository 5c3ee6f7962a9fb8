"""What a config says about prompts: instructions, templates of the user turn, arguments of the chat template."""

import ast
import datetime
import os
import re
from collections.abc import Mapping
from typing import Any

from mig_jax.errors import UserError
from mig_jax.text.prompts import USER_FIELDS, named_fields

# `data.system_prompt` besides a text of one's own: the instructions of the response format, or none.
FORMAT_PROMPT = "format"
# A system prompt with one of these endings is the name of a file.
FILE_ENDINGS = (".txt", ".md")
# Arguments of a chat template that the prompt itself sets.
RESERVED_ARGS = ("messages", "tools", "documents", "add_generation_prompt", "continue_final_message", "tokenize")

_ARG_START = re.compile(r"(?:^|,)\s*([A-Za-z_]\w*)\s*=")


def option_errors(
    *, system_prompt: str, user_templates: Mapping[str, Any], template_args: str, template_date: str
) -> list[str]:
    """Return what is wrong with the options of a config, each by its key.

    Args:
      system_prompt, template_args, template_date: those of `data`.
      user_templates: by their keys in the config.
    """
    errors = []
    # True and False were values of earlier versions.
    if system_prompt.lower() in ("true", "false"):
        errors.append(
            f"data.system_prompt={system_prompt}: give 'format' (the instructions of the response format), '' (none), "
            "a text of your own, or a .txt or .md file"
        )
    for key, template in user_templates.items():
        reason = user_template_error(template) if isinstance(template, str) else "must be a text"
        errors += [f"{key}={template!r}: {reason}"] if reason else []
    try:
        parse_template_args(template_args)
    except UserError as error:
        errors.append(f"data.template_args: {error}")
    try:
        datetime.date.fromisoformat(template_date)
    except ValueError:
        errors.append(f"data.template_date={template_date!r}: must be a date such as 2025-01-31")
    return errors


def read_system_prompt(text: str) -> str:
    """Return the content of the file if a system prompt is the name of one, else the text itself.

    Raises:
      UserError: there is no such file, or it is empty or not UTF-8.
    """
    if not text.endswith(FILE_ENDINGS) or "\n" in text or " " in text.strip():
        return text
    path = os.path.expanduser(text)
    try:
        with open(path, encoding="utf-8-sig") as file:
            content = file.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror or error) if isinstance(error, OSError) else "not in UTF-8"
        raise UserError(f"data.system_prompt={text}: cannot be read as a file ({reason})") from error
    if not content:
        raise UserError(f"data.system_prompt={text}: the file is empty; for no system prompt give ''")
    return content


def user_template_error(template: str) -> str | None:
    """Return what is wrong with a template of the user turn, or None."""
    names = named_fields(template)
    if unknown := [name for name in names if name not in USER_FIELDS]:
        known = ", ".join(f"{{{name}}}" for name in USER_FIELDS)
        return f"{{{unknown[0]}}} is none of {known}; for the text {{{unknown[0]}}} write {{{{{unknown[0]}}}}}"
    return None if "question" in names else "must have {question}"


def parse_template_args(text: str) -> dict[str, Any]:
    """Return the arguments of a chat template, such as "enable_thinking=False,date_string=26 Jul 2024".

    A value is a Python literal, true, false, or else a text.

    Raises:
      UserError: the text has another form, or sets what the prompt itself sets.
    """
    starts = list(_ARG_START.finditer(text))
    if text.strip() and (not starts or text[: starts[0].start()].strip()):
        raise UserError(f"{text!r} is not of the form NAME=VALUE,NAME=VALUE")
    ends = [start.start() for start in starts[1:]] + [len(text)]
    args = {start[1]: _parse_value(text[start.end() : end].strip()) for start, end in zip(starts, ends, strict=False)}
    if reserved := [name for name in args if name in RESERVED_ARGS]:
        raise UserError(f"{reserved[0]} is set by the prompt itself")
    return args


def _parse_value(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
