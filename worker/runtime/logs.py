"""Structured logs: one JSON object a line on a pipe or in a file, readable text on a terminal. Never patient data."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import structlog


def log_to_stderr() -> None:
    """Send events to stderr unless logging is configured: a command's standard output holds its result alone."""
    if not structlog.is_configured():
        structlog.configure(logger_factory=lambda *_names: structlog.PrintLogger(sys.stderr))


def configure_logging(process: str, stream: TextIO | None = None) -> None:
    """Send this process's events to ``stream`` (default stderr), each with UTC time, level and process name."""
    output = stream or sys.stderr
    interactive = output.isatty()
    structlog.configure(
        processors=[
            lambda _logger, _method, event: {"process": process, **event},  # threads inherit no context variables
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer() if interactive else structlog.processors.JSONRenderer(sort_keys=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(file=output),
        cache_logger_on_first_use=False,
    )
    # libraries: warnings and worse only, and never the identifiers of a DIMSE message
    logging.basicConfig(
        stream=output, level=logging.WARNING, format="%(asctime)s %(name)s %(levelname)s %(message)s", force=True
    )
