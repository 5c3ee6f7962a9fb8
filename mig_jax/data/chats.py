"""Chat messages in a column of rows: the question is the last user message, what comes before it is its history.

    [{"role": "system", "content": …}, {"role": "user", "content": …}, {"role": "assistant", "content": …}]

Also read: {"from": "human", "value": …}, an object with such a list under "messages", and a text that holds either as
JSON. The content of a message is a text, or a list of parts of text and images.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mig_jax.data.rows import Row, json_type

# What stands in a text for an image.
IMAGE_MARK = "<image>"
# Names of roles in other formats.
_ROLES = {"human": "user", "gpt": "assistant", "model": "assistant", "bot": "assistant", "developer": "system"}
_LIST_NAMES = ("messages", "conversations")


class Chat(NamedTuple):
    """The messages of a chat up to its last question, and the response to that.

    question: text of the last user message; images are `IMAGE_MARK` in it.
    history: the messages before it, as (role, text).
    response: text of the assistant message after the question; None if there is none.
    images: references of the images that are given in messages, in order; see `image_files.read_images`.
    has_images: a message has parts that are images, given there or elsewhere.
    """

    question: str
    history: tuple[tuple[str, str], ...] = ()
    response: str | None = None
    images: tuple[Any, ...] = ()
    has_images: bool = False


def find_messages(value: Any) -> Sequence[Mapping[str, Any]] | None:
    """Return the messages that a value holds, None if it is no chat."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{") and ('"role"' in value or '"from"' in value):
        try:
            value = json.loads(value)
        except ValueError:
            return None
    if isinstance(value, Mapping):
        value = next((value[name] for name in _LIST_NAMES if name in value), None)
    if not isinstance(value, Sequence) or isinstance(value, str | bytes) or not value:
        return None
    return value if all(map(_is_message, value)) else None


def read_chat(row: Row, column: str, messages: Sequence[Mapping[str, Any]]) -> Chat:
    """Return the question of a chat, with what comes before and after it.

    Args:
      row, column: for error messages.
      messages: see `find_messages`.

    Raises:
      RowError: there is no user message, more than one message after the question, or a message that is not text.
    """
    turns, images, has_images = [], [], False
    for message in messages:
        role, content = str(message.get("role", message.get("from"))), message.get("content", message.get("value"))
        text, found = _content(row, column, content)
        turns.append((_ROLES.get(role, role), text))
        images += found
        has_images |= not isinstance(content, str) and IMAGE_MARK in text
    asked = [n for n, (role, _) in enumerate(turns) if role == "user"]
    if not asked:
        raise row.error(f"{column} has no user message")
    last, after = asked[-1], turns[asked[-1] + 1 :]
    if [role for role, _ in after] not in ([], ["assistant"]):
        raise row.error(f"{column} has {', '.join(role for role, _ in after)} after the last user message")
    if not turns[last][1].strip():
        raise row.error(f"{column} has an empty user message")
    return Chat(turns[last][1].strip(), tuple(turns[:last]), after[0][1] if after else None, tuple(images), has_images)


def image_error(chat: Chat, n_images: int) -> str | None:
    """Return an error unless each image of a chat is marked once in its text, or none is; None if all is well.

    Args:
      chat: a question, with what comes before it.
      n_images: number of its images.
    """
    marks = chat.question.count(IMAGE_MARK) + sum(text.count(IMAGE_MARK) for _, text in chat.history)
    if not n_images and chat.has_images:
        return "a message has an image, but none is given; name their column in data.columns.images"
    if not n_images or marks in (0, n_images):
        return None
    return f"the question has {IMAGE_MARK} {marks} times, but {n_images} image{'s' if n_images > 1 else ''}"


def response_text(row: Row, column: str, value: Any) -> str | None:
    """Return the response in a value: a text, or chat messages, whose last one it is; None if there is none.

    Args:
      row, column: for error messages.
      value: of the column.

    Raises:
      RowError: it is neither.
    """
    messages = find_messages(value)
    if messages is None:
        if value is None or isinstance(value, str):
            return value
        raise row.error(f"{column} is {json_type(value)}, not a string or a number")
    if any(message.get("role", message.get("from")) in ("user", "human") for message in messages):
        return read_chat(row, column, messages).response
    return _content(row, column, messages[-1].get("content", messages[-1].get("value")))[0]


def _is_message(value: Any) -> bool:
    return isinstance(value, Mapping) and ({"role", "content"} <= value.keys() or {"from", "value"} <= value.keys())


def _content(row: Row, column: str, content: Any) -> tuple[str, list[Any]]:
    """Return the text of a message and the references of its images."""
    if isinstance(content, str):
        return content, []
    if not isinstance(content, Sequence) or isinstance(content, bytes):
        raise row.error(f"{column} has a message whose content is {json_type(content)}, not text")
    texts, images = [], []
    for part in content:
        # Tables give each part all keys, with null for those that it lacks.
        given = {key: value for key, value in part.items() if value is not None} if isinstance(part, Mapping) else {}
        if "text" in given:
            texts.append(str(given["text"]))
        elif given.get("type") in ("image", "image_url") or "image" in given:
            image = given.get("image", given.get("image_url"))
            image = image.get("url") if isinstance(image, Mapping) and "url" in image else image
            texts.append(IMAGE_MARK)
            images += [] if image is None else [image]
        else:
            raise row.error(f"{column} has a message with a part that is neither text nor an image")
    return "".join(texts), images
