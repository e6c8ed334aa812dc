"""The files of a tournament, in a directory that is taken before the first game and gone where nothing comes of it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from macurr.errors import ConfigError
from macurr.persistence import write_atomically
from macurr.training.tournament_picture import draw
from macurr.training.tournament_result import Tournament

__all__ = ["claimed", "write_files"]


@contextmanager
def claimed(out: str | os.PathLike[str] | None) -> Iterator[Path | None]:
    """A new or empty directory for the time of a `with` block; what was made for it goes with it if that fails.

    Args:
        out: Its path; None for none.

    Raises:
        ConfigError: it holds something, or cannot be made.
    """
    if out is None:
        yield None
        return
    path = Path(out)
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
        taken = any(path.iterdir())
        writable = os.access(path, os.W_OK)
    except OSError as error:
        raise ConfigError(
            f"The directory {path} cannot be made: {error.strerror or error}. Name one that you may write to by --out."
        ) from error
    if taken or not writable:
        why = "holds files already" if taken else "cannot be written to"
        raise ConfigError(f"The directory {path} {why}. Name a new one by --out.")
    try:
        yield path
    except BaseException:
        # Only what is empty goes, and only what was not there before: the deepest first.
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


def write_files(result: Tournament, directory: Path) -> None:
    """Write tournament.json, matrix.csv, ratings.csv and matrix.png.

    Args:
        result: What was played.
        directory: Where to.

    Raises:
        OSError: one cannot be written.
    """
    contents = {
        "tournament.json": result.to_json().encode(),
        "matrix.csv": result.matrix_csv().encode(),
        "ratings.csv": result.ratings_csv().encode(),
        "matrix.png": draw(result),
    }
    for name, content in contents.items():
        write_atomically(directory / name, content)
