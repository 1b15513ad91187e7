"""No module of the tool changes a value of a module: state belongs to an object that its owner constructs."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCES = Path(__file__).resolve().parents[2] / "src"

MUTATORS = frozenset({
    "add", "append", "appendleft", "clear", "difference_update", "discard", "extend", "extendleft", "insert",
    "intersection_update", "move_to_end", "pop", "pop_scoped", "popitem", "popleft", "put", "put_nowait", "remove",
    "reverse", "rotate", "set_scoped", "setdefault", "sort", "subtract", "symmetric_difference_update", "update",
    "write",
})  # fmt: skip
"""The methods of containers, queues and MiniStack's scoped dictionaries that change them."""
CONTAINERS = frozenset({
    "AccountRegionScopedDict", "AccountScopedDict", "ChainMap", "Counter", "OrderedDict", "Queue", "WeakKeyDictionary",
    "WeakSet", "WeakValueDictionary", "bytearray", "defaultdict", "deque", "dict", "list", "set",
})  # fmt: skip
Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


def name_of(file: Path, folder: Path) -> str:
    return ".".join(file.relative_to(folder).with_suffix("").parts).removesuffix(".__init__")


def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run when a module is imported, without those of classes."""
    for statement in body:
        yield statement
        for field in ("body", "orelse", "finalbody"):
            if not isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield from statements(getattr(statement, field, []))


def values_of(tree: ast.Module) -> Iterator[tuple[str, ast.expr | None]]:
    """The names that a module binds to values, with the values."""
    for statement in statements(tree.body):
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        for target in targets:
            for node in ast.walk(target) if target is not None else ():
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    yield node.id, getattr(statement, "value", None)


def is_empty_container(value: ast.expr | None) -> bool:
    """Whether a value is a container without content, which serves no purpose unless something is added to it."""
    if isinstance(value, ast.Call):
        function = value.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        # The argument of a defaultdict is no content.
        return name in CONTAINERS and (name == "defaultdict" or not (value.args or value.keywords))
    return isinstance(value, ast.Dict | ast.List) and not (value.keys if isinstance(value, ast.Dict) else value.elts)


def imported_names(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """The local names of imports, with what they stand for."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                if isinstance(node, ast.ImportFrom):
                    yield alias.asname or alias.name, f"{node.module}.{alias.name}"
                elif alias.asname:
                    yield alias.asname, alias.name
                else:  # `import a.b` binds `a`.
                    yield alias.name.partition(".")[0], alias.name.partition(".")[0]


def own_nodes(function: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a function without those of the functions and classes inside it."""
    for node in ast.iter_child_nodes(function):
        yield node
        if not isinstance(node, Function | ast.ClassDef):
            yield from own_nodes(node)


def local_names(function: Function) -> set[str]:
    """The names that are variables of a function."""
    arguments = function.args
    every = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg)
    names, shared = {each.arg for each in every if each is not None}, set[str]()
    for node in own_nodes(function):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.ExceptHandler):
            names.add(node.name or "")
        elif isinstance(node, ast.Global | ast.Nonlocal):
            shared.update(node.names)
    return names - shared


def changed_by(node: ast.AST) -> Iterator[ast.expr]:
    """The expressions whose value a node changes; for an assigned attribute, the attribute itself too."""
    if isinstance(node, ast.Subscript | ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del):
        yield node.value
        if isinstance(node, ast.Attribute):
            yield node
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MUTATORS:
        yield node.func.value
    elif isinstance(node, ast.AugAssign):
        yield node.target


def dotted(expression: ast.expr, known: dict[str, str]) -> str | None:
    """The full name of a value of a module, or of a part of it (`tables["stacks"]` is a part of `tables`)."""
    while isinstance(expression, ast.Subscript):
        expression = expression.value
    if isinstance(expression, ast.Name):
        return known.get(expression.id)
    if isinstance(expression, ast.Attribute):
        owner = dotted(expression.value, known)
        return f"{owner}.{expression.attr}" if owner else None
    return None


def module_state(folder: Path) -> list[str]:
    """The places below a folder of packages that keep or change state in a module."""
    trees = {name_of(file, folder): ast.parse(file.read_text(), str(file)) for file in sorted(folder.rglob("*.py"))}
    values = {f"{module}.{name}": value for module, tree in trees.items() for name, value in values_of(tree)}
    found = [f"{name}: an empty container" for name, value in values.items() if is_empty_container(value)]

    def search(module: str, node: ast.AST, known: dict[str, str], *, in_function: bool) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            line = f"{module}:{getattr(child, 'lineno', 0)}"
            if isinstance(child, ast.Global):
                yield f"{line}: global {', '.join(child.names)}"
            # A module may construct its own tables step by step while it is imported.
            for name in {dotted(each, known) for each in changed_by(child)} - {None}:
                if name in values and (in_function or not name.startswith(f"{module}.")):
                    yield f"{line}: changes {name}"
            if isinstance(child, Function):
                hidden = local_names(child)
                visible = {name: origin for name, origin in known.items() if name not in hidden}
                yield from search(module, child, visible, in_function=True)
            else:
                yield from search(module, child, known, in_function=in_function)

    for module, tree in trees.items():
        own = {name: f"{module}.{name}" for name, _ in values_of(tree)}
        found += search(module, tree, {**own, **dict(imported_names(tree))}, in_function=False)
    return found


def test_no_module_of_the_tool_keeps_state() -> None:
    assert module_state(SOURCES) == []


@pytest.mark.parametrize(
    "source",
    [
        "table = {}",
        "from collections import defaultdict\ntable = defaultdict(list)",
        "table = dict(a=1)\ndef f(x): table[x] = 1",
        "table = {'a': {}}\ndef f(x): table['a'][x] = 1",
        "table = {'a': 1}\ndef f(x): del table[x]",
        "names = ['a']\nclass C:\n    def f(self): names.append('b')",
        "names = {'a'}\nf = lambda: names.add('b')",
        "count = 0\ndef f():\n    global count\n    count += 1",
        "class C: ...\nshared = C()\ndef f(): shared.state = 1",
        "import alva.other\ndef f(): alva.other.NAMES.append(1)",
        "from alva import other\ndef f(): other.NAMES[0] = 1",
        "from alva import other\nother.NAMES = []",
        "from alva.other import NAMES as names\nnames.append(1)",
    ],
)
def test_state_of_a_module_is_found(source: str, tmp_path: Path) -> None:
    (tmp_path / "alva").mkdir()
    (tmp_path / "alva" / "other.py").write_text("NAMES = ['a']\n")
    (tmp_path / "alva" / "one.py").write_text(source)
    assert module_state(tmp_path)


@pytest.mark.parametrize(
    "source",
    [
        "NAMES = ['a']\nNAMES.append('b')",
        "table = {'a': 1}\ndef f(table): table['a'] = 2",
        "table = {'a': 1}\ndef f():\n    table = {}\n    table['a'] = 2\n    def g(): table['b'] = 3",
        "class C:\n    def __init__(self): self.table = {}\n    def f(self): self.table['a'] = 1",
        "from contextvars import ContextVar\ncurrent = ContextVar('current')\ndef f(): current.set(1)",
        "def f():\n    from alva import other\n    return other.NAMES",
    ],
)
def test_other_values_are_no_state_of_a_module(source: str, tmp_path: Path) -> None:
    (tmp_path / "alva").mkdir()
    (tmp_path / "alva" / "other.py").write_text("NAMES = ['a']\n")
    (tmp_path / "alva" / "one.py").write_text(source)
    assert module_state(tmp_path) == []
