"""The house rules that a syntax tree can show: who imports whom, sizes, docstrings."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "medjax").rglob("*.py"))
MAINS = [ROOT / name for name in ("train.py", "sample.py", "evaluate.py", "generate.py")]

LAYER_2 = {"operators", "physics", "phantoms", "functionals", "networks", "metrics"}
LAYER_3 = {"solvers", "diffusion", "samplers", "guides"}
CORE = {"typing", "linalg", "lanczos", "iterate", "descent", "implicit", "checks", "config", "override", ""}
# folder -> the other folders of medjax that it may import, beside the core and itself
MAY_IMPORT = {
    **{folder: set() for folder in LAYER_2 | LAYER_3},
    "phantoms": {"physics"},
    "samplers": {"diffusion"},
    "guides": {"diffusion"},
    "data": LAYER_2 | {"report"},
    "training": {"report"},
    "report": set(),
    "learned": LAYER_2 | LAYER_3,
    "experiment": LAYER_2 | LAYER_3 | {"learned", "data", "training"},
}
# package -> the only folders that import it
ONLY_IN = {
    "flax": {"networks"},
    "orbax": {"training"},
    "safetensors": {"training"},
    "matplotlib": {"report"},
    "rich": {"report"},
    "pydicom": {"data"},
    "nibabel": {"data"},
    "h5py": {"data"},
    "grain": {"data"},
    "zarr": {"data"},
    "ismrmrd": {"data"},
    "twixtools": {"data"},
    "PIL": {"data"},
    "array_record": {"data"},
    "tensorflow_datasets": {"data"},
    "diffrax": {"samplers"},
}
UNPICKLE = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
NEVER = {"torch", "tensorflow", "pickle", "sklearn", "skimage"}


def imports(path):
    """Full module names that a file imports, at any depth."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def folder_of(path):
    """Folder of a file below medjax, empty for the core."""
    parts = path.relative_to(ROOT / "medjax").parts
    return parts[0] if len(parts) > 1 else ""


def inner(name):
    """Folder or core module that a medjax import names."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else ""


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_downwards(path):
    """Core imports core; folders import the core, themselves and what the table grants."""
    folder = folder_of(path)
    for name in imports(path):
        root = name.split(".")[0]
        assert root not in NEVER, f"{path} imports {name}"
        assert root not in ONLY_IN or folder in ONLY_IN[root], f"{path} imports {name}"
        if root == "medjax":
            allowed = CORE | ({folder} | MAY_IMPORT[folder] if folder else set())
            assert inner(name) in allowed, f"{path} imports {name}"
    if folder == "" and path.stem == "typing":
        assert not any(name.startswith("medjax") for name in imports(path))


@pytest.mark.parametrize("folder", ["operators", "samplers", "guides", "diffusion", "solvers", "learned"])
def test_mathematics_knows_no_device(folder):
    """No jit but `linalg.traced_once`, printing or device placement inside mathematics."""
    for path in (ROOT / "medjax" / folder).glob("*.py"):
        text = path.read_text()
        for word in ("jax.jit", "print(", "device_put", "pmean", "jax.devices"):
            assert word not in text, f"{path} holds {word}"


@pytest.mark.parametrize("path", FILES + MAINS, ids=lambda p: str(p.relative_to(ROOT)))
def test_sizes_and_docstrings(path):
    """Files of at most 400 lines (mains 250), functions of at most 50 below their docstring, docstrings on all that is public."""
    text = path.read_text()
    assert text.count("\n") <= (250 if path in MAINS else 400)
    tree = ast.parse(text)
    assert path.name == "__init__.py" or ast.get_docstring(tree), f"{path} has no docstring"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and path not in MAINS:
            start = node.body[0].end_lineno if ast.get_docstring(node) else node.lineno
            assert node.end_lineno - start <= 50, f"{path}: {node.name} is {node.end_lineno - start} lines long"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{path}: {node.name} has no docstring"


@pytest.mark.parametrize("folder", ["samplers", "guides", "diffusion"])
def test_methods_are_short(folder):
    """A sampler, guide or schedule is at most 30 lines of code below its docstring, all that it nests included."""
    for path in (ROOT / "medjax" / folder).glob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                assert lines_of_code(node) <= 30, f"{path}: {node.name} is {lines_of_code(node)} lines of code"


def lines_of_code(node):
    """Lines of a function that hold code: no docstring, comment or blank line, and a call that is broken over lines counts each."""
    inner = {line for part in node.body[1:] for each in ast.walk(part) if hasattr(each, "lineno") for line in range(each.lineno, each.end_lineno + 1)}
    return len(inner)


@pytest.mark.parametrize("path", FILES + MAINS, ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_that_a_file_holds_is_run(path):
    """Nothing is unpickled or evaluated, and NumPy is told so wherever it reads."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            assert name not in {"eval", "exec", "compile", "__import__", "yaml.load"}, f"{path} calls {name}"
            if name.startswith(("np.", "numpy.")) and name.split(".")[-1] in {"load", "read_array"}:
                assert [ast.unparse(each) for each in node.keywords if each.arg == "allow_pickle"] == ["allow_pickle=False"], f"{path}: {name}"
    found = {name.split(".")[0] for name in imports(path)} & UNPICKLE
    assert not found, f"{path} imports {found}"


def test_sizes_of_tests():
    """Test files keep to 400 lines, too."""
    for path in (ROOT / "tests").glob("*.py"):
        assert path.read_text().count("\n") <= 400, path


def test_two_folders_deep_and_no_odd_rooms():
    """Files lie in medjax/ or one folder below; no drawers for leftovers."""
    for path in FILES:
        assert len(path.relative_to(ROOT / "medjax").parts) <= 2
        assert path.stem not in {"utils", "misc", "common", "helpers"}
    assert {folder_of(path) for path in FILES} - {""} == set(MAY_IMPORT)


def test_core_needs_little(tmp_path):
    """Importing the mathematics loads none of the packages that only mains need."""
    import subprocess
    import sys

    modules = [f"medjax.{folder_of(p)}.{p.stem}" for p in FILES if folder_of(p) in LAYER_3 | {"operators", "physics", "phantoms", "functionals"}]
    code = f"import sys\nfor m in {[m for m in modules if not m.endswith('__init__')]}: __import__(m)\n"
    code += "print(sorted(set(sys.modules) & {'flax', 'orbax', 'matplotlib', 'pydicom', 'nibabel', 'rich', 'safetensors', 'diffrax'}))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert result.stdout.strip() == "[]"
