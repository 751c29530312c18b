"""Every problem carries the code of its rule, so that nothing hangs on the wording of messages."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from byg_train.data import rule_codes

DATA = Path(rule_codes.__file__).parent
FILES = sorted(DATA.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(DATA)))
def test_problems_have_codes(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Problem":
            starred = any(isinstance(arg, ast.Starred) for arg in node.args)
            assert starred or len(node.args) == 4, f"{path.name}:{node.lineno} has no rule's code"


def test_codes_are_unlike() -> None:
    codes = [value for name, value in vars(rule_codes).items() if name.isupper()]
    assert len(set(codes)) == len(codes) > 20
