"""What the command does where one of the libraries that it needs is missing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import pytest
from lab import Lab
from lab.command import REPOSITORY, Result

pytestmark = pytest.mark.kernel

PACKAGES = {
    "jinja2": "python3-jinja2 (with pip: Jinja2)",
    "jsonschema": "python3-jsonschema (with pip: jsonschema)",
    "pyroute2": "python3-pyroute2 (with pip: pyroute2)",
    "yaml": "python3-yaml (with pip: PyYAML)",
}
# Each command, with what it needs where a stanza is saved; `remove` comes last.
COMMANDS = {
    "--help": (),
    "plan": ("pyroute2", "jinja2"),
    "apply": ("pyroute2", "jinja2"),
    "apply --again": ("pyroute2", "jinja2"),
    "apply --config FILE": ("pyroute2", "jinja2", "jsonschema", "yaml"),
    "render --renderer ifupdown": ("pyroute2", "jinja2"),
    "status": ("pyroute2",),
    "check": ("pyroute2", "jinja2"),
    "explain --from 10.13.96.161": ("pyroute2",),
    "watch --seconds 0.1": ("pyroute2",),
    "validate FILE": ("jsonschema", "yaml"),
    "remove --files-only": (),
    "remove": ("pyroute2",),
}
Run = Callable[..., Result]


@pytest.fixture()
def without(server, lab: Lab) -> Iterator[Run]:
    """Runs the command where it is applied already, in a Python that lacks some modules."""
    cloud, command = server(stanza={"renderer": "ifupdown"})
    command.ok("apply")
    file = command.config
    command.configure(None)

    def run(words: str, *modules: str) -> Result:
        program = (
            f"import sys; sys.modules.update(dict.fromkeys({modules}))\n"
            "from cc_source_routing.cli.main import main; sys.exit(main())"
        )
        argv = [str(file) if word == "FILE" else word for word in words.split()]
        done = lab.run(
            "S",
            *(sys.executable, "-c", program, *command.argv(*argv)),
            check=False,
            env={"PYTHONPATH": str(REPOSITORY)},
        )
        return Result(done.returncode, done.stdout, done.stderr)

    return run


@pytest.mark.parametrize("module", PACKAGES)
def test_who_needs_it_says_what_to_install_and_others_go_on(module: str, without: Run):
    install = f"source-routing: the Python module {module} is missing; install {PACKAGES[module]}\n"
    for words, needs in COMMANDS.items():
        done = without(words, module)
        assert "Traceback" not in done.err
        assert done.err.endswith(install) if module in needs else install not in done.err, words
        assert done.code == (module in needs), (words, done)


def test_an_event_needs_no_validator_and_no_yaml(without: Run, lab: Lab):
    lab.ip("S", "rule", "del", "priority", "5030")
    assert "1 change" in without("apply --again", "jsonschema", "yaml").out
