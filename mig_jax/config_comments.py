"""Read the comments of `configs/default.py`: the meaning of every config key, for the help and for docs/config.md."""

import ast
import io
import tokenize


def read_comments(source: str) -> dict[str, str]:
    """Return the comment of each key and section in the source of a `get_config`, by its dotted path.

    Args:
      source: assigns every key as `section.key = value`, where `section` is a name given to a `ConfigDict()`.
    """
    by_line = _comments_by_line(source)
    (function,) = (n for n in ast.parse(source).body if isinstance(n, ast.FunctionDef) and n.name == "get_config")
    names: dict[str, str] = {}
    comments = {}
    for statement in function.body:
        if not isinstance(statement, ast.Assign):
            continue
        paths = [path for target in statement.targets if (path := _path_of(target, names)) is not None]
        names |= {t.id: paths[0] if paths else "" for t in statement.targets if isinstance(t, ast.Name)}
        if paths:
            comments[paths[0]] = " ".join(_comments_of(statement, by_line))
    return comments


def _path_of(target: ast.expr, names: dict[str, str]) -> str | None:
    """Return the dotted path of `m.init.layers`, given that `m` is the section "model"; None for a plain name."""
    keys = []
    while isinstance(target, ast.Attribute):
        keys.append(target.attr)
        target = target.value
    if not keys or not isinstance(target, ast.Name):
        return None
    return ".".join(filter(None, [names[target.id], *reversed(keys)]))


def _comments_by_line(source: str) -> dict[int, tuple[bool, str]]:
    """Return for each line with a comment whether it holds nothing else, and the comment's text."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {
        token.start[0]: (token.line.lstrip().startswith("#"), token.string.lstrip("# ").rstrip())
        for token in tokens
        if token.type == tokenize.COMMENT
    }


def _comments_of(statement: ast.stmt, by_line: dict[int, tuple[bool, str]]) -> list[str]:
    """Return the comments right above a statement and on its lines."""
    first = statement.lineno
    while by_line.get(first - 1, (False, ""))[0]:
        first -= 1
    return [by_line[line][1] for line in range(first, (statement.end_lineno or first) + 1) if line in by_line]
