"""Follows a page of the documentation: runs its code blocks from top to bottom, as a reader would.

Blocks of `python` share one namespace, blocks of `sh` or `bash` the working directory. Comments in a page, which
readers do not see, say what a block needs:

    <!-- invisible-code: python          code (or sh) that is run and not shown, such as files that the page needs
    ...
    -->
    <!-- not run: it needs a network --> the next block is checked only: it compiles, its commands and options exist
    <!-- needs: torch -->                from here on blocks are checked only, unless these modules are installed

What a line of `sh` does: `crossrank` runs in this process; `crossrank serve` is checked, because a service does not
end (nothing may follow it in its block); `curl localhost:8000` asks a service of the session; `pip install` and
`make` are checked against pyproject.toml and the Makefile; everything else goes to bash.
"""

from __future__ import annotations

import functools
import importlib.util
import itertools
import re
import shlex
import subprocess
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer.main
from packaging.requirements import Requirement
from sybil import Sybil
from sybil.parsers.abstract.lexers import LexerCollection
from sybil.parsers.markdown import CodeBlockParser
from sybil.parsers.markdown.lexers import DirectiveInHTMLCommentLexer
from typer.testing import CliRunner

from crossrank.cli.app import app

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from sybil import Document, Example, Region

ROOT = Path(__file__).parents[2]
SERVICE = "localhost:8000"
_BASH_SYNTAX = re.compile(r"(?<!\\)[|<>;`]|\$\(|&&|^(for|if|while|cat|echo|mkdir|cd|export|#)\b")


class PageError(AssertionError):
    """A block does not do what the page says."""


@dataclass
class Page:
    """A page while it is followed.

    Attributes:
        service: gives the address of a running service when it is first asked for.
        checked_only: why blocks from here on are not run; empty while they are.
        next_checked_only: why the next block is not run.
        ran: how many blocks ran, and were checked only.
    """

    service: Callable[[], str]
    checked_only: str = ""
    next_checked_only: str = ""
    ran: list[str] = field(default_factory=list)

    def follow(self, path: Path) -> None:
        """Run the page's blocks in order.

        Args:
            path: of the Markdown file.

        Raises:
            PageError: a command fails, or does not exist.
        """
        parsers = [
            CodeBlockParser("python", self._python),
            CodeBlockParser("sh", self._shell),
            CodeBlockParser("bash", self._shell),
            self._directives,
        ]
        for example in Sybil(parsers=parsers, encoding="utf-8").parse(path).examples():
            example.evaluate()

    def _directives(self, document: Document) -> Iterable[Region]:
        lexer = DirectiveInHTMLCommentLexer(directive="not run|needs")
        for region in LexerCollection([lexer])(document):
            region.evaluator = self._directive
            yield region

    def _directive(self, example: Example) -> None:
        lexemes = example.region.lexemes
        if lexemes["directive"] == "not run":
            self.next_checked_only = lexemes["arguments"]
        else:
            missing = [name for name in re.split(r"[,\s]+", lexemes["arguments"].strip()) if not installed(name)]
            self.checked_only = self.checked_only or f"not installed: {missing}" * bool(missing)

    def _take_reason(self) -> str:
        reason, self.next_checked_only = self.checked_only or self.next_checked_only, ""
        return reason

    def _python(self, example: Example) -> None:
        lines = "\n" * (example.line + example.parsed.line_offset)
        code = compile(lines + example.parsed, example.path, "exec", dont_inherit=True)
        if not self._take_reason():
            exec(code, example.namespace)
            self.ran.append("python")

    def _shell(self, example: Example) -> None:
        reason = self._take_reason()
        listed = list(commands(example.parsed))
        for command in listed[:-1]:
            if serves_in_foreground(command):
                raise PageError(f"{example.path}:{example.line}: {command}\ndoes not end; what follows needs a block")
        for command in listed:
            try:
                check_command(command)
                if not reason:
                    self._run(command)
            except PageError as error:
                raise PageError(f"{example.path}:{example.line}: {command}\n{error}") from None

    def _run(self, command: str) -> None:
        words = shlex.split(command, comments=True)
        if words[0] == "curl":
            # A reader sees an error's status in the answer; here it has to fail the page.
            command = re.sub(r"\bcurl ", "curl --fail-with-body ", command).replace(SERVICE, self.service())
        elif words[0] in {"pip", "make"} or serves(words):
            return
        elif words[0] == "crossrank" and not _BASH_SYNTAX.search(command):
            result = CliRunner().invoke(app, words[1:])
            if result.exit_code:
                raise PageError(f"exit code {result.exit_code}: {result.output}{result.stderr}")
            self.ran.append("crossrank")
            return
        done = subprocess.run(["bash", "-ec", command], capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            raise PageError(f"exit code {done.returncode}: {done.stdout}{done.stderr}")
        self.ran.append(words[0])


def serves(words: list[str]) -> bool:
    """Whether a command is a service, which does not end by itself."""
    return words[:2] == ["crossrank", "serve"] and not {"--check", "--help"} & set(words)


def serves_in_foreground(command: str) -> bool:
    """Whether a shell would not come to the next line before the service ends."""
    words = shlex.split(command, comments=True)
    last = next((at for at in reversed(range(len(words))) if words[at] in {"&&", ";"}), -1)
    return serves(words[last + 1 :]) and words[-1] != "&"


def installed(module: str) -> bool:
    """Whether a module can be imported here."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def commands(block: str) -> Iterator[str]:
    """The commands of a block: lines, joined where a quotation, a backslash or a here-document goes on."""
    lines = iter(block.splitlines())
    for line in lines:
        command = line
        while command.endswith("\\") or not _closed(command):
            command += "\n" + next(lines)
        if here := re.search(r"<<\s*'?(\w+)'?\s*$", command):
            for more in lines:
                command += "\n" + more
                if more == here[1]:
                    break
        if shlex.split(command, comments=True):
            yield command


def _closed(command: str) -> bool:
    try:
        shlex.split(command, comments=True)
    except ValueError:
        return False
    return True


def check_command(command: str) -> None:
    """Check that what a command names exists: commands and options, extras, targets.

    Raises:
        PageError: it does not.
    """
    for part in re.split(r"&&|\||;", command.partition("<<")[0]):
        words = shlex.split(part, comments=True) if _closed(part) else []  # else the mark was part of a quotation
        if words[:1] == ["crossrank"]:
            check_options(list(itertools.takewhile(lambda word: word not in {">", "2>", "<", "&"}, words[1:])))
        elif words[:2] == ["pip", "install"]:
            check_extras(words[2:])
        elif words[:1] == ["make"] and words[1:]:
            check_target(words[1])


def check_options(arguments: list[str]) -> None:
    """Parse the arguments of `crossrank` as the program does, without running a command."""
    try:
        _program_that_does_nothing().main(list(arguments), prog_name="crossrank", standalone_mode=False)
    except SystemExit as end:  # of an option that does something by itself
        if end.code:
            raise PageError(f"exit code {end.code}") from None
    except Exception as error:
        raise PageError(f"{type(error).__name__}: {getattr(error, 'message', error)}") from None


@functools.cache
def _program_that_does_nothing() -> Any:
    program = typer.main.get_command(app)
    groups = [program]
    while groups:
        for command in groups.pop().commands.values():
            if hasattr(command, "commands"):
                groups.append(command)
            else:
                command.callback = lambda **_: None
    return program


@functools.cache
def _project() -> Any:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def check_extras(arguments: list[str]) -> None:
    """Check that the extras of crossrank that pip is asked for exist."""
    for argument in arguments:
        if not argument.startswith("crossrank"):
            continue
        unknown = Requirement(argument).extras - _project()["optional-dependencies"].keys()
        if unknown:
            raise PageError(f"no such extras: {sorted(unknown)}")


def check_target(target: str) -> None:
    """Check that the Makefile has a target."""
    if not re.search(rf"^{re.escape(target)}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE):
        raise PageError(f"no target {target} in the Makefile")
