"""What the README and the documentation tell their readers to run, run."""

import functools
import re
import shlex
import shutil
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.scripts import ROOT, assert_succeeded, run_python

SHELLS = {"bash", "sh", "shell", "console"}
INSTALL = "pip install -c constraints.txt -e "
_FENCE = re.compile(
    r"^(?P<indent> *)(?P<fence>`{3,}|~{3,})(?P<info>[^\n]*)\n(?P<body>.*?)^ *(?P=fence) *$", re.M | re.S
)


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    page: str
    line: int
    language: str
    text: str


def _blocks(*pages):
    found = []
    for page in pages:
        content = page.read_text(encoding="utf-8")
        for match in _FENCE.finditer(content):
            line = content.count("\n", 0, match.start()) + 1
            language = match["info"].strip().partition(" ")[0]
            text = textwrap.dedent(match["body"])
            found.append(Block(page.relative_to(ROOT).as_posix(), line, language, text))
    return found


PAGES = [page for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md") if page.exists()]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
BLOCKS = _blocks(*PAGES)


def _commands(block):
    """The commands of a shell block: lines joined at backslashes, without prompts, output and comments."""
    lines = re.sub(r"\\\n", " ", block.text).splitlines()
    if block.language == "console":
        lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    lines = [re.sub(r"(^|\s)#.*", "", line).strip() for line in lines]
    return [line for line in lines if line]


COMMANDS = [
    pytest.param(command, id=f"{block.page}:{block.line}: {command}")
    for block in BLOCKS
    if block.language in SHELLS
    for command in _commands(block)
]


# --- Python ------------------------------------------------------------------------------------------------


def test_readme_shows_the_three_uses():
    readme = [block for block in BLOCKS if block.page == "README.md" and block.language == "python"]
    assert len(readme) >= 3


def _case(block):
    # Each cluster of Ray takes both processors, so those who start one run one after the other.
    starts_ray = re.search(r"\bray\.init\(|make_ray_curriculum\(", block.text)
    marks = [pytest.mark.xdist_group("ray")] if starts_ray else []
    return pytest.param(block, id=f"{block.page}:{block.line}", marks=marks)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("block", [_case(block) for block in BLOCKS if block.language == "python"])
def test_python_block_runs(block, tmp_path):
    script = tmp_path / "block.py"
    script.write_text(block.text, encoding="utf-8")
    assert_succeeded(run_python([script], cwd=tmp_path, timeout=160))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_python_hides_under_another_label(page):
    for block in _blocks(page):
        if block.language != "python" and block.language not in SHELLS:
            assert not re.search(r"^\s*(import|from) \w", block.text, re.M), f"line {block.line}"


_LINK = re.compile(r"\]\((?!https?://|mailto:)([^()\s#]*)(?:#([\w-]+))?\)")


def _anchors(page):
    """What links within a page may name: its headings, as Markdown renderers write them."""
    headings = re.findall(r"^#+ +(.*)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: page.name)
def test_links_within_the_repository_lead_somewhere(page):
    for path, anchor in _LINK.findall(page.read_text(encoding="utf-8")):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{path} is nowhere"
        assert target.is_relative_to(ROOT)
        assert not anchor or anchor in _anchors(target), f"{path} has no heading #{anchor}"


# --- Commands ----------------------------------------------------------------------------------------------


@functools.cache
def _macurr_help(*words):
    code = "import sys; from macurr.cli import main; sys.exit(main())"
    result = run_python(["-c", code, *words, "--help"], cwd=ROOT)
    assert_succeeded(result)
    return result.stdout


def _check_macurr(arguments):
    sub_command = arguments[:1] if arguments and not arguments[0].startswith("-") else []
    text = _macurr_help(*sub_command)
    for option in (word.partition("=")[0] for word in arguments if word.startswith("--")):
        assert re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", text), f"{option} is no option"


def _check(words):
    """One command without its `&&`s: what it calls exists, and takes the options given."""
    program, *arguments = words
    if program == "macurr":
        _check_macurr(arguments)
    elif program == "python":
        (script,) = [word for word in arguments if word.endswith(".py")]
        assert (ROOT / script).is_file()
    else:
        beside_python = str(Path(sys.executable).parent)
        known = shutil.which(program, path=beside_python) or shutil.which(program)
        assert known or (ROOT / program).is_file() or program == "cd", f"{program} is no command"


@pytest.mark.parametrize("command", COMMANDS)
def test_command_exists(command):
    for part in command.split("&&"):
        _check(shlex.split(part))


def _automated():
    """What continuous integration runs."""
    files = [ROOT / ".ci" / "run", *sorted((ROOT / ".github" / "workflows").glob("*.yml"))]
    return "\n".join(path.read_text(encoding="utf-8") for path in files)


def test_set_up_commands_are_run_by_continuous_integration():
    commands = [
        c.values[0] for c in COMMANDS if c.id.startswith("README.md:") and c.values[0].startswith(INSTALL)
    ]
    assert any("train" in command for command in commands)
    assert any("pytest" in command for command in commands)
    for command in commands:
        assert command in _automated()
