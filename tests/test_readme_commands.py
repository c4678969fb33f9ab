"""Every command of README.md runs, shortened, in one directory; those of docs/ are parsed."""

import importlib
import importlib.util
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import jax
import numpy as np
import pytest
from PIL import Image

import run
from rtl_jax.command import COMMANDS
from rtl_jax.errors import UserError
from rtl_jax.lab import cli
from rtl_jax.models.architecture import architecture
from rtl_jax.models.model import initialize
from rtl_jax.models.network import Network

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
TINY = architecture("resnet18", stem="small", stage_sizes=(1, 1), stage_widths=(8, 16))

# Less work for each config: settings for a command that does not give them itself. `one` and
# `other` are tiny networks.
QUICK = {
    "my_images.py": "target.image_size=32 target.folds=2 transfer.epochs=3 sweep.sources=one "
    "sweep.blocks=0 sweep.head_fits=sgd sweep.learning_rates=0.1 attack.steps=1 attack.eps=0,0.25",
    "predict.py": "",
    "svhn_l2.py": "target.image_size=32 transfer.epochs=1",
    "sweep_digits.py": "sweep.sources=one,other sweep.blocks=0 sweep.num_images=50 sweep.seeds=1 "
    "transfer.epochs=1 target.num_test_images=32",
    "table7.py": "target.image_size=32 source.arch= sweep.sources=one,other sweep.blocks=0 "
    "sweep.seeds=1 sweep.num_images=100",
    "report.py": "",
    "attack_linf.py": "attack.steps=1 attack.eps=0,0.01",
    "digits_influence.py": "source.checkpoint=one influence.compare=other transfer.epochs=1 "
    "transfer.blocks=0 target.num_images=32 target.num_test_images=32",
    "find_wrong_labels.py": "transfer.epochs=1 target.num_images=64 target.num_test_images=32 "
    "source.stage_sizes=1,1 source.stage_widths=8,16",
}

# Commands that need what a reader may not have, by a part of them that no other has, with what the
# error names.
MISSING = {
    "--workdir runs/svhn_l2": "imagenet_l2_3_0.pt",
    "configs/paper/table7.py --workdir runs/paper": "tfds:",
    "convert imagenet_l2_3_0.pt": "imagenet_l2_3_0.pt",
    "convert salman/resnet50_l2_eps3": "resnet50_l2_eps3.ckpt",
}

# These again, with something in its place: what replaces what, and what is missing then, if it is.
INSTEAD = [
    ("--workdir runs/svhn_l2", "--workdir runs/svhn_l2 --config.source.checkpoint=one", "svhn"),
]


def commands(page: Path, inline: bool = False) -> list[str]:
    """List the commands in a page's code blocks, `python ...` and `rtl-jax ...`, each once, without
    variables and comments.

    `inline`: also those within a sentence, which may be incomplete.
    """
    text = page.read_text().replace("\\\n", " ")
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for language, code in blocks if language != "python" for line in code.split("\n")]
    lines += re.findall(r"`((?:python|rtl-jax) [^`]*)`", text) if inline else []
    plain = (re.sub(r"^(\$ )?([A-Z_]+=\S+ )*", "", line) for line in lines)
    kept = [line for line in plain if line.startswith(("python run.py ", "python -m ", "rtl-jax "))]
    return list(dict.fromkeys(shlex.join(shlex.split(line, comments=True)) for line in kept))


def main_of(module: str) -> Callable[[list[str]], int]:
    """Return the function that `python -m` calls."""
    spec = importlib.util.find_spec(module)
    assert spec is not None, f"there is no module {module}"
    package = spec.submodule_search_locations is not None
    return importlib.import_module(f"{module}.__main__" if package else module).main


def arguments_of(command: str) -> list[str] | None:
    """Return the arguments of `python run.py` or `rtl-jax`, which are equivalent; None: others."""
    program, *words = shlex.split(command)
    if program == "rtl-jax":
        return words
    return words[1:] if words[0] == "run.py" else None


def execute(command: str) -> int:
    """Run a command in this process, shortened if it is run.py's; return its exit code."""
    if (words := arguments_of(command)) is None:
        module, *words = shlex.split(command)[2:]
        return main_of(module)(words)
    if words[0] != "--config":
        return run.main(words)
    given = {word.partition("=")[0] for word in words}
    more = [f"--config.{setting}" for setting in QUICK[f"{Path(words[1]).stem}.py"].split()]
    return run.main([*words, *(word for word in more if word.partition("=")[0] not in given)])


def check_names(command: str) -> None:
    """Raise an error if a command's module, config or setting does not exist or is invalid."""
    words = arguments_of(command)
    if words is None:
        assert importlib.util.find_spec(shlex.split(command)[2]), command
    elif not words or "..." in words:
        return  # the beginning of a command
    elif words[0] == "--config":
        cli.parse(words)
    else:
        assert words[0] in (*COMMANDS, "--help", "--version"), command


def draw(directory: Path, number: int, label: int) -> None:
    """Write pictures of noise, of which the left or the right half is brighter."""
    directory.mkdir(parents=True, exist_ok=True)
    for index in range(number):
        pixels = np.random.default_rng([index, label, number]).integers(0, 156, (32, 32, 3))
        pixels[:, 16 * label : 16 * label + 16] += 100
        Image.fromarray(pixels.astype(np.uint8)).save(directory / f"{label}_{index:02}.png")


def unreachable(request: Any, timeout: float | None = None) -> None:
    """Fail as opening a URL does without a connection."""
    raise URLError("no connection")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state of README's reader: a clone and photographs, but no datasets and no connection."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "data").mkdir()
    for label, name in enumerate(("cat", "dog")):
        draw(tmp_path / "photos" / name, 30, label)
        draw(tmp_path / "more_photos" / name, 8, label)
        draw(tmp_path / "new_photos", 4, label)
    for index, name in enumerate(("one", "other")):
        variables = jax.tree.map(np.asarray, initialize(TINY, jax.random.key(index)))
        Network(TINY, *variables, {"kind": "random"}).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RTL_JAX_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


def test_the_commands_of_the_readme_run(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In order; those with missing inputs end with one sentence and code 2."""
    missing = dict(MISSING)

    def check(command: str, lacking: str | None) -> None:
        code, errors = execute(command), capsys.readouterr().err
        assert "Traceback" not in errors, command
        lines = errors.replace(str(place), ".").splitlines()
        told = [line for line in lines if line.startswith(("error: ", "convert: "))]
        assert code == (0 if lacking is None else 2), (command, told)
        assert len(told) == (lacking is not None), (command, told)
        assert lacking is None or (lacking in told[0] and len(told[0]) < 600), told

    every = commands(README)
    assert len(every) > 12
    for command in every:
        parts = [part for part in missing if part in command and "dry_run" not in command]
        check(command, missing.pop(parts[0]) if parts else None)
        for old, new, lacking in INSTEAD:
            if old in parts:
                check(command.replace(old, new), lacking)
    assert not missing, "README.md has no such command any more"
    for left in (
        "photos/report/index.html",
        "photos/network",
        "new/predictions.csv",
    ):
        assert (place / "runs" / left).exists(), left
    assert (place / "photos.pth").exists()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_of_the_docs_name_what_there_is(
    page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As typed in a clone."""
    monkeypatch.chdir(ROOT)
    for command in commands(page, inline=True):
        check_names(command)


def test_a_command_of_the_docs_that_is_wrong_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "Text, `python -m convert` and `python -m nothing at all`.\n```\n$ A=1 python run.py "
        "--config \\\n  configs/predict.py --config.predict.imges=x   # a comment\nmake test\n```\n"
        "```python\nrun('python')\n```\n"
    )
    with_typo = "python run.py --config configs/predict.py --config.predict.imges=x"
    assert commands(page) == [with_typo]
    assert commands(page, inline=True) == [
        with_typo, "python -m convert", "python -m nothing at all"
    ]  # fmt: skip
    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError, match=r"unknown setting predict.imges"):
        check_names(with_typo)
    with pytest.raises(AssertionError, match="nothing at all"):
        check_names("python -m nothing at all")
    with pytest.raises(UserError, match=r"there is no file configs/predictt.py"):
        check_names("python run.py --config configs/predictt.py")
