"""What comes in from outside and what goes out: the lock's hashes and sources, and no secret in the repository."""

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from signal_pipeline_tests.hostile.audit import verdict

ROOT = Path(__file__).parents[2]
LOCK = tomllib.loads((ROOT / "uv.lock").read_text())

PUBLIC_INDEX = "https://pypi.org/simple"
PUBLIC_FILES = "https://files.pythonhosted.org/packages/"

SECRETS = {
    "a private key": re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "a key of AWS": re.compile(rb"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a token of GitHub": re.compile(rb"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{60,})\b"),
    "a token of GitLab": re.compile(rb"\bglpat-[A-Za-z0-9_-]{20}\b"),
    "a token of PyPI": re.compile(rb"\bpypi-AgEI[A-Za-z0-9_-]{50,}"),
    "a token of Slack": re.compile(rb"\bxox[abprs]-[A-Za-z0-9-]{10,}"),
    "a key of Google": re.compile(rb"\bAIza[0-9A-Za-z_-]{35}\b"),
    "a signed web token": re.compile(rb"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"),
    "a password in a URL": re.compile(rb"\b[a-z][a-z0-9+]*://[^\s:/@'\"`<>{}|]+:([^\s:/@'\"`<>{}|]{3,})@([\w.-]+)"),
    "a private address": re.compile(rb"\b(?:10\.\d{1,3}|172\.(?:1[6-9]|2\d|3[01])|192\.168)\.\d{1,3}\.\d{1,3}\b"),
    "a private host": re.compile(rb"\b(?!example\.)[a-z0-9-]+\.(?:corp|intranet|lan|internal)\b(?!\()"),
}
"""A small list, honest about being small: what leaks most often. It cannot know a password by its looks."""

EXAMPLES = {
    b"password",
    b"secret",
    b"hunter2",
    b"s3cr3t",
    b"pw",
    b"...",
}
"""Passwords of examples and tests, with which a URL may be written down; and so may any for a host named `h`."""

NAMESPACES_OF_THE_TESTS = re.compile(rb"10\.99\.\d+\.\d+")
"""Addresses that exist only in network namespaces which the tests make."""


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout: nobody knows which files are the repository's")
    return [ROOT / name for name in listed.stdout.decode().split("\0") if name]


def artefacts(package: dict[str, Any]) -> list[dict[str, Any]]:
    return [*package.get("wheels", []), *([package["sdist"]] if "sdist" in package else [])]


def test_every_package_of_the_lock_has_hashes() -> None:
    packages = [package for package in LOCK["package"] if "editable" not in package["source"]]
    assert len(packages) > 50
    for package in packages:
        assert artefacts(package), package["name"]
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", file["hash"]) for file in artefacts(package)), package["name"]


def test_the_lock_names_the_public_index_only() -> None:
    for package in LOCK["package"]:
        assert package["source"] in ({"registry": PUBLIC_INDEX}, {"editable": "."}), package["name"]
        assert all(file["url"].startswith(PUBLIC_FILES) for file in artefacts(package)), package["name"]


def findings(content: bytes) -> list[str]:
    found = []
    for what, pattern in SECRETS.items():
        for match in pattern.finditer(content):
            if NAMESPACES_OF_THE_TESTS.fullmatch(match[0]):
                continue
            if what == "a password in a URL" and (match[2] == b"h" or any(w in match[1].lower() for w in EXAMPLES)):
                continue
            found.append(f"{what}: {match[0][:60]!r}")
    return found


def test_no_secret_and_no_private_host_is_in_the_repository() -> None:
    found = {
        str(path.relative_to(ROOT)): findings(path.read_bytes())
        for path in tracked()
        if path.is_file() and path != Path(__file__)
    }
    assert {name: what for name, what in found.items() if what} == {}


def test_no_environment_file_is_in_the_repository() -> None:
    names = {path.name for path in tracked()}
    assert ".env" not in names
    assert not {name for name in names if name.endswith((".pem", ".key", ".p12", ".htpasswd", ".dump"))}


@pytest.mark.parametrize(
    "leak",
    [
        "-----BEGIN EC PRIVATE " + "KEY-----",
        "AKIA" + "ABCDEFGHIJKLMNOP",
        "ghp_" + "a" * 36,
        "postgresql://me:correct-horse@" + "db.example/plant",
        "http://192.168" + ".1.20:3000",
        "https://registry." + "corp/simple",
    ],
)
def test_the_search_finds_what_it_is_for(leak: str) -> None:
    assert len(findings(f"before {leak} after".encode())) == 1


def test_an_audit_that_could_not_ask_does_not_count_as_clean() -> None:
    clean = {"name": "a", "version": "1", "vulns": []}
    unasked = {"name": "b", "skip_reason": "Dependency not found on PyPI and could not be audited: b (1)"}
    flawed = {"name": "c", "version": "1", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2"]}]}
    assert verdict([clean]) == (0, "1 packages looked up, 0 flaws known")
    assert verdict([unasked, unasked])[0] == 2
    assert verdict([clean, unasked])[1].endswith("1 could not be looked up")
    code, said = verdict([clean, flawed])
    assert code == 1
    assert "c 1: PYSEC-1, mended in 2" in said
