"""Settings: their errors, and that the documents say what the classes say."""

import ipaddress
import os
import re
from pathlib import Path

import pytest
from pydantic.fields import FieldInfo

from signal_pipeline.errors import SettingsError
from signal_pipeline.settings import AppSettings, Settings, load_settings, misspelt_names

ROOT = Path(__file__).parents[1]


def fields() -> dict[str, FieldInfo]:
    """Every variable and its field."""
    groups = [field.annotation for field in Settings.model_fields.values()]
    return {name.upper(): field for group in groups for name, field in group.model_fields.items()}  # type: ignore[union-attr]


def test_the_example_file_has_every_setting_with_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    found = dict(line.removeprefix("#").split("=", 1) for line in lines if re.fullmatch(r"#[A-Z_]+=.*", line))
    assert list(found) == list(fields())
    monkeypatch.delenv("PICTURES_PER_RUN")  # the tests' own
    before = load_settings()
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    assert load_settings() == before


def test_the_example_file_and_the_readme_give_each_setting_its_meaning() -> None:
    example = (ROOT / ".env.example").read_text()
    readme = (ROOT / "README.md").read_text()
    for name, field in fields().items():
        assert f"# {field.description}\n#{name}=" in example
        assert re.search(rf"\| `{name}` \| .* \| {re.escape(field.description or '')} \|", readme)


def test_all_bad_variables_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CSV_BATCH_SIZE", "0")
    monkeypatch.setenv("CLAIM_STRATEGY", "s3")
    with pytest.raises(SettingsError, match=r"(?s)CSV_BATCH_SIZE.*'0'.*CLAIM_STRATEGY"):
        load_settings()


def test_a_bad_url_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:hunter2@h/d")
    assert "hunter2" not in repr(load_settings())


def test_the_exporter_listens_to_its_own_machine_unless_told_otherwise() -> None:
    assert ipaddress.ip_address(Settings().metrics.metrics_host).is_loopback


def test_production_must_name_database_and_data_roots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_ENVIRONMENT", "production")
    with pytest.raises(SettingsError, match="needs DATABASE_URL and DATA_ROOTS"):
        load_settings()


def test_an_empty_variable_means_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in fields():
        monkeypatch.delenv(name, raising=False)
    before = load_settings()
    for name in fields():
        monkeypatch.setenv(name, "")
    assert load_settings() == before


NUMBERS = sorted(name for name, field in fields().items() if field.annotation in (float, float | None))


@pytest.mark.parametrize("value", ["inf", "-inf", "nan"])
@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_that_is_none_is_refused_at_start(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=name):
        load_settings()


@pytest.mark.parametrize("bands", ["0-40,80", "40-0", "0-inf", "0-1,1-2,2-3,3-4,4-5,5-6", "a-b"])
def test_bands_that_are_none_are_refused(monkeypatch: pytest.MonkeyPatch, bands: str) -> None:
    monkeypatch.setenv("FEATURE_BANDS_HZ", bands)
    with pytest.raises(SettingsError, match="FEATURE_BANDS_HZ"):
        load_settings()


def test_a_file_that_is_no_text_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_bytes("CLAIM_STRATEGY=s1\n".encode("utf-16"))
    for group in (field.annotation for field in Settings.model_fields.values()):
        monkeypatch.setitem(group.model_config, "env_file", str(tmp_path / ".env"))  # type: ignore[union-attr]
    with pytest.raises(SettingsError, match=r"\.env cannot be read"):
        load_settings()


def use_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for group in (field.annotation for field in Settings.model_fields.values()):
        monkeypatch.setitem(group.model_config, "env_file", str(path))  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ('LOG_LEVEL=DEBUG\n\nDATABASE_URL="postgresql://u:hunter2@h/d\n', 3),
        ("DATABASE_URL='postgresql://u:hunter2@h/d\nLOG_LEVEL='DEBUG'\n", 1),
        ('DATABASE_URL="postgresql://u:hunter2@h/d" hunter2\n', 1),
        ("# a comment\nDATABASE_URL postgresql://u:hunter2@h/d\n", 2),
    ],
)
def test_a_line_that_cannot_be_read_is_an_error_and_not_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, line: int
) -> None:
    """It loaded into a new, embedded database."""
    (tmp_path / ".env").write_text(content)
    use_file(tmp_path / ".env", monkeypatch)
    with pytest.raises(SettingsError, match=rf"\.env, line {line} is no NAME=value") as caught:
        load_settings()
    assert "hunter2" not in str(caught.value)


def test_the_lines_that_a_file_may_hold_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text(
        "# a comment\n\nexport CLAIM_STRATEGY=s1\nOTHERS=\"two\nlines\"\nA='b' # c\nLOG_LEVEL = 'DEBUG'\r\nALONE\n"
    )
    use_file(tmp_path / ".env", monkeypatch)
    assert load_settings().claims.claim_strategy == "s1"


def test_a_mark_before_the_first_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("\ufeffDATABASE_URL=postgresql://h/d\n")
    use_file(tmp_path / ".env", monkeypatch)
    with pytest.raises(SettingsError, match="byte order mark"):
        load_settings()


def test_a_pipe_as_the_file_is_refused_without_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / ".env")
    use_file(tmp_path / ".env", monkeypatch)
    with pytest.raises(SettingsError, match="pipe"):
        load_settings()


def test_a_misspelt_name_in_the_file_is_named_and_those_of_other_programs_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text(
        "CLAIM_BATCH_SISE=5\nDATABASEURL=x\nCLAIM_STRATEGY=s1\nAWS_REGION=eu\nDAGSTER_HOME=/x\n"
    )
    monkeypatch.setitem(AppSettings.model_config, "env_file", str(tmp_path / ".env"))
    lines = misspelt_names()
    assert [line.split()[1] for line in lines] == ["CLAIM_BATCH_SISE", "DATABASEURL"]
    assert "did you mean CLAIM_BATCH_SIZE?" in lines[0]
    assert "did you mean DATABASE_URL?" in lines[1]
