"""`cxr-triage doctor`: runs every check; each result has a detail and, at a fault, a remedy. Creates nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from worker.config.settings import ConfigurationError, Settings, load_settings
from worker.doctor import analysis, certificates, network, storage
from worker.doctor.check_result import Check, CheckResult, Examined
from worker.runtime.clock import Clock

# name -> check, in the order of a search for the cause
CHECKS: dict[str, Check] = {
    "home": storage.home,
    "database": storage.database,
    "store": storage.store,
    "space": storage.space,
    "imports": storage.imports,
    "broker": network.broker,
    "codecs": analysis.codecs,
    "engine": analysis.engine,
    "processes": analysis.processes,
    "listener": network.listener,
    "destinations": network.destinations,
    "work": analysis.work,
    "clock": network.clock,
    "certificates": certificates.certificates,
}


def examine(
    home: Path | None,
    config: Path | None,
    clock: Clock,
    skip: Collection[str] = (),
    begun: Callable[[str], None] = lambda _name: None,
) -> Iterator[CheckResult]:
    """Run every check on one installation; if the configuration is invalid, only that is reported.

    Parameters
    ----------
    home, config
        As on the command line.
    clock
        What the ages of waiting work and of certificates are measured by.
    skip
        Names of `CHECKS` that are left out.
    begun
        Called with the name of each check before it begins.
    """
    begun("configuration")
    try:
        settings = load_settings(config, home)
    except ConfigurationError as error:
        yield CheckResult(
            "configuration", "failed", str(error), "correct the named key; docs/configuration.md lists all"
        )
        return
    yield configuration(settings, config)
    examined = Examined(settings, analysis.registered_processes(settings, clock), clock)
    for name, check in CHECKS.items():
        if name not in skip:
            begun(name)
            yield from check(examined)


def configuration(settings: Settings, config: Path | None) -> CheckResult:
    """Where the configuration in force comes from, and whether other users can read a password in it."""
    named = os.environ.get("CXR_TRIAGE_CONFIG")
    path = config or (Path(named) if named else settings.home / "cxr-triage.toml")
    variables = sum(name.upper().startswith("CXR_TRIAGE_") and name != "CXR_TRIAGE_CONFIG" for name in os.environ)
    sources = [str(path)] if path.exists() else []
    sources += [f"{variables} environment variable{'s' * (variables > 1)}"] if variables else []
    detail = f"{' and '.join(sources) or 'the defaults'}; home {settings.home}"
    secret = settings.stow.token or settings.database.url.has_password or settings.broker.url.has_password
    if secret and path.exists() and path.stat().st_mode & 0o004:
        return CheckResult(
            "configuration",
            "warning",
            f"{detail}; every user can read the password in it",
            f"chmod o= {path}",
        )
    return CheckResult("configuration", "ok", detail)
