"""A wrong key or value stops the start with its name, its value and what is allowed."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest
from typer.testing import CliRunner

from worker.cli.app import app
from worker.config.settings import ConfigurationError, load_settings
from worker.installation import Site


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXR_TRIAGE_CONFIG", raising=False)


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "site.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_are_those_of_the_documentation(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path)
    assert (settings.dicom.ae_title, settings.dicom.host, settings.dicom.port) == ("CXRTRIAGE", "0.0.0.0", 11112)
    assert (settings.web.host, settings.web.port) == ("127.0.0.1", 8080)
    assert settings.destinations == ()
    assert settings.database_url == f"sqlite:///{tmp_path / 'cxr-triage.sqlite'}"


def test_file_in_the_home_folder_is_read_without_being_named(tmp_path: Path) -> None:
    (tmp_path / "cxr-triage.toml").write_text("[dicom]\nport = 4000\n", encoding="utf-8")
    assert load_settings(home=tmp_path).dicom.port == 4000


def test_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXR_TRIAGE_DICOM_AE_TITLE", "OTHER")
    monkeypatch.setenv(
        "CXR_TRIAGE_DESTINATIONS", '[{"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 4242}]'
    )
    settings = load_settings(write(tmp_path, '[dicom]\nae_title = "FILE"\nport = 4001\n'), tmp_path)
    assert (settings.dicom.ae_title, settings.dicom.port) == ("OTHER", 4001)
    assert (settings.destinations[0].name, settings.destinations[0].kind) == ("pacs", "dicom")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[dicom]\nprot = 1\n", r"dicom\.prot: no such key; did you mean port\?.*allowed: ae_title, host, port"),
        ("[dciom]\nport = 1\n", r"dciom: no such key; did you mean dicom\?"),
        ("[dicom]\nport = 70000\n", r"dicom\.port: .*65535.*got 70000"),
        ('[dicom]\nae_title = "SEVENTEEN LETTERS"\n', r"dicom\.ae_title: .*16.*got 'SEVENTEEN LETTERS'"),
        ('[[destinations]]\nname = "a"\nhost = "h"\nport = 1\n', r"destinations\.0\.ae_title: Field required"),
        ('[[destinations]]\nnaem = "a"\n', r"destinations\.0\.naem: no such key; did you mean name\?"),
        ('[[destinations]]\nname = "a"\nkind = "fax"\n', r"destinations\.0\.kind: must be 'dicom' \(got 'fax'\)"),
        ('[[destinations]]\nname = "a"\nkind = ["dicom"]\n', r"destinations\.0\.kind: must be 'dicom' \(got"),
        (
            '[[destinations]]\n[destinations.tls]\nkee = "a"\n',
            r"destinations\.0\.tls\.kee: .*did you mean key\?",
        ),
        ("destinations = [3]\n", r"destinations\.0: .*DicomDestination.*got 3"),
        ('[reading]\nprecision = "f16"\n', r"reading\.precision: .*'auto', 'f32' or 'bf16'.*got 'f16'"),
        ("[dicom\n", r"cannot be read"),
        ("a = " + "[" * 5000, r"cannot be read: maximum recursion"),
        ("a = " + "9" * 5000, r"cannot be read: .*digits"),
        ("[dicom]\nport = true\n", r"dicom: port is true: a number is needed"),
        ('[dicom]\nhost = "a\\u0000b"\n', r"dicom: host is 'a\\x00b': a null character is not allowed"),
        *(
            (f'[dicom]\nallowed_callers = ["{each}"]\n', rf"dicom\.allowed_callers\.0: .*10\.1\.0\.0/16.*got '{each}'")
            for each in ("CT1@", "CT1@ct1.hospital", "CT1@10.0.0.0/33", "CT1@10.0.0.7:104")
        ),
        ("[storage]\nminimum_free_gigabytes = inf\n", r"minimum_free_gigabytes: .*finite number.*got inf"),
        ("[retention]\nrefusal_days = 1e12\n", r"refusal_days: .*less than or equal to 36525.*got 1"),
        ("[intake]\nmaximum_backlog = 99999999999999999999\n", r"maximum_backlog: .*less than or equal to 1000000000"),
        (
            '[database]\nurl = "mysql://u:secret@h/x"\n',
            r"\[database\] url: mysql is not supported; allowed are sqlite:///",
        ),
        ('[database]\nurl = "postgres"\n', r"\[database\] url: no scheme is not supported"),
        ('[broker]\nurl = "amqp://u:secret@h"\n', r"\[broker\] url: amqp is not supported; allowed are redis://"),
        ('[broker]\nurl = "redis://:secret@h:port/0"\n', r"\[broker\] url: redis, but its host or port is invalid"),
        (
            '[database]\nurl = "postgresql+psycopg://u:x@secret@h/x"\n',
            r"\[database\] url: .*more than one @: a password's @ is written %40",
        ),
        (
            '[broker]\nurl = "redis://h:6379/0?password=secret"\n',
            r"\[broker\] url: .*not known; allowed are none",
        ),
        ('[broker]\nurl = "rediss://h:6379/0?ssl=secret"\n', r"\[broker\] url: .*not known; allowed are ssl_ca_certs"),
        ('[broker]\nurl = "rediss://h:6379/0?ssl_cert_reqs=no"\n', r"\[broker\] url: .*allowed are none, optional"),
        ('[dicom]\ntimezone = "Europe/Berlinn"\n', r"dicom\.timezone: .*such as Europe/Berlin .got 'Europe/Berlinn'."),
        ('[dicom]\ntimezone = "Europe"\n', r"dicom\.timezone.*such as Europe/Berlin"),
        ('[dicom]\ntimezone = "../zones"\n', r"dicom\.timezone.*such as Europe/Berlin"),
    ],
)
def test_wrong_file_is_refused_with_what_is_allowed(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as refusal:
        load_settings(write(tmp_path, text), tmp_path)
    assert "secret" not in str(refusal.value)


def test_two_destinations_of_one_name_are_refused(tmp_path: Path) -> None:
    one = '[[destinations]]\nname = "p"\nae_title = "P"\nhost = "h"\nport = 1\n'
    with pytest.raises(ConfigurationError, match="names must differ"):
        load_settings(write(tmp_path, one + one), tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("CXR_TRIAGE_DIOCM_PORT", "no such section"),
        ("CXR_TRIAGE_DICOM_PROT", r"dicom\.prot: no such key; did you mean port"),
    ],
)
def test_misspelt_environment_variable_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(ConfigurationError, match=message):
        load_settings(home=tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [("CXR_TRIAGE_DESTINATIONS", '[{"name": '), ("CXR_TRIAGE_DICOM_ALLOWED_CALLERS", "CT1,CT2")],
)
def test_environment_that_is_no_json_is_refused_with_an_example(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=r"environment: .*written as JSON, such as CXR_TRIAGE_"):
        load_settings(home=tmp_path)


def test_wrong_variable_is_blamed_and_not_the_file_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXR_TRIAGE_DICOM_PORT", "eleven")
    path = write(tmp_path, '[dicom]\nport = 4000\nae_title = ""\n')
    with pytest.raises(ConfigurationError) as caught:
        load_settings(path, tmp_path)
    blamed_file, blamed_variable = str(caught.value).split(". environment variable ")
    assert blamed_file.startswith(f"configuration {path}: dicom.ae_title: ")
    assert blamed_variable.startswith("CXR_TRIAGE_DICOM_PORT: dicom.port: ")
    assert "'eleven'" in blamed_variable


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            'tag = "StationNmae"\nequals = "A"',
            r"gate\.rules\.0: tag 'StationNmae' is not a DICOM keyword; did you mean",
        ),
        ('tag = "StationName"\nequals = "A"\nmissing = true', r"gate\.rules\.0: rule 'r' has equals and missing"),
        (
            'tag = "StationName"\nequals = "A"\nrelaxs = ["size"]',
            r"gate\.rules\.0\.relaxs: no such key; did you mean",
        ),
    ],
)
def test_wrong_gate_rule_stops_the_start_and_is_named(tmp_path: Path, rule: str, message: str) -> None:
    path = write(tmp_path, f'[[gate.rules]]\nname = "r"\naction = "refuse"\n{rule}\n')
    with pytest.raises(ConfigurationError, match=message):
        load_settings(path, tmp_path)


def test_file_that_an_editor_began_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = tmp_path / "site.toml"
    path.write_bytes(b"\xef\xbb\xbf[dicom]\nport = 4000\n")
    assert load_settings(path, tmp_path).dicom.port == 4000


@pytest.mark.parametrize("name", ["with space", "ünï", "50%20#?a=b", "[red]"])
def test_database_lies_in_the_home_folder_whatever_its_name(tmp_path: Path, name: str) -> None:
    home = tmp_path / name
    assert Site(load_settings(home=home)).database.place
    assert (home / "cxr-triage.sqlite").is_file()


def test_named_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="does not exist"):
        load_settings(tmp_path / "none.toml", tmp_path)


SECRETS = """
[stow]
token = "s3cret"
[database]
url = "postgresql+psycopg://triage:s3cret@db/triage?password=s3cret"
[broker]
url = "rediss://:s3c@s3cret@broker:6379/0"
"""


def test_a_broker_password_without_its_colon_is_masked(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, '[broker]\nurl = "redis://s3cret@h:6379/0"\n'), tmp_path)
    assert str(settings.broker.url) == "redis://***@h:6379/0"


def test_nothing_secret_is_printed_with_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "cxr-triage.toml").write_text(SECRETS, encoding="utf-8")
    for more in ([], ["--json"]):
        printed = CliRunner().invoke(app, ["config", "--home", str(tmp_path), *more]).output
        assert "s3c" not in printed
        assert "postgresql+psycopg://triage:***@db/triage?password=***" in printed
        assert "rediss://:***@broker:6379/0" in printed
        assert "token" in printed


def test_nothing_secret_is_in_what_python_prints_of_the_settings(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, SECRETS), tmp_path)
    assert settings.database_url.startswith("postgresql+psycopg://triage:s3cret@")
    for shown in (repr(settings), str(settings.broker), settings.model_dump_json(), repr(Site(settings))):
        assert "s3c" not in shown


@pytest.mark.parametrize(
    "text",
    [
        "[stow]\ntoken = 5318008\n",
        '[stow]\ntoken = "5318008\\u0000"\n',
        '[broker]\nurl = ["redis://:5318008@h"]\n',
        '[broker]\nurl = "amqp://:5318008@h"\n',
        '[broker]\nurl = "redis://:5318008@h"\nurll = 1\n',
        'broker = "redis://:5318008@h"\n',
        'database = "postgresql+psycopg://u:5318008@h/x"\n',
        'stow = ["5318008"]\n',
    ],
)
def test_a_secret_that_is_refused_is_in_no_message_and_no_traceback(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        load_settings(write(tmp_path, text), tmp_path)
    assert "5318008" not in "".join(traceback.format_exception(refusal.value))


def test_address_that_is_none_stops_the_start_with_its_value(tmp_path: Path) -> None:
    (tmp_path / "cxr-triage.toml").write_text('[stow]\nallowed_addresses = ["10.0.0.0/99"]\n', encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"stow\.allowed_addresses.*10\.0\.0\.0/99"):
        load_settings(home=tmp_path)
