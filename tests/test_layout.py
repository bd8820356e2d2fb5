"""The rules of the house: which file may import which, who may name a suite, and that the implementations mirror."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("impls", "harness", "reports", "messages")
FRAMEWORKS = {"pytorch": ("torch", "torchvision"), "jittor": ("jittor",)}
# Feature networks are PyTorch's too, and owe nothing to either implementation.
OWNERS = {**FRAMEWORKS, "evaluation": FRAMEWORKS["pytorch"]}
# What both implementations share: numpy only.
SHARED = ("impls.recipe", "impls.data", "impls.store", "impls.pictures", "impls.pair.file", "impls.pair.rule",
          "impls.pair.weights")
CONTRACT = ("impls.backend", "impls.errors", "impls.devices", "impls.ranks", "impls.command", "impls.plugins")
# The halves of the twins that know no framework. What executes a user's file is among them: never in the harness.
HALVES = ("impls.trainer", "impls.sampler", "impls.pair.loaded", "impls.pair.trainer")
ANY_FRAMEWORK = tuple(module for modules in FRAMEWORKS.values() for module in modules)
# Files of one implementation alone.
OWN = {"moments.py", "runtime.py", "cache.py"}


def modules_imported(source: str, module: str, is_package: bool = False) -> Iterator[str]:
    """Every module that `module`'s source imports, at any depth and also by a literal import_module("name")."""
    package = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            # `from impls import pytorch` imports impls.pytorch; for other names the longer path does no harm.
            yield from (f"{origin}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
            if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                yield node.args[0].value


def inside(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def fault(module: str, imported: str) -> str | None:  # noqa: PLR0911, PLR0912 - one rule per return
    """Which rule `module` breaks by importing `imported`; None when it may."""
    if inside(module, "messages") and inside(imported, "impls", "harness", "reports", *ANY_FRAMEWORK):
        return "the catalogue stands below everything"
    if inside(module, "harness", "reports", *SHARED) and inside(imported, *ANY_FRAMEWORK):
        return "never imports a framework"
    if inside(module, "impls") and inside(imported, "harness", "reports"):
        return "nothing in impls imports harness or reports"
    if inside(module, *SHARED, *HALVES) and inside(imported, "impls"):
        halves = HALVES if inside(module, *HALVES) else ()
        allowed = inside(imported, *SHARED, *CONTRACT, *halves)
        return None if allowed else "what both share stands below the implementations"
    for name, own in OWNERS.items():
        if inside(module, f"impls.{name}"):
            if inside(imported, "impls"):
                halves = HALVES if name in FRAMEWORKS else ()
                allowed = inside(imported, f"impls.{name}", *SHARED, *CONTRACT, *halves)
                return None if allowed else "an implementation imports only its own, what both share, and the contract"
            if inside(imported, *ANY_FRAMEWORK) and not inside(imported, *own):
                return "an implementation imports only its own framework"
            return None
    if inside(module, "impls") and inside(imported, *ANY_FRAMEWORK):
        return "only the implementations and impls.evaluation import a framework"
    if inside(module, "harness"):
        if inside(imported, "reports"):
            return "harness never imports reports"
        if inside(imported, "impls"):
            allowed = inside(imported, "impls.registry", "impls.tools.cli", "impls.tools.evaluate.options",
                             *SHARED, *CONTRACT)
            return None if allowed else "harness reaches the implementations only through impls.registry"
    if inside(module, "reports") and inside(imported, "harness"):
        # A comparison of runs is in neither journal, so that the report itself must judge it; an interval describes.
        judging = inside(module, "reports.compare", "reports.curves", "reports.history")
        judges = judging and inside(imported, "harness.stats")
        allowed = judges or inside(imported, "harness.record", "harness.stats.interval")
        return None if allowed else "reports reads runs only through harness.record"
    return None


def sources() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_dependencies_point_one_way(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    is_package = parts[-1] == "__init__"
    module = ".".join(parts[:-1] if is_package else parts)
    found = modules_imported(path.read_text(encoding="utf-8"), module, is_package)
    assert [f"{name}: {broken}" for name in found if (broken := fault(module, name))] == []


@pytest.mark.parametrize(("module", "source"), [
    ("harness.worker.worker", "def f():\n    import torch.nn"),
    ("harness.worker.worker", "from importlib import import_module\nimport_module('jittor')"),
    ("harness.plan", "from impls import pytorch"),
    ("messages.source", "from impls.errors import UsageError"),
    ("harness.plan", "from reports.page.render import build"),
    ("reports.view.run", "from harness.stats.steady import detect"),
    ("reports.page.blocks", "from harness.stats.across import judge_change"),
    ("reports.compare.runs", "from harness.judge.verdicts import judge_run"),
    ("reports.view.run", "import torch"),
    ("impls.pictures.images", "from ..pytorch import unet"),
    ("impls.data.datasets", "import torchvision"),
    ("impls.data.datasets", "from impls.registry import parse_arm"),
    ("impls.pytorch.unet", "import jittor as jt"),
    ("impls.pytorch.unet", "from impls.jittor.unet import UNet"),
    ("impls.pytorch.unet", "from harness.record.events import Event"),
    ("impls.jittor.unet", "from torch import nn"),
    ("impls.jittor.unet", "from impls.registry import specs"),
    ("impls.tools.train.loop", "import torch"),
    ("impls.trainer", "import torch"),
    ("impls.trainer", "from impls.pytorch.network import Network"),
    ("impls.evaluation.networks.features", "from impls.trainer import BaseTrainer"),
    ("impls.evaluate", "import torch"),
    ("impls.evaluation.networks.features", "import jittor"),
    ("impls.evaluation.networks.features", "from impls.pytorch.unet import UNet"),
    ("impls.evaluation.results", "from harness.record.events import quality"),
])
def test_the_rules_notice_what_they_forbid(module, source):
    assert [name for name in modules_imported(source, module) if fault(module, name)]


@pytest.mark.parametrize(("module", "source"), [
    ("harness.worker.worker", "from impls.registry import parse_arm\nfrom . import protocol"),
    ("reports.view.run", "from harness.record import writer, events\nfrom .figures import draw"),
    ("reports.compare.runs", "from harness.stats.across import judge_change"),
    ("impls.pytorch.unet", "import torch\nfrom impls.recipe import schedule\nfrom .ops import STOCK"),
    ("impls.evaluation.networks.features", "import torch\nfrom impls.store.files import whole_file"),
    ("impls.evaluate", "from impls.evaluation.networks import features"),
    ("impls.pytorch.trainer", "from impls.trainer import BaseTrainer"),
])
def test_the_rules_allow_what_the_design_wants(module, source):
    assert not [name for name in modules_imported(source, module) if fault(module, name)]


# From the ground up; a file imports from its own floor and from those below it. A floor is a file or a folder.
FLOORS = {
    "harness": (
        ("collector",), ("record",), ("stats",), ("protocol", "machine", "progress"), ("processes", "ledger", "worker"),
        ("part",), ("options",), ("plan",), ("judge", "bench"), ("blocks",), ("run",), ("doctor",),
        ("cli", "gpucheck", "pair", "merge")),
    "reports": (
        ("text",), ("page",), ("view",), ("chapters",),
        ("report", "compare", "curves", "export", "history", "index", "pack", "serve", "terminal"), ("__main__",)),
}
# Suites are plug-ins: they import from any floor, and shared files see only these of them.
SEEN_OF_SUITES = ("registry", "weights")
# What one suite may take from another: the settings of cells, a check that stands as a gate before its own work, and
# from where arms start that are to compute the same.
LENT = ("sampling.cells", "parity.part", "parity.gate", "parity.subject")
# Words that are the name of a part and of something else too.
OTHER_MEANINGS = {
    ("reports/chapters/measured/ratio.py", "all"): "every cell",
    ("reports/__main__.py", "align"): "the command that compares loss curves",
}


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in sources()}


def is_late(node: ast.AST) -> bool:
    """Whether what stands in it runs later than the import of its file, or never."""
    types_only = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    return types_only or isinstance(node, ast.FunctionDef)


def at_import(module: str) -> set[str]:
    """Files that are read when `module` is: what a function imports when it is called, and types, are left out."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    late = {id(inner) for node in ast.walk(tree) if is_late(node) for inner in ast.walk(node)}
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and id(node) not in late:
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if name in MODULES else node.module for name in whole}
    return (found & MODULES.keys()) - {module}


def floor(module: str) -> int | None:
    """Which floor a module stands on; None for suites and packages."""
    package, _, rest = module.partition(".")
    for number, rooms in enumerate(FLOORS.get(package, ())):
        if inside(rest, *rooms):
            return number
    return None


def suite_fault(module: str, imported: str) -> str | None:
    """Which rule about suites `module` breaks; None when it may import that."""
    package, _, what = imported.partition(".suites.")
    if not what or inside(what, *SEEN_OF_SUITES):
        return None
    own, _, mine = module.partition(".suites.")
    if not mine:
        return "a shared file sees of the suites only their registry and weights"
    if mine == "registry" or own != package or inside(what, mine.partition(".")[0]):
        return None if own == package or inside(own, "reports") is False else "reports never imports a suite of harness"
    return None if inside(what, *LENT) else "a suite takes from another only its cells or its gate"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_floors_point_down_and_suites_are_plug_ins(module):
    stands = floor(module)
    faults = []
    for name in sorted(at_import(module)):
        below = floor(name)
        if stands is not None and below is not None and below > stands and inside(name, module.partition(".")[0]):
            faults.append(f"{name}: stands on a higher floor")
    imported = modules_imported(MODULES[module].read_text(encoding="utf-8"), module)
    faults += [f"{name}: {why}" for name in sorted(set(imported)) if (why := suite_fault(module, name))]
    assert faults == []


def test_every_shared_file_stands_on_a_floor():
    homeless = [name for name in MODULES if name.partition(".")[0] in FLOORS and "." in name
                and not inside(name.partition(".")[2], "suites") and floor(name) is None]
    assert homeless == []


def test_no_files_import_one_another_in_a_circle():
    # graphlib names the circle in its error.
    tuple(TopologicalSorter({module: at_import(module) for module in MODULES}).static_order())


def suites_named(path: Path) -> Iterator[tuple[int, str]]:
    """Lines of a file that name a suite or a part, as a whole word in quotes; docstrings are no code."""
    from harness.suites.registry import SUITES

    names = {*SUITES, *(part.name for suite in SUITES.values() for part in suite.parts)}
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and node.value in names:
            yield node.lineno, str(node.value)


@pytest.mark.parametrize("module", sorted(name for name in MODULES if inside(name, "harness", "reports")))
def test_shared_files_name_no_suite(module):
    place = MODULES[module].relative_to(ROOT).as_posix()
    if inside(module, "harness.suites", "reports.suites", "harness.part", "harness.record.events"):
        return
    named = [(line, word) for line, word in suites_named(MODULES[module]) if (place, word) not in OTHER_MEANINGS]
    assert named == []


@pytest.mark.parametrize(("module", "imported"), [
    ("harness.blocks.block", "harness.suites.training"),
    ("harness.judge.verdicts", "harness.suites.sampling.part.SAMPLING_TIME"),
    ("reports.report", "reports.suites.quality.facts"),
    ("harness.suites.training", "harness.suites.sampling.part"),
    ("reports.suites.sampling.tables", "reports.suites.quality.cards"),
])
def test_the_rules_notice_a_suite_where_it_does_not_belong(module, imported):
    assert suite_fault(module, imported)


def files(framework: str) -> set[str]:
    return {path.name for path in (ROOT / "impls" / framework).glob("*.py")} - OWN


def public_names(path: Path) -> set[str]:
    """Public classes and functions at the top level of a file."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return {node.name for node in body
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_")}


def test_the_implementations_have_the_same_files():
    assert files("pytorch") == files("jittor")


@pytest.mark.parametrize("name", sorted(files("pytorch") & files("jittor")))
def test_twin_files_have_the_same_public_names(name):
    assert public_names(ROOT / "impls" / "pytorch" / name) == public_names(ROOT / "impls" / "jittor" / name)
