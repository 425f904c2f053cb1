"""What the mains share of the command line: options, the config and its overrides, one clear line for bad input."""

import argparse
import os
import platform
import sys
from importlib import metadata
from pathlib import Path

import jax

import medjax
from medjax.config import ROOT, Config, ConfigError, load, shipped
from medjax.override import override


def located(path) -> Path:
    """`path` as given where that exists, else below `ROOT` where that exists: the mains can be called from any folder."""
    path = Path(path)
    return ROOT / path if not path.exists() and (ROOT / path).exists() else path


class _Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line, as everything else does."""

    def error(self, message):
        """ConfigError instead of usage and exit."""
        raise ConfigError(message)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a result, with the processor."""
    found = {"medjax": medjax.__version__, "python": platform.python_version(), "machine": platform.machine()}
    for name in ("jax", "jaxlib", "flax", "optax", "numpy"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def parse(arguments, doc: str | None, options: dict, default_config=None) -> tuple[argparse.Namespace, Config]:
    """Options of a main, and the config with its overrides.

    Args:
      arguments: command line without the program.
      doc: docstring of the main, printed by --help.
      options: name -> default; a default of a type reads the argument as that type.
      default_config: function of the options that gives the path of the config when none is named.

    Returns:
      `(options, config)`.

    Raises:
      ConfigError: for an unknown field, a wrong value, or a missing config.
    """
    parser = _Parser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("config", nargs="?", default="", help="a file of configs/")
    for name, value in options.items():
        parser.add_argument("--" + name.replace("_", "-"), default=value, type=type(value))
    own, overrides = _split(arguments, options)
    known = parser.parse_args(own)
    path = known.config or (default_config(known) if default_config else "")
    if not path:
        raise ConfigError(f"name a config, one of: {', '.join(shipped())}")
    config = load(located(path))
    for name, value in overrides:
        config = override(config, name, value)
    return known, config


def _split(arguments: list[str], options: dict) -> tuple[list[str], list[tuple[str, str]]]:
    """Words for the main's own parser, and `(field, value)` of every other `--field value` or `--field=value`."""
    words, own, overrides = list(arguments), [], []
    while words:
        word = words.pop(0)
        name, equals, value = word.partition("=")
        if not word.startswith("--") or name[2:].replace("-", "_") in {*options, "help"}:
            own.append(name.replace("_", "-") + equals + value if word.startswith("--") else word)
            if word.startswith("--") and not equals and name != "--help" and words:
                own.append(words.pop(0))
            continue
        if not equals and not words:
            raise ConfigError(f"{name} needs a value")
        overrides.append((name[2:], value if equals else words.pop(0)))
    return own, overrides


def run(main) -> int:
    """Exit status of `main(arguments)`: 2 with one line on bad input.

    Of several processes one that fails ends at once, without meeting the others, who would wait for it; they fail in their turn, in one line.
    """
    name = Path(sys.argv[0]).name
    try:
        return main(sys.argv[1:]) or 0
    except (ValueError, OSError, OverflowError) as error:
        print(f"{name}: {' '.join(str(error).split())}", file=sys.stderr)
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1:
            raise
        print(f"{name}: another process has ended ({str(error).splitlines()[0][:150]}); what it printed says why", file=sys.stderr)
    if jax.process_count() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(2)
    return 2
