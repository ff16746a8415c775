"""Runs a script of this folder: a mistake in what it was given is one line, and no traceback."""

import sys
from collections.abc import Callable
from pathlib import Path

from lit_unlearn.errors import InputError


def run_script(main: Callable[[], object]) -> None:
    """Call a script's `main`.

    Raises:
        SystemExit: With status 2, if input is missing or cannot be used.
    """
    try:
        main()
    except InputError as error:
        print(f"{Path(sys.argv[0]).name}: error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
