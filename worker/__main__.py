"""The console script. An error that a person can correct is printed in one line; any other keeps its traceback.

An exception class that a person can correct carries ``exit_code`` (a `ClassVar`), and its message says what was wrong.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line. Exit 0: success, 1: work failed, 2: wrong usage."""
    from worker.cli.app import app

    try:
        app()
    except Exception as error:
        of_file = isinstance(error, OSError) and (error.filename is not None or isinstance(error, FileNotFoundError))
        exit_code = getattr(error, "exit_code", 1 if of_file else None)
        if exit_code is None:
            raise
        print(f"cxr-triage: {error}", file=sys.stderr)
        sys.exit(exit_code)


if __name__ == "__main__":
    main()
