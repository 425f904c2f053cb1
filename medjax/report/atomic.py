"""Files that appear whole or not at all."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def write_atomically(path) -> Iterator[Path]:
    """A temporary path beside `path` with the same ending, renamed to it on success and removed on failure.

    Args:
      path: file to write, in a folder that exists.

    Raises:
      OSError: where the folder cannot be written.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: its folder does not exist; one that does is needed")
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def prepare_folder(path) -> Path:
    """Make a folder, with its parents, and see that it can be written.

    Returns:
      The folder.

    Raises:
      OSError: in one line, where something else is in the way or a file cannot be made there.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path, prefix=".probe-"):
            return path
    except (FileExistsError, NotADirectoryError):
        raise NotADirectoryError(f"{path}: a file is in the way; a folder is needed for the results") from None
    except OSError as error:
        raise OSError(f"{path}: cannot be written ({error.strerror}); a folder is needed for the results") from None
