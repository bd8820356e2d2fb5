"""A pair's file as the harness sees it: read, hashed and checked without ever being executed."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from impls.errors import UsageError
from messages import marked, plural, tell

# What a pair must define -> how many arguments each takes.
FUNCTIONS: Mapping[str, int] = {
    "torch_model": 0, "jittor_model": 0, "batch": 1, "torch_loss": 2, "jittor_loss": 2}
OPTIONAL: Mapping[str, int] = {"names": 1, "outputs": 2}
SETTINGS = ("optimizer", "images")
FRAMEWORKS = ("torch", "jittor")
SKELETON = marked("python -m harness.pair init FILE writes one that runs")


@dataclass(frozen=True)
class PairFile:
    """The file of a pair, and what it imports from its own folder.

    Attributes:
        path: absolute.
        hashes: SHA-256 by path relative to the file's folder, the file itself first.
    """

    path: Path
    hashes: Mapping[str, str]

    @property
    def sha256(self) -> str:
        """Equal exactly when all of them are equal."""
        lines = "\n".join(f"{digest} {name}" for name, digest in self.hashes.items())
        return hashlib.sha256(lines.encode()).hexdigest()


def read_pair(path: Path) -> PairFile:
    """Check a pair's file and hash it with what it imports from its folder.

    Raises:
        UsageError: it cannot be read or parsed, lacks a function, or defines what no pair has; named with its line.
    """
    path = path.absolute()
    source = _source(path)
    _check(path, _tree(path, source))
    hashes: dict[str, str] = {}
    _hash(path, path.parent, hashes)
    return PairFile(path, hashes)


def _source(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(tell("--pair {path}: cannot read it: {reason}: {skeleton}", path=path,
                              reason=error.strerror or error, skeleton=tell(SKELETON))) from error


def _tree(path: Path, source: bytes) -> ast.Module:
    try:
        return ast.parse(source, str(path))
    except SyntaxError as error:
        raise UsageError(
            tell("{path}: line {line}: {fault}: mend the syntax", path=path, line=error.lineno, fault=error.msg)
            if error.lineno else
            tell("{path}: {fault}: mend the syntax", path=path, fault=error.msg)) from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise UsageError(tell("{path}: not Python: {error}", path=path, error=error)) from error


def _check(path: Path, tree: ast.Module) -> None:
    known = {**FUNCTIONS, **OPTIONAL}
    found = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    for node in tree.body:
        for name in _defined(node):
            if isinstance(node, ast.AsyncFunctionDef) and name in known:
                raise UsageError(tell("{path}: {name}() is async: define it by a plain def", path=path, name=name))
            expected = known if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else SETTINGS
            # Constants and private names are the file's own business.
            if name in expected or name.startswith("_") or name.isupper():
                continue
            if name in known:
                raise UsageError(tell("{path}: line {line}: {name} must be a function", path=path, line=node.lineno,
                                      name=name))
            if name in SETTINGS:
                raise UsageError(tell("{path}: line {line}: {name} must be a setting", path=path, line=node.lineno,
                                      name=name))
            raise UsageError(tell("{path}: line {line}: {name} is nothing that a pair has ({known}): call a helper "
                                  "_{name}, a constant {constant}", path=path, line=node.lineno, name=name,
                                  known=", ".join((*known, *SETTINGS)), constant=name.upper()))
        for name in _imported(node):
            if name in FRAMEWORKS:
                raise UsageError(tell("{path}: line {line}: imports {name} for both workers, which have one "
                                      "framework each: import it inside {name}_model and {name}_loss", path=path,
                                      line=node.lineno, name=name))
    for name, count in known.items():
        if name in found:
            _check_arguments(path, found[name], count)
        elif name in FUNCTIONS:
            raise UsageError(tell("{path}: defines no {name}({arguments}): {skeleton}", path=path, name=name,
                                  arguments=", ".join(["..."] * count), skeleton=tell(SKELETON)))


def _check_arguments(path: Path, function: ast.FunctionDef, count: int) -> None:
    given = function.args
    places = len(given.posonlyargs) + len(given.args)
    fits = places - len(given.defaults) <= count and (count <= places or given.vararg is not None)
    if not fits or any(default is None for default in given.kw_defaults):
        raise UsageError(tell("{path}: line {line}: {name}() is called with {arguments}, which it does not take",
                              path=path, line=function.lineno, name=function.name,
                              arguments=plural(count, "argument")))


def _defined(node: ast.stmt) -> Iterator[str]:
    """Names that a statement at the top of a file defines, classes aside."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        yield node.name
    for target in node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(
            node, ast.AnnAssign) else []:
        yield from (one.id for one in ast.walk(target) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store))


def _imported(node: ast.AST) -> Iterator[str]:
    """The first words of the modules that a statement itself imports."""
    if isinstance(node, ast.Import):
        yield from (alias.name.partition(".")[0] for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        yield node.module.partition(".")[0]


def _hash(path: Path, folder: Path, found: dict[str, str]) -> None:
    """Hash a file, and what it imports from `folder` at any depth, each once."""
    name = path.relative_to(folder).as_posix()
    if name in found:
        return
    source = _source(path)
    found[name] = hashlib.sha256(source).hexdigest()
    for node in ast.walk(_tree(path, source)):
        for module in _modules(node, path.parent.relative_to(folder).parts):
            for one in _files(folder, module):
                _hash(one, folder, found)


def _modules(node: ast.AST, package: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """What a statement imports, as far as it may be a module: also each name behind `from x import`."""
    if isinstance(node, ast.Import):
        yield from (tuple(alias.name.split(".")) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = package[: len(package) - node.level + 1] if node.level else ()
        origin = (*base, *(node.module.split(".") if node.module else ()))
        yield from ((*origin, alias.name) for alias in node.names)


def _files(folder: Path, module: tuple[str, ...]) -> Iterator[Path]:
    """The files of a module, and of the packages around it, that lie below a folder."""
    for depth in range(1, len(module) + 1):
        place = folder.joinpath(*module[:depth])
        yield from (file for file in (place.with_name(f"{place.name}.py"), place / "__init__.py") if file.is_file())
