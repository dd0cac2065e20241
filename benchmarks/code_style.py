"""How the code reads, in figures: the table that issue and style guide compare with other
codebases.

    pip install radon && python benchmarks/code_style.py [FOLDER ...]

Folders default to mtl_keras and zoo of this checkout. Tokens per line count those lines that hold
code. A function is typed where all its parameters but `self` and `cls`, and its return, are
annotated. A module is mirrored where tests/ has a file of its name.
"""

from __future__ import annotations

import argparse
import ast
import io
import statistics
import tokenize
from collections import Counter
from pathlib import Path

from radon.complexity import cc_visit
from radon.raw import analyze
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parent.parent
LAYOUT = {tokenize.NEWLINE, tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
FILLERS = {"found", "made", "given", "told", "there", "kept", "place", "own"}


def tokens_per_line(source: str) -> list[int]:
    counts: Counter[int] = Counter()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in LAYOUT | {tokenize.COMMENT}:
            counts[token.start[0]] += 1
    return list(counts.values())


def functions_of(tree: ast.AST) -> list[ast.FunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def is_typed(function: ast.FunctionDef) -> bool:
    arguments = function.args
    parameters = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    parameters += [a for a in (arguments.vararg, arguments.kwarg) if a]
    named = [a for a in parameters if a.arg not in ("self", "cls")]
    return function.returns is not None and all(a.annotation for a in named)


def filler_names(tree: ast.AST) -> int:
    """Names that say that there is a result, not which."""
    stores = (node for node in ast.walk(tree) if isinstance(node, ast.Name))
    return sum(node.id in FILLERS and isinstance(node.ctx, ast.Store) for node in stores)


def measure(folders: list[Path], tests: Path) -> dict[str, str]:
    paths = sorted(path for folder in folders for path in folder.rglob("*.py"))
    sources = {path: path.read_text(encoding="utf-8") for path in paths}
    trees = {path: ast.parse(source) for path, source in sources.items()}
    tokens = [count for source in sources.values() for count in tokens_per_line(source)]
    raw = [analyze(source) for source in sources.values()]
    blocks = [block for source in sources.values() for block in cc_visit(source)]
    complexity = [block.complexity for block in blocks if type(block).__name__ == "Function"]
    functions = [function for tree in trees.values() for function in functions_of(tree)]
    test_names = {path.stem for path in tests.rglob("test_*.py")}
    modules = [path for path in paths if path.stem != "__init__"]
    mirrored = sum(f"test_{path.stem.lstrip('_')}" in test_names for path in modules)
    lines = [len(source.splitlines()) for source in sources.values()]
    return {
        "modules": str(len(modules)),
        "lines": f"{sum(lines):,}",
        "longest module": str(max(lines)),
        "modules above 400 lines": str(sum(count > 400 for count in lines)),
        "tokens per line, 90th percentile": f"{statistics.quantiles(tokens, n=10)[-1]:.0f}",
        "longest line": str(max(len(x) for s in sources.values() for x in s.splitlines())),
        "comment lines": f"{sum(r.comments for r in raw) / sum(r.loc for r in raw):.1%}",
        "functions": str(len(complexity)),
        "complexity above 10": str(sum(value > 10 for value in complexity)),
        "complexity above 20": str(sum(value > 20 for value in complexity)),
        "highest complexity": str(max(complexity)),
        "typed functions": f"{sum(map(is_typed, functions)) / len(functions):.0%}",
        "modules with a test file of their name": f"{mirrored / len(modules):.0%}",
        "filler names bound": str(sum(map(filler_names, trees.values()))),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path, default=[ROOT / "mtl_keras", ROOT / "zoo"])
    parser.add_argument("--tests", type=Path, default=ROOT / "tests")
    arguments = parser.parse_args()
    table = Table("figure", "value")
    for name, value in measure(arguments.folders, arguments.tests).items():
        table.add_row(name, value)
    Console().print(table)


if __name__ == "__main__":
    main()
