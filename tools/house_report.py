"""Measurements of a checkout's structure and prose, printed as a markdown table.

    python tools/house_report.py [CHECKOUT] [--since REV]

A room is the first path component under `mig_jax`; a flat file is a room of its own. The prose is every comment and
docstring of the Python files and every line of the markdown files that git tracks. Pyright and ruff are optional.
"""

import argparse
import ast
import io
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import tokenize
from pathlib import Path

PACKAGE = "mig_jax"
Function = ast.FunctionDef | ast.AsyncFunctionDef
Documented = Function | ast.ClassDef | ast.Module
VERBS = set(
    """add allow answer append apply ask assert assign attach attend blend broadcast build cache call cast check choose
    clean close collect combine compare compile complete compute concatenate connect constrain continue convert copy
    count create cut decode delete derive describe detect distribute divide do download draw drop encode end estimate
    evaluate extract fail fetch fill filter find finish flatten fold format freeze gather generate get give grade group
    guess import infer initialize insert interpolate iterate join keep kill leave let limit list load locate log look
    make map mark mask match measure merge mix move name normalize note open order overwrite pack pad parse partition
    pass permute place plot predict prefill prepare prevent print process profile provide put quote raise read rebuild
    record reduce refuse reject remove rename render repeat replace replicate report reproduce require rescale reset
    reshape resolve restart restore resume return reuse rewrite rotate round run sample save scale scan scatter score
    search see select send serialize serve set shard share show sign silence simulate skip slice solve sort spell split
    stack start stop store strip sum summarize suppress switch sync take terminate tokenize track train trim truncate
    try turn unpack update upload use validate verify wait warn watch wrap write yield""".split()
)
NOT_NOUNS = set("are can do does how if is it that this was we what when where whether which who why".split())


def git(root: Path, *args: str) -> list[str]:
    return subprocess.run(["git", "-C", root, *args], capture_output=True, text=True, check=True).stdout.splitlines()


def opens_plainly(node: Documented) -> bool:
    """Return whether the docstring opens as the style guide asks.

    Function: the first word is one of `VERBS`, and no "of" follows it ("Sum of …" is a noun). Class, module or
    property: a noun phrase, that is, the first sentence is no question and its first word is not in `NOT_NOUNS`
    (a verb is accepted as well). The rule looks at single words only. It cannot tell whether a docstring is good.
    """
    first, second, *_ = [*(docstring := ast.get_docstring(node) or "").lower().split(), "", ""]
    is_property = any("property" in ast.unparse(decorator) for decorator in getattr(node, "decorator_list", []))
    if isinstance(node, Function) and not is_property:
        return first.rstrip(".,:;") in VERBS and second != "of"
    return first not in NOT_NOUNS and not re.split(r"(?<=[.?!:])\s", docstring.strip())[0].endswith("?")


def prose_of(source: str) -> str:
    """Return the comments and docstrings of a Python file."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = [token.string for token in tokens if token.type == tokenize.COMMENT]
    docstrings = [ast.get_docstring(n) or "" for n in ast.walk(ast.parse(source)) if isinstance(n, Documented)]
    return "\n".join(comments + docstrings)


def import_arrows(trees: dict[Path, ast.Module]) -> tuple[set[str], set[tuple[str, str]]]:
    """Return the rooms, and the pairs (importing room, imported room); `trees` has paths relative to the package."""
    rooms = {path.with_suffix("").parts[0] for path in trees} - {"__init__"}
    arrows = set()
    for path, tree in trees.items():
        names = [f"{n.module}.{a.name}" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for a in n.names]
        names += [a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names]
        targets = {name.split(".")[1] for name in names if name.startswith(f"{PACKAGE}.")} & rooms
        arrows |= {(room, target) for target in targets if (room := path.with_suffix("").parts[0]) in rooms - {target}}
    return rooms, arrows


def cyclic_arrows(arrows: set[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the arrows on a cycle. Where there is none, the rooms have an order in which every import goes down."""
    reach = {room: {target for source, target in arrows if source == room} for arrow in arrows for room in arrow}
    for via in reach:
        for room in reach:
            reach[room] |= reach[via] if via in reach[room] else set()
    return sorted((room, target) for room, target in arrows if room in reach[target])


def count_errors(tool: str, *args: str, cwd: Path) -> str:
    """Return how many errors a checker counts in its JSON output, or why there is no count."""
    beside = Path(sys.executable).parent / tool
    if not (program := str(beside) if beside.exists() else shutil.which(tool)):
        return "not installed"
    counted = json.loads(subprocess.run([program, *args], cwd=cwd, capture_output=True, text=True).stdout)
    return str(len(counted) if isinstance(counted, list) else counted["summary"]["errorCount"])


def measure_package(files: dict[Path, ast.Module]) -> dict[str, object]:
    """Return the measures of the package's code; the paths are relative to it."""
    rooms, arrows = import_arrows(files)
    cyclic = [f"{room} → {target}" for room, target in cyclic_arrows(arrows)]
    nodes = [(path, node) for path, tree in files.items() for node in ast.walk(tree) if isinstance(node, Documented)]
    functions = [(path, node) for path, node in nodes if isinstance(node, Function)]
    lengths = sorted(((node.end_lineno or 0) - node.lineno + 1, f"{path}:{node.name}") for path, node in functions)
    verbs = [opens_plainly(node) for _, node in functions if ast.get_docstring(node)]
    nouns = [opens_plainly(n) for _, n in nodes if not isinstance(n, Function) and ast.get_docstring(n)]
    return {
        "rooms": len(rooms),
        "import arrows between rooms": len(arrows),
        "arrows on a cycle": ", ".join(cyclic) or 0,
        "longest function, lines": "{} ({})".format(*lengths[-1]),
        "functions over 60 lines": sum(length > 60 for length, _ in lengths),
        "function length, median": f"{statistics.median(length for length, _ in lengths):g}",
        "function length, 95th percentile": lengths[int(0.95 * (len(lengths) - 1))][0],
        "function docstrings that open with a verb": f"{sum(verbs)} of {len(verbs)}",
        "class and module docstrings that open with a noun phrase": f"{sum(nouns)} of {len(nouns)}",
    }


def measure(root: Path, since: str | None = None) -> dict[str, object]:
    """Return the table: measure → value. `since` limits the commit titles to those after this revision."""
    tracked = [Path(name) for name in git(root, "ls-files", "*.py", "*.md") if (root / name).exists()]
    texts = {path: (root / path).read_text(encoding="utf-8") for path in tracked}
    package = {p.relative_to(PACKAGE): text for p, text in texts.items() if p.parts[0] == PACKAGE and p.suffix == ".py"}
    prose = "\n".join(prose_of(text) if path.suffix == ".py" else text for path, text in texts.items())
    titles = git(root, "log", "--format=%s", f"{since}..HEAD" if since else "HEAD")
    with tempfile.TemporaryDirectory() as empty:
        (Path(empty) / "pyrightconfig.json").write_text(json.dumps({"extraPaths": [str(root)]}))
        pyright = ("pyright", PACKAGE, "--outputjson", "--pythonpath", sys.executable, "--project")
        own, default = (count_errors(*pyright, project, cwd=root) for project in (str(root), empty))
    return {
        "source lines of the package": sum(text.count("\n") for text in package.values()),
        **measure_package({path: ast.parse(text) for path, text in package.items()}),
        '"behind" in the prose': len(re.findall(r"\bbehind\b", prose, re.IGNORECASE)),
        "words of the README": len(texts.get(Path("README.md"), "").split()),
        "pyright errors, project's config": own,
        "pyright errors, pyright's defaults": default,
        "ruff findings": count_errors("ruff", "check", "--output-format", "json", ".", cwd=root),
        "commit titles over 72 characters": f"{sum(len(title) > 72 for title in titles)} of {len(titles)}",
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", nargs="?", type=Path, default=Path(__file__).resolve().parent.parent)
    parser.add_argument("--since", metavar="REV", help="count the titles of the commits after this revision only")
    arguments = parser.parse_args()
    print("| measure | value |\n|---|---:|")
    for name, value in measure(arguments.checkout.resolve(), arguments.since).items():
        print(f"| {name} | {value} |")
