"""The lock, `requirements/`: whole, true to pyproject.toml, and the same wherever it is installed.

`make lock` writes it; that what is in it works, all other tests say.
"""

import importlib.metadata
import itertools
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
GROUPS = PYPROJECT["dependency-groups"]
FILES = ("run-time", "dev", "build", "audit")

Environment = dict[str, str]


def group(name: str) -> Iterator[str]:
    """Yield what a dependency group asks for (PEP 735)."""
    for each in GROUPS[name]:
        if isinstance(each, str):
            yield each
        else:
            yield from group(each["include-group"])


RUN_TIME = [*PROJECT["dependencies"], *itertools.chain(*PROJECT["optional-dependencies"].values())]
ASKED = {
    "run-time": RUN_TIME,
    "dev": [*RUN_TIME, *group("dev")],
    "build": list(group("build")),
    "audit": list(group("audit")),
}
"""What each file has to satisfy."""


def lines(file: str) -> list[str]:
    """Return the logical lines of a file, without comments."""
    text = (ROOT / "requirements" / f"{file}.txt").read_text()
    whole = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", "")
    return [line for line in whole.splitlines() if line.strip()]


def pins(file: str) -> list[Requirement]:
    return [Requirement(line.partition("--hash=")[0]) for line in lines(file)]


def supported() -> Iterator[Environment]:
    """Yield the environments that the project says it runs in."""
    versions = re.findall(r"Python :: (3\.\d+)$", "\n".join(PROJECT["classifiers"]), re.MULTILINE)
    assert versions
    kinds = {"linux": ("Linux", ("x86_64", "aarch64")), "darwin": ("Darwin", ("x86_64", "arm64"))}
    for version, (platform, (system, machines)) in itertools.product(versions, kinds.items()):
        for machine in machines:
            yield {
                "implementation_name": "cpython",
                "implementation_version": f"{version}.0",
                "os_name": "posix",
                "platform_machine": machine,
                "platform_python_implementation": "CPython",
                "platform_release": "",
                "platform_system": system,
                "platform_version": "",
                "python_full_version": f"{version}.0",
                "python_version": version,
                "sys_platform": platform,
            }


def applies(requirement: Requirement, environment: Environment, extra: str = "") -> bool:
    marker = requirement.marker
    return marker is None or marker.evaluate({**environment, "extra": extra})


def chosen(file: str, environment: Environment) -> dict[str, str]:
    """Return the version of each package that a file installs in an environment."""
    found: dict[str, str] = {}
    for pin in pins(file):
        if applies(pin, environment):
            name = canonicalize_name(pin.name)
            assert name not in found, f"{name} is there twice"
            found[name] = next(iter(pin.specifier)).version
    return found


def unmet(
    asked: Iterable[str], versions: Mapping[str, str], environment: Environment, extra: str = ""
) -> list[str]:
    """Return the requirements that apply in an environment, and that no version satisfies."""
    requirements = [each for each in map(Requirement, asked) if applies(each, environment, extra)]
    return [
        str(each)
        for each in requirements
        if (version := versions.get(canonicalize_name(each.name))) is None
        or not each.specifier.contains(version, prereleases=True)
    ]


@pytest.mark.parametrize("file", FILES)
def test_it_satisfies_what_pyproject_asks_for_on_every_python_and_platform(file: str) -> None:
    """Otherwise: `make lock`."""
    for environment in supported():
        assert unmet(ASKED[file], chosen(file, environment), environment) == []


@pytest.mark.parametrize("file", FILES)
def test_each_line_is_one_version_and_its_hashes_and_names_no_place(file: str) -> None:
    """An index, a mirror or a path would be that of whoever wrote the lock."""
    line = re.compile(r"[a-z0-9.-]+==[^\s;*]+( ; [^@:]+)?(\s+--hash=sha256:[0-9a-f]{64})+\s*")
    assert [each for each in lines(file) if not line.fullmatch(each)] == []
    assert "://" not in (ROOT / "requirements" / f"{file}.txt").read_text()


@pytest.mark.parametrize("file", ["run-time", "build"])
def test_what_is_deployed_is_what_is_tested(file: str) -> None:
    told = {line.partition("==")[0]: line.split() for line in lines("dev")}
    assert {line.partition("==")[0]: line.split() for line in lines(file)}.items() <= told.items()


def test_the_tests_build_with_what_a_build_asks_for() -> None:
    assert list(group("build")) == PYPROJECT["build-system"]["requires"]


@pytest.mark.parametrize("file", ["run-time", "dev", "build"])
def test_nothing_that_a_package_of_it_needs_is_missing(file: str) -> None:
    """As `--no-deps` takes it on trust. Extras are those that somebody in the lock asks for."""
    environment: Any = default_environment()
    versions = chosen(file, environment)
    installed = {canonicalize_name(each.name): each for each in importlib.metadata.distributions()}
    if not versions.items() <= {name: each.version for name, each in installed.items()}.items():
        pytest.skip("these tests do not run with what is locked")

    needed = {name: each.requires or [] for name, each in installed.items() if name in versions}
    extras = {
        (canonicalize_name(each.name), extra)
        for each in map(Requirement, [*ASKED[file], *itertools.chain(*needed.values())])
        if applies(each, environment)
        for extra in each.extras
    }
    for name, extra in {*((name, "") for name in needed), *extras}:
        assert unmet(needed[name], versions, environment, extra) == [], f"{name}[{extra}]"
