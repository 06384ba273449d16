"""The tutorials are followed by `make tutorials`; here is what sees to it that this would notice a mistake."""

import shutil
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="the tutorials are followed in bash")

ROOT = Path(__file__).resolve().parents[2]

_GOOD = """\
# A page

```{code-block} text
:caption: words.txt

one two
```

```sh
exit 3   # for the reader's eyes
```

```console
mkdir inner && cd inner
cat \\
    ../words.txt
echo 12 words in 3.4e-5 s
```

```text
7 words   in 1 s
```
"""


def _follow(runner: ModuleType, tmp_path: Path, text: str, *, write: bool = False) -> str:
    """Follow a page and return what became of its text."""
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    with runner.Shell(tmp_path) as shell:
        runner.follow(page, shell, write=write)
    return page.read_text(encoding="utf-8")


def test_good_page(runner: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Files are written, commands share one shell, numbers may differ."""
    assert _follow(runner, tmp_path, _GOOD) == _GOOD
    assert (tmp_path / "words.txt").read_text() == "one two\n"
    assert "page.md [  0 s] mkdir inner && cd inner\n" in capfd.readouterr().out


def test_write(runner: ModuleType, tmp_path: Path) -> None:
    """The page then shows what was printed, number by number."""
    assert _follow(runner, tmp_path, _GOOD, write=True) == _GOOD.replace("7 words   in 1 s", "12 words in 3.4e-5 s")


def test_other_output(runner: ModuleType, tmp_path: Path) -> None:
    """Page, command, what is shown and what was printed."""
    with pytest.raises(SystemExit) as stop:
        _follow(runner, tmp_path, _GOOD.replace("7 words", "7 pages"))
    message = str(stop.value)
    assert message.startswith(f"{tmp_path / 'page.md'}: shows for\necho 12 words")
    assert "7 pages   in 1 s\n\nbut this was printed:\n\n12 words in 3.4e-5 s" in message


@pytest.mark.parametrize(("shown", "fine"), [("a\n...\nd\n", True), ("...\nd\n", True), ("a\n...\nc\n", False)])
def test_dots_stand_for_any_lines(runner: ModuleType, shown: str, fine: bool) -> None:
    """For what is different each time."""
    assert runner.agrees(shown, "a\nb\nc\nd\n") is fine


def test_missing_line(runner: ModuleType) -> None:
    """Output that stops short of the page, or goes on after it, is not what the page shows."""
    assert not runner.agrees("a\nb\n", "a\n")
    assert not runner.agrees("a\n", "a\nb\n")


def test_failing_command(runner: ModuleType, tmp_path: Path) -> None:
    """Page, code, command and output; the commands after it are not run."""
    with pytest.raises(SystemExit) as stop:
        _follow(runner, tmp_path, "```console\necho oh; ls no-such-file\ntouch after\n```\n")
    assert "page.md: failed with code 2:\necho oh; ls no-such-file\noh\n" in str(stop.value)
    assert not (tmp_path / "after").exists()


def test_shell_that_ends(runner: ModuleType, tmp_path: Path) -> None:
    """`exit` on a page is a failure, not an endless wait."""
    with pytest.raises(SystemExit, match="The shell has ended"):
        _follow(runner, tmp_path, "```console\nexit 0\n```\n")


def test_page_without_commands(runner: ModuleType, tmp_path: Path) -> None:
    """A tutorial that tells nobody to do anything is a mistake; examples for doctest are run elsewhere."""
    with pytest.raises(SystemExit, match="no commands"):
        _follow(runner, tmp_path, "# A page\n\n```sh\nls\n```\n")
    _follow(runner, tmp_path, "```python\n>>> 1 + 1\n2\n```\n")


def test_pages_of_the_index(runner: ModuleType) -> None:
    """The installation comes first, and every page is there."""
    pages = runner.tutorials(ROOT / "docs")
    assert pages[0].name == "getting-started.md"
    folder = ROOT / "docs" / "tutorials"
    assert set(folder.glob("*.md")) - {folder / "index.md"} == set(pages) - {ROOT / "docs" / "getting-started.md"}
