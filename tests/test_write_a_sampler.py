"""The code of docs/write_a_sampler.md, put where it says, under the contract that the text promises."""

import re
from pathlib import Path

import gaussian_suite
import pytest
import rows_posterior
import test_posteriors
import test_samplers
from test_structure import test_sizes_and_docstrings as check_sizes

import medjax.guides
import medjax.samplers
from medjax.samplers.ddim import ddim

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "write_a_sampler.md").read_text(), flags=re.DOTALL)


def named(path):
    """The block that begins with `# path`."""
    (found,) = (block.split("\n", 1)[1] for block in BLOCKS if block.startswith(f"# {path}\n"))
    return found


@pytest.fixture
def written(monkeypatch, tmp_path):
    """The two files, importable by the names that they would have."""
    for package, name in ((medjax.samplers, "adams_bashforth"), (medjax.guides, "selected_rows")):
        folder = package.__name__.split(".")[1]
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{name}.py").write_text(named(f"medjax/{folder}/{name}.py"))
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path / folder)])
    monkeypatch.setattr(test_samplers, "KERNELS", dict(test_samplers.KERNELS))
    exec(named("tests/test_samplers.py"), vars(test_samplers))
    return tmp_path


def test_the_files_are_as_others_are(written):
    """Sizes and docstrings."""
    assert len(list(written.glob("*/*.py"))) == 2
    for path in written.glob("*/*.py"):
        check_sizes(path)


def test_the_kernel_keeps_the_contract(written, key):
    """Every check of its row, and its law by the way; a kernel of order 1 in its row is found out."""
    name = "adams_bashforth"
    kernel, order, deterministic = test_samplers.KERNELS[name]
    assert (order, deterministic) == (2, True)
    for check in (test_samplers.test_law, test_samplers.test_ends_on_the_denoised_image_at_level_zero, test_samplers.test_composes):
        check(key, name)
    for prior in ("gaussian", "mixture"):
        test_samplers.test_order(name, prior)
        first_order = test_samplers.KERNELS["ddim_0"][0]
        test_samplers.KERNELS[name] = (first_order, order, deterministic)
        with pytest.raises(AssertionError):
            test_samplers.test_order(name, prior)
        test_samplers.KERNELS[name] = (kernel, order, deterministic)


def test_the_guide_keeps_the_contract(written, monkeypatch, key):
    """Its law, six operators and derivatives; one that leaves the data out is found out."""
    monkeypatch.setattr(rows_posterior, "METHODS", dict(rows_posterior.METHODS))
    exec(named("tests/rows_posterior.py"), vars(rows_posterior))
    row = rows_posterior.METHODS["selected_rows"]
    test_posteriors.test_law(key, row)
    for name in gaussian_suite.OPERATORS:
        test_posteriors.test_every_operator(key, row, name)
    test_posteriors.test_derivatives(key, row)
    with pytest.raises(AssertionError):
        test_posteriors.test_every_operator(key, row._replace(make=lambda *_: (rows_posterior.plain, ddim(1.0))), "masked_fourier")


def test_the_posterior_is_exact(written):
    """The last block asserts it."""
    exec(next(block for block in BLOCKS if not block.startswith("# ")), {})
