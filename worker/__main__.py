"""The console script. Errors a person can mend are one line; anything else is a defect and shows itself."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line. Exit 0: success, 1: work failed, 2: wrong usage."""
    from worker.cli.app import app

    try:
        app()
    except Exception as error:
        # the process's outermost edge: what a person can mend is told in one line, the rest keeps its traceback
        if not _mendable(error):
            raise
        print(f"cxr-triage: {error}", file=sys.stderr)
        sys.exit(2 if type(error).__name__ == "ConfigurationError" else 1)


def _mendable(error: Exception) -> bool:
    """Whether the error's own message says what was wrong; judged by name, so that nothing heavy is imported for it."""
    if isinstance(error, OSError) and (error.filename is not None or isinstance(error, FileNotFoundError)):
        return True  # a file that is not there, a name too long, a folder that cannot be written
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & {
        "ConfigurationError", "DatabaseUnavailable", "StoreUnavailable", "BrokerUnavailable", "BundleInvalid",
        "UnknownModel", "PeerUnreachable", "ListenerPortInUse", "StartFailed", "UnreadableDicom", "UnreadableImage",
        "EngineUnsuitable", "BackendUnavailable", "DatasetInvalid", "ListenerCannotBind", "ScopeTaken",
        "QuantizationRefused", "CannotBeReadAnyway", "DecidedElsewhere", "ImportRefused", "TrainingDiverged",
    })  # fmt: skip


if __name__ == "__main__":
    main()
