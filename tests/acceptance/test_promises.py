"""The page of promises names tests that exist."""

from __future__ import annotations

import ast
import re


def _tests(path):
    """The names of the tests that a file defines, or calls from another."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def test_every_promise_names_tests_that_exist(repository):
    text = (repository / "docs" / "promises.rst").read_text(encoding="utf-8")
    promises = re.split(r"^\d\. ", text, flags=re.MULTILINE)[1:]
    assert len(promises) == 8
    for promise in promises:
        named = re.findall(r"``(tests/[\w/]+\.py)::(test_\w+)``", promise)
        assert named and promise.count("::test_") == len(named), promise[:60]
        for file, name in named:
            assert name in _tests(repository / file), f"{file}::{name}"


def test_every_row_and_case_has_a_test(repository):
    """Rows 1-27, 29, 32-35, 37 and 38 of the failures met in practice, and the cases A1 to A25."""
    folder = repository / "tests" / "acceptance"
    names = " ".join(name for path in sorted(folder.glob("test_*.py")) for name in _tests(path))
    rows, cases = set(), set()
    for name in names.split():
        numbers = re.match(r"test_((?:rows?_|a?\d\d_)+)", name)
        if numbers:
            rows |= {int(n) for n in re.findall(r"(?<!a)\b(\d\d)\b", numbers[1].replace("_", " "))}
            cases |= {int(n) for n in re.findall(r"\ba(\d\d)\b", numbers[1].replace("_", " "))}
    assert rows == {*range(1, 28), 29, 32, 33, 34, 35, 37, 38}
    assert cases == set(range(1, 26))
