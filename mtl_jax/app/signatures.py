"""A factory's arguments as options, read from its source: names, kinds, defaults, choices and help, without JAX."""

import ast
import re
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

PACKAGE = Path(__file__).parent.parent
KINDS = {"int": int, "float": float, "str": str, "bool": bool}


class Option(NamedTuple):
    """One setting that a command line, or a file of settings, can give.

    Attributes:
        name: as Python writes it.
        kind: int, float, str or bool.
        default: what stands unless it is given.
        about: one line of help, with the unit.
        choices: the words that it can be, or ().
        optional: whether None, "not set", is a value.
    """

    name: str
    kind: type
    default: Any
    about: str
    choices: tuple[str, ...] = ()
    optional: bool = False


class Factory(NamedTuple):
    """What a factory's source says.

    Attributes:
        about: its docstring's first line.
        reference: its docstring's reference, or "".
        options: its arguments that are numbers, words or switches.
        parameters: the names of all of its arguments.
    """

    about: str
    reference: str
    options: tuple[Option, ...]
    parameters: tuple[str, ...]


@cache
def read_factory(path: Path, function: str) -> Factory:
    """Read one function of a Python file.

    Args:
        path: the file.
        function: its name there.

    Returns:
        Factory.

    Raises:
        ValueError: the file is not Python or has no such function, or a default is no plain value.
    """
    try:
        body = ast.parse(path.read_text(encoding="utf-8")).body
    except SyntaxError as error:
        raise ValueError(f"{path} is not Python: {error}") from error
    functions = {node.name: node for node in body if isinstance(node, ast.FunctionDef)}
    named = _assigned(body)
    for node in body:  # a name for a type may come from another file of the package
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mtl_jax."):
            other = PACKAGE.joinpath(*str(node.module).split(".")[1:]).with_suffix(".py")
            if other.is_file():
                there = _assigned(ast.parse(other.read_text(encoding="utf-8")).body)
                named |= {name.name: there[name.name] for name in node.names if name.name in there}
    if function not in functions:
        raise ValueError(f"{path} has no function {function}: it has {', '.join(functions) or 'none'}")
    node = functions[function]
    arguments = [*node.args.args, *node.args.kwonlyargs]
    positional = [None] * (len(node.args.args) - len(node.args.defaults)) + node.args.defaults
    helps = _helps(function, functions)
    options = []
    for argument, default in zip(arguments, [*positional, *node.args.kw_defaults], strict=True):
        kind, choices, optional = _kind(argument.annotation, named)
        if argument.annotation is None and isinstance(default, ast.Constant) and type(default.value) in KINDS.values():
            kind = type(default.value)  # somebody's own function may do without annotations
        if kind is not None and default is not None:
            try:
                value = ast.literal_eval(default)
            except ValueError as error:
                raise ValueError(f"{path}: the default of {argument.arg} must be a plain value") from error
            options.append(Option(argument.arg, kind, value, helps.get(argument.arg, ""), choices, optional))
    text = ast.get_docstring(node) or ""
    found = re.search(r"^Reference: (.+?)(?:\n\n|\Z)", text, re.DOTALL | re.MULTILINE)
    reference = " ".join(found[1].split()) if found else ""
    return Factory(text.partition("\n")[0], reference, tuple(options), tuple(a.arg for a in arguments))


def _assigned(body: list[ast.stmt]) -> dict[str, ast.expr]:
    """What a file assigns to names of its own."""
    assigned = [(node.targets[0], node.value) for node in body if isinstance(node, ast.Assign)]
    return {target.id: value for target, value in assigned if isinstance(target, ast.Name)}


def _kind(annotation: ast.expr | None, named: dict[str, ast.expr]) -> tuple[type | None, tuple[str, ...], bool]:
    """(the kind that an annotation allows, its words, whether None is allowed); kind None for what is no option.

    `named` are the file's own names for types, such as Form = Literal["auto", "primal"].
    """
    parts, choices, kinds, optional = [annotation], [], [], False
    while parts:
        part = parts.pop(0)
        if isinstance(part, ast.BinOp) and isinstance(part.op, ast.BitOr):
            parts = [part.left, part.right, *parts]
        elif isinstance(part, ast.Constant) and part.value is None:
            optional = True
        elif isinstance(part, ast.Name) and part.id in KINDS:
            kinds.append(KINDS[part.id])
        elif isinstance(part, ast.Name) and part.id in named:
            parts.insert(0, named[part.id])
        elif isinstance(part, ast.Subscript) and isinstance(part.value, ast.Name) and part.value.id == "Literal":
            words = part.slice.elts if isinstance(part.slice, ast.Tuple) else [part.slice]
            choices += [ast.literal_eval(word) for word in words]
    if choices:
        return type(choices[0]), tuple(choices), optional
    return (float if float in kinds else kinds[0]) if kinds else None, (), optional


def _helps(function: str, functions: dict[str, ast.FunctionDef]) -> dict[str, str]:
    """Each argument's text in the docstring; "as in `other`" is what `other`, of the same file, says of it."""
    text = ast.get_docstring(functions[function]) or ""
    section = re.search(r"^Args:\n(.*?)(?=^\S|\Z)", text, re.DOTALL | re.MULTILINE)
    helps: dict[str, str] = {}
    for names, about in re.findall(
        r"^ {4}(\w[\w, ]*): (.+?)(?=^ {4}\w|\Z)", section[1] if section else "", re.S | re.M
    ):
        line = " ".join(about.split())
        other = re.match(r"as in `(\w+)`", line)
        for name in names.split(", "):
            known = _helps(other[1], functions) if other and other[1] in functions else {}
            helps[name] = known.get(name, line)
    return helps
