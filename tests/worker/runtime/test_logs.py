"""Where a command's events go: beside its result, never into it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_event_of_a_command_is_not_in_the_json_that_it_prints(tmp_path: Path) -> None:
    script = (
        "import structlog;"
        "from worker.cli.options import print_json;"
        "from worker.installation import open_site;"
        "from pathlib import Path;"
        f"open_site(Path({str(tmp_path)!r}), None);"
        "structlog.get_logger('x').warning('broker unreachable; will be re-queued');"
        "print_json({'ok': True})"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"ok": True}
    assert "broker unreachable" in done.stderr
