#!/usr/bin/env python3
"""Follow the tutorials as a new user would: run their commands exactly as printed, with nothing but Python at hand.

    python docs/run_tutorials.py [--write]

The pages are those of docs/tutorials/index.md, in this order and in one shell. The first one starts in a copy of the
sources, without environments and build products, and installs ekfcore; each of the others starts in an empty folder. On
a page

- a block ``console`` is commands, one a line, and every one of them must succeed;
- a ``{code-block}`` with a ``:caption:`` is a file of that name, written when its turn comes;
- a block ``text`` right after commands is what the last of them prints. Numbers and spaces may differ, nothing else
  may; a line ``...`` stands for any lines. With --write the page gets what was printed just now;
- everything else, a block ``sh`` for one, is left alone. Examples for doctest and the scripts in docs/examples are run
  by the tests.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parents[1]
UNWANTED = (".*", "build", "dist", "_build", "*.egg-info", "__pycache__")
INDEX = re.compile(r"^```\{toctree\}\n(?::.*\n)*\n((?:.+\n)+)```", re.MULTILINE)
FENCE = re.compile(r"^```(\{code-block\}|\w+).*\n((?::.*\n)*)\n?((?:.*\n)*?)```$", re.MULTILINE)
CAPTION = re.compile(r":caption: (\S+)")
NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")
MARK = "\036"


@dataclass
class Step:
    """A command or a file, and what the page shows for the output of the command, from `begin` to `end` in its text."""

    script: str
    is_file: bool = False
    shown: str | None = None
    begin: int = 0
    end: int = 0


class Shell:
    """A shell that runs scripts one after the other and keeps its folder and its variables."""

    def __init__(self, folder: Path) -> None:
        hidden = ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")
        environment = {name: value for name, value in os.environ.items() if name not in hidden}
        # python3 is the interpreter that runs this, which is new enough
        environment["PATH"] = f"{Path(sys.executable).resolve().parent}{os.pathsep}{os.environ['PATH']}"
        self.process = subprocess.Popen(
            ["bash"], cwd=folder, env=environment, text=True, encoding="utf-8",
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def __enter__(self) -> "Shell":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.process.kill()
        self.process.communicate()

    def run(self, script: str) -> tuple[int, str]:
        """Return exit code and output of a script."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{{ {script}\n}} < /dev/null\nprintf '{MARK}%s\\n' $?\n")
        self.process.stdin.flush()
        printed = ""
        while MARK not in printed:
            if not (line := self.process.stdout.readline()):
                return 1, f"{printed}\nThe shell has ended."
            printed += line
        output, _, code = printed.partition(MARK)
        return int(code), output


def tutorials(docs: Path) -> list[Path]:
    """Return the pages in the order of the index."""
    index = docs / "tutorials" / "index.md"
    if not (found := INDEX.search(index.read_text("utf-8"))):
        sys.exit(f"{index} has no toctree")
    return [docs / f"{name[1:]}.md" if name[0] == "/" else index.parent / f"{name}.md" for name in found[1].split()]


def steps(text: str) -> Iterator[Step]:
    """Yield what a page tells its reader to do."""
    last: Step | None = None
    for block in FENCE.finditer(text):
        kind, options, inside = block.groups()
        if kind == "text" and last is not None:
            last.shown, last.begin, last.end = inside, block.start(3), block.end(3)
        if last is not None:
            yield last
            last = None
        if kind == "console":
            *before, command = re.split(r"(?<!\\)\n", inside.strip())
            yield from map(Step, before)
            last = Step(command)
        elif caption := CAPTION.search(options):
            yield Step(f"cat > {caption[1]} <<'{MARK}'\n{inside}{MARK}", is_file=True)
    if last is not None:
        yield last


def agrees(shown: str, printed: str) -> bool:
    """Tell whether a command printed what a page shows, numbers and spaces aside."""
    lines = ["(?:.*\n)*" if line == "..." else re.escape(line) + "\n" for line in shape(shown)]
    return re.fullmatch("".join(lines), "".join(f"{line}\n" for line in shape(printed))) is not None


def shape(text: str) -> list[str]:
    """Return the lines of a text without its numbers and with single spaces."""
    return [" ".join(NUMBER.sub("#", line).split()) for line in text.strip().splitlines()]


def follow(page: Path, shell: Shell, *, write: bool = False) -> None:
    """Do what a page says; leave with page, command and output when something is not as it says."""
    text = page.read_text("utf-8")
    todo, changes = list(steps(text)), list[tuple[Step, str]]()
    if all(step.is_file for step in todo):
        if not any(example in text for example in (">>> ", "../examples/")):
            sys.exit(f"{page}: no commands, and no examples; take it out of the tutorials")
        print(f"{page.name}: nothing but examples, which the tests run", flush=True)
    for step in todo:
        began = time.monotonic()
        code, printed = shell.run(step.script)
        if not step.is_file:
            print(f"{page.name} [{time.monotonic() - began:3.0f} s] {step.script}", flush=True)
        if code:
            sys.exit(f"{page}: failed with code {code}:\n{step.script}\n{printed}")
        if step.shown is None:
            continue
        if write and "..." not in step.shown:
            changes.append((step, printed))
        elif not agrees(step.shown, printed):
            sys.exit(f"{page}: shows for\n{step.script}\n\n{step.shown}\nbut this was printed:\n\n{printed}")
    for step, printed in reversed(changes):
        text = text[: step.begin] + printed.strip("\n") + "\n" + text[step.end :]
    if changes:
        page.write_text(text, "utf-8")


def main(pages: Sequence[Path], *, write: bool) -> None:
    """Follow the pages in a temporary folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(ROOT, folder / "ekfcore", ignore=shutil.ignore_patterns(*UNWANTED))
        with Shell(folder / "ekfcore") as shell:
            for index, page in enumerate(pages):
                if index:
                    (folder / page.stem).mkdir()
                    shell.run(f"cd {folder / page.stem}")
                follow(page, shell, write=write)


if __name__ == "__main__":
    main(tutorials(ROOT / "docs"), write="--write" in sys.argv[1:])
