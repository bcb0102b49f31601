"""One TOML file, every key also an environment variable; only the composition roots read it, once.

``[dicom] port`` is ``CXR_TRIAGE_DICOM_PORT``; the destinations are ``CXR_TRIAGE_DESTINATIONS``, a JSON list. A wrong
key or value stops the start with its name, its value and what is allowed.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from dicom_io.network.addresses import network
from worker.config.ae_titles import AETitle, checked_ae_title
from worker.config.destinations import DESTINATION_KINDS, AnyDestination
from worker.config.gate_rules import Gate
from worker.config.section import Section, is_secret
from worker.config.tls import ListenerTls, PeerTls
from worker.config.urls import SecretUrl, url_fault

__all__ = ["ConfigurationError", "Settings", "load_settings"]

ENVIRONMENT_PREFIX = "CXR_TRIAGE_"
_CONFIG_NAME = "cxr-triage.toml"
_DAY = 86_400  # seconds
_CENTURY = 36_525  # days
_EXABYTE = 1_000_000_000  # gigabytes


class ConfigurationError(Exception):
    """The configuration cannot be used; the message names the key, the value and what is allowed."""

    exit_code: ClassVar[int] = 2


def _caller(value: str) -> str:
    title, at, place = value.partition("@")
    checked_ae_title(title)
    if at:
        try:
            network(place)
        except ValueError as error:
            raise ValueError(f'write "AETITLE" or "AETITLE@" and {error}') from error
    return value


def _zone(value: str) -> str:
    try:
        ZoneInfo(value or "UTC")
    except (KeyError, ValueError, OSError) as error:  # OSError: a folder of zones, such as "Europe"
        raise ValueError("write a zone of the IANA data base, such as Europe/Berlin") from error
    return value


Port = Annotated[int, Field(ge=0, le=65535)]


class Dicom(Section):
    """The DICOM listener."""

    ae_title: AETitle = "CXRTRIAGE"
    host: str = "0.0.0.0"
    port: Port = 11112
    allowed_callers: tuple[Annotated[str, AfterValidator(_caller)], ...] = ()
    check_called_ae: bool = True
    maximum_associations: int = Field(default=50, ge=1, le=1000)
    maximum_pdu: int = Field(default=1 << 20, ge=4096, le=1 << 27)
    object_megabytes: int = Field(default=512, ge=1, le=4096)
    held_megabytes: int = Field(default=1024, ge=1, le=1 << 20)
    association_timeout: float = Field(default=15.0, gt=0, le=_DAY)
    idle_timeout: float = Field(default=60.0, gt=0, le=_DAY)
    pdu_timeout: float = Field(default=30.0, gt=0, le=_DAY)
    timezone: Annotated[str, AfterValidator(_zone)] = Field(
        default="",
        description="of the dates and times in objects whose source names no zone, such as Europe/Berlin; empty: this "
        "machine's",
    )
    tls: ListenerTls | None = None

    @property
    def zone(self) -> ZoneInfo | None:
        """The site's time zone; None: this machine's, as `datetime.astimezone` takes it."""
        return ZoneInfo(self.timezone) if self.timezone else None


class KnownPeer(Section):
    """The address of a DICOM node that we call back, such as a PACS that requests storage commitment.

    A node that is a destination needs no entry here.
    """

    ae_title: AETitle
    host: str
    port: Annotated[int, Field(ge=1, le=65535)]
    tls: PeerTls | None = None


class Web(Section):
    host: str = "127.0.0.1"
    port: Port = 8080


def _addresses(value: str) -> str:
    network(value)
    return value


class Stow(Section):
    """Who may store over DICOMweb (STOW-RS) at the web process. Without both keys, only this machine may."""

    token: SecretStr = SecretStr("")
    allowed_addresses: tuple[Annotated[str, AfterValidator(_addresses)], ...] = ()


class Imports(Section):
    """A watched folder: DICOM files put into it are imported as if they had been sent."""

    folder: str = ""
    done: Literal["keep", "delete"] = "keep"
    settle_seconds: float = Field(default=2.0, gt=0, le=_DAY)


class Worker(Section):
    processes: int = Field(default=0, ge=0, le=1024)  # 0: one per core


class Storage(Section):
    home: Path = Path("~/.local/share/cxr-triage")
    minimum_free_gigabytes: float = Field(default=0.5, ge=0, le=_EXABYTE)


class IntakeSettings(Section):
    """How many images may wait for analysis, whichever way they arrive."""

    maximum_backlog: int = Field(default=10_000, ge=0, le=1_000_000_000)


class DatabaseSettings(Section):
    url: SecretUrl = SecretUrl("")  # empty: SQLite under the home folder


class Broker(Section):
    url: SecretUrl = SecretUrl("")  # empty: Valkey embedded by `up`, on a socket under the home folder


class Reading(Section):
    """How the active model is run."""

    engine: Literal["openvino", "keras"] = "openvino"  # keras computes heatmaps for any head
    precision: Literal["auto", "f32", "bf16"] = "auto"
    reduced_resolution: bool = True  # JPEG 2000 is decoded at a lower resolution if tensor and heatmap need no more


class Heatmaps(Section):
    """How the overlays of objects and, at first, of pages are drawn."""

    style: Literal["filled", "contours", "both"] = Field(
        default="both", description="colours, lines of equal contribution, or colours with lines"
    )


class Retention(Section):
    """What is removed automatically. A study with a pending analysis or delivery is never removed."""

    days: float = Field(default=0.0, ge=0, le=_CENTURY)  # studies whose last image arrived longer ago; 0: kept forever
    free_gigabytes: float = Field(
        default=0.0, ge=0, le=_EXABYTE
    )  # the oldest are removed while less space is free; 0: never
    refusal_days: float = Field(default=90.0, gt=0, le=_CENTURY)  # how long rejected transfers stay listed


class TriageSettings(Section):
    """Reading order of the open list, which a study leaves when nothing is heard of it for ``open_hours``."""

    horizon_hours: float = Field(default=8.0, ge=0.01, le=8760)
    open_hours: float = Field(default=48.0, ge=0.01, le=87600)


class Settings(BaseSettings):
    """All settings, validated. Sections are frozen values; the environment is not read again."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX,
        env_nested_delimiter="_",
        env_nested_max_split=1,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    dicom: Dicom = Dicom()
    destinations: tuple[AnyDestination, ...] = ()
    peers: tuple[KnownPeer, ...] = ()
    web: Web = Web()
    stow: Stow = Stow()
    imports: Imports = Imports()
    worker: Worker = Worker()
    storage: Storage = Storage()
    intake: IntakeSettings = IntakeSettings()
    database: DatabaseSettings = DatabaseSettings()
    broker: Broker = Broker()
    reading: Reading = Reading()
    heatmaps: Heatmaps = Heatmaps()
    gate: Gate = Gate()
    triage: TriageSettings = TriageSettings()
    retention: Retention = Retention()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings  # the environment overrides the file, whose content is passed as init

    @property
    def home(self) -> Path:
        return self.storage.home.expanduser().absolute()

    @property
    def database_url(self) -> str:
        from db.engine.session import sqlite_url  # importing SQLAlchemy is slow, and `--help` need not wait for it

        return self.database.url.get_secret_value() or sqlite_url(self._sqlite)

    @property
    def has_database(self) -> bool:
        """Whether the database exists; one configured by a URL is assumed to exist."""
        return bool(self.database.url) or self._sqlite.exists()

    @property
    def _sqlite(self) -> Path:
        return self.home / "cxr-triage.sqlite"


def load_settings(config: Path | None = None, home: Path | None = None) -> Settings:
    """Read the configuration.

    Parameters
    ----------
    config : Path, optional
        The TOML file; default ``$CXR_TRIAGE_CONFIG``, else ``cxr-triage.toml`` in the home folder if it is there.
    home : Path, optional
        Overrides ``[storage] home``.

    Raises
    ------
    ConfigurationError
        Naming every key that is unknown or has a wrong value, the value, and what is allowed.
    """
    named = config or (Path(os.environ["CXR_TRIAGE_CONFIG"]) if os.environ.get("CXR_TRIAGE_CONFIG") else None)
    environment_home = os.environ.get("CXR_TRIAGE_STORAGE_HOME")
    folder = home or (Path(environment_home) if environment_home else Storage().home)
    path = named or folder.expanduser() / _CONFIG_NAME
    content: dict[str, Any] = {}
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))  # some editors begin a file with a BOM
    except FileNotFoundError as error:
        if named:
            raise ConfigurationError(f"configuration file {path} does not exist") from error
    except (OSError, ValueError, RecursionError) as error:  # not TOML, or digits or brackets without end
        if named or not isinstance(error, NotADirectoryError):
            raise ConfigurationError(f"configuration file {path} cannot be read: {error}") from error
    _refuse_unknown_environment()
    try:
        settings = Settings(**content)
    except ValidationError as error:
        raise ConfigurationError(_explain(error, path if content else None)) from error
    except SettingsError as error:
        raise ConfigurationError(
            f"environment: {error}; lists are written as JSON, such as CXR_TRIAGE_DICOM_ALLOWED_CALLERS='[\"CT1\"]'"
        ) from error
    for section, url in (("database", settings.database.url), ("broker", settings.broker.url)):
        if fault := url_fault(section, url.get_secret_value()):
            raise ConfigurationError(f"[{section}] url: {fault}")
    names = [destination.name for destination in settings.destinations]
    if len(set(names)) != len(names):
        raise ConfigurationError(f"destinations: names must differ, got {', '.join(names)}")
    if home is not None:
        settings = settings.model_copy(update={"storage": settings.storage.model_copy(update={"home": home})})
    return settings


def _refuse_unknown_environment() -> None:
    """Reject variables of unknown sections, which pydantic-settings ignores: a misspelt one must be reported."""
    for name in os.environ:
        if not name.upper().startswith(ENVIRONMENT_PREFIX) or name.upper() in (
            "CXR_TRIAGE_CONFIG",
            "CXR_TRIAGE_SHARED_DATA",
        ):
            continue
        section = name.upper().removeprefix(ENVIRONMENT_PREFIX).split("_", 1)[0].lower()
        if section not in Settings.model_fields:
            raise ConfigurationError(
                f"environment variable {name}: no such section; allowed: {', '.join(Settings.model_fields)}"
            )


def _explain(error: ValidationError, path: Path | None) -> str:
    """Return for every problem its key, its value and what is allowed, grouped by file or environment variable."""
    found: dict[str, list[str]] = {}
    for problem in error.errors():
        location, kind = _without_kind(problem["loc"])
        key = ".".join(str(part) for part in location)
        variable = _variable(problem["loc"])
        source = f"environment variable {variable}" if variable else f"configuration {path or 'from the environment'}"
        if problem["type"] == "extra_forbidden":
            allowed = _allowed_keys(location, kind)
            near = difflib.get_close_matches(str(problem["loc"][-1]), allowed, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            line = f"{key}: no such key; {hint}allowed: {', '.join(allowed)}"
        elif problem["type"] == "union_tag_invalid":
            line = f"{key}.kind: must be {problem['ctx']['expected_tags']} (got {problem['ctx']['tag']!r})"
        else:
            # the message of our own validators names the value; the input would be the whole section
            is_whole = problem["type"] in ("missing", "value_error") and isinstance(problem["input"], dict | BaseModel)
            words = problem["msg"].removeprefix("Value error, ")
            hidden = is_whole or _is_secret(problem["loc"])
            line = f"{key}: {words}" + ("" if hidden else f" (got {problem['input']!r})")
        found.setdefault(source, []).append(line)
    return ". ".join(f"{source}: {'; '.join(lines)}" for source, lines in found.items())


def _is_secret(location: tuple[int | str, ...]) -> bool:
    section = section_of(Settings.model_fields[str(location[0])].annotation)
    if section is None:
        return False
    if len(location) == 1:  # text where the whole section is expected
        return any(is_secret(field) for field in section.model_fields.values())
    field = section.model_fields.get(str(location[-1]))
    return field is not None and is_secret(field)


def _variable(location: tuple[int | str, ...]) -> str | None:
    """The environment variable that gave this key its value, spelled as it is there; it overrides the file."""
    names = [part for part in location[:2] if isinstance(part, str)]
    wanted = {"_".join((ENVIRONMENT_PREFIX.rstrip("_"), *names[:count])).upper() for count in range(1, len(names) + 1)}
    return next((name for name in os.environ if name.upper() in wanted), None)


def _without_kind(location: tuple[int | str, ...]) -> tuple[tuple[int | str, ...], str]:
    """The place as it was written, and the kind of the destination there, which pydantic puts into the place."""
    if location[0] == "destinations" and len(location) > 2:
        return (*location[:2], *location[3:]), str(location[2])
    return location, ""


def _allowed_keys(location: tuple[int | str, ...], kind: str) -> list[str]:
    fields = Settings.model_fields
    if len(location) == 1:
        return list(fields)
    section = DESTINATION_KINDS.get(kind) or section_of(fields[str(location[0])].annotation)
    for part in location[1:-1]:
        if section is not None and part in section.model_fields:
            section = section_of(section.model_fields[str(part)].annotation)
    return list(section.model_fields) if section is not None else []


def section_of(annotation: Any) -> type[Section] | None:  # noqa: ANN401 - any annotation
    """Return the section that a field holds: itself, or None, or in a list; None where it holds none."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next((found for part in get_args(annotation) if (found := section_of(part)) is not None), None)
