"""Native libraries' messages on standard error: what TensorFlow prints while it is loaded, at whatever log level."""

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NOISE = re.compile(rb"(?:WARNING: All log messages before absl::InitializeLog|[IWE]\d{4} \d\d:\d\d:[\d.]+\s+\d+ )")
_WORSE = re.compile(rb"E\d{4} ")


@contextmanager
def without_loading_messages() -> Iterator[None]:
    """Keep the messages that native libraries print while they are loaded from standard error.

    TensorFlow 2.21 prints lines about oneDNN and CUDA before its log level takes effect. Everything else that is
    written meanwhile, by other threads too, appears afterwards. Errors are kept where there is an NVIDIA card, which
    they may be about.
    """
    try:
        sys.stderr.flush()
        outer = os.dup(2)
    except (OSError, ValueError):  # no standard error to keep anything from
        yield
        return
    with tempfile.TemporaryFile() as written:
        os.dup2(written.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(outer, 2)
            written.seek(0)
            has_card = Path("/dev/nvidiactl").exists()
            for line in written:
                if not _NOISE.match(line) or (has_card and _WORSE.match(line)):
                    os.write(outer, line)
            os.close(outer)
