"""The command rtl-jax: the information it prints about the package, and its own names."""

import dataclasses
import os
import subprocess
import sys
import time
from pathlib import Path
from pkgutil import resolve_name
from types import SimpleNamespace
from typing import Any

import pytest

from rtl_jax.command import COMMANDS, main
from rtl_jax.lab import cli, config_files
from rtl_jax.lab.config import GROUPS, Experiment
from rtl_jax.lab.settings_reference import as_typed, group, groups
from rtl_jax.models import bundled
from rtl_jax.runtime import program

ROOT = Path(__file__).parents[2]
CONFIGS = [
    path.relative_to(ROOT / "configs").with_suffix("").as_posix()
    for path in (ROOT / "configs").rglob("*.py")
]


def printed(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    assert main(list(arguments)) == code
    shown = capsys.readouterr()
    assert not (shown.err if code == 0 else shown.out)
    return shown.out + shown.err


# ---- Lists ---------------------------------------------------------------------------------------


def test_help_names_every_command_and_task(capsys: pytest.CaptureFixture[str]) -> None:
    first_words = {line.split()[0] for line in printed(capsys, "--help").splitlines() if line}
    assert {*COMMANDS, *GROUPS, "--config", "--workdir", "--version"} <= first_words


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_there_and_shows_its_usage(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert callable(resolve_name(COMMANDS[command][0]))
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: rtl-jax {command} ")


def test_configs_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, "configs").splitlines()
    listed = dict(line.split(maxsplit=1) for line in lines if line.startswith("  "))
    assert sorted(listed) == sorted(CONFIGS)
    assert listed["svhn_l2"].startswith("The paper's cell")
    assert [line for line in lines if line.endswith(":")] == [
        "general:", "paper:", "sources:", "study:"
    ]  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_loads_by_name_as_by_path(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_path = cli.parse(["--config", str(ROOT / "configs" / f"{name}.py")])
    monkeypatch.chdir(tmp_path)
    assert cli.parse(["--config", name]) == by_path
    assert cli.parse(["--config", f"{name}.py"]) == by_path


def test_a_file_goes_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("predict.py").write_text("def get_config():\n    return {'seed': 7}\n")
    Path("report").mkdir()  # a folder is not a config
    assert cli.parse(["--config", "predict.py"])[0].seed == 7
    assert cli.parse(["--config", "predict"])[0].task == "predict"
    assert cli.parse(["--config", "report"])[0].task == "report"


def test_arguments_of_a_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("def get_config(text='3'):\n    return {'seed': int(text)}\n")
    assert cli.parse(["--config", "mine.py"]) == (Experiment(seed=3), "runs/mine")
    assert cli.parse(["--config", "mine.py:5"]) == (Experiment(seed=5), "runs/mine_5")
    Path("mine.py").write_text("def get_config(text):\n    return {'task': text[7:]}\n")
    assert cli.parse(["--config", "mine.py:a/../b:report"])[1] == "runs/mine_a-..-b:report"


def test_a_config_that_takes_no_argument(capsys: pytest.CaptureFixture[str]) -> None:
    said = printed(capsys, "--config", "report:x", code=2)
    assert said.endswith("report.py: takes no argument, received 'x' after its name\n")


def test_sources(capsys: pytest.CaptureFixture[str]) -> None:
    said = printed(capsys, "sources")
    lines = {line.split()[0]: line for line in said.splitlines() if line}
    assert {f"bundled:{name}" for name in bundled.names()} <= set(lines)
    published = lines["hf:madrylab/robust-imagenet-models/resnet50_linf_eps4.0.ckpt"]
    assert published.split()[1:] == [
        "resnet50", "ImageNet", "Linf", "eps=4/255", "63.86", "34.96", "205"
    ]  # fmt: skip
    assert "robustbench/cifar10_linf/Wong2020Fast" in lines  # whose file needs options
    assert "rtl-jax convert NAME DIRECTORY" in said


def test_all_that_is_known_of_a_source(capsys: pytest.CaptureFixture[str]) -> None:
    assert "clean_accuracy: 33.8" in printed(capsys, "sources", "bundled:l2")
    known = printed(capsys, "sources", "salman/resnet50_l2_eps3")
    assert "source: hf:madrylab/robust-imagenet-models/resnet50_l2_eps3.ckpt" in known
    assert "no published source a/b" in printed(capsys, "sources", "a/b", code=2)


COMPLETING = """
eval "$RTL_JAX_COMPLETION"
COMP_WORDS=(rtl-jax "$@"); COMP_CWORD=$#
_rtl_jax
printf '%s\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["con"], {"convert", "configs"}),
        (["--config", "svhn"], {"svhn_l2"}),
        (["--config", "svhn_l2", "--config.attack.me"], {"--config.attack.method="}),
        (["--config", "svhn_l2", "--w"], {"--workdir"}),
        (["convert", "pyproj"], {"pyproject.toml"}),
        (["--config", "svhn_l2", "--workdir", "doc"], {"docs"}),
        (["none of them"], {""}),
    ],
)
def test_completion_in_bash(
    capsys: pytest.CaptureFixture[str], words: list[str], expected: set[str]
) -> None:
    script = printed(capsys, "completion")
    done = subprocess.run(
        ["bash", "-c", COMPLETING, "bash", *words],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "RTL_JAX_COMPLETION": script},
        check=True,
    )
    assert set(done.stdout.removesuffix("\n").split("\n")) == expected and not done.stderr


def test_version(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    said = printed(capsys, "--version").splitlines()
    names = [line.split()[0] for line in said]
    assert names[:4] == ["rtl_jax", "jax", "jaxlib", "flax"]
    assert f"Python {sys.version.split()[0]} on " in said[-2] and said[-1] == "JAX_PLATFORMS=cpu"


# ---- Settings ------------------------------------------------------------------------------------

SETTINGS = [setting for each in groups(Experiment()) for setting in each.settings]


def leaves(value: Any, prefix: str = "") -> dict[str, Any]:
    found = {}
    for field in dataclasses.fields(value):
        inner, key = getattr(value, field.name), f"{prefix}{field.name}"
        found |= leaves(inner, f"{key}.") if dataclasses.is_dataclass(inner) else {key: inner}
    return found


def test_every_setting_is_listed_and_says_something() -> None:
    assert {setting.key for setting in SETTINGS} == set(leaves(Experiment()))
    assert len(SETTINGS) > 100
    assert not [setting.key for setting in SETTINGS if len(setting.words) < 6]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("config") / "usual.py"
    path.write_text("def get_config():\n    return {}\n")
    return str(path)


def test_defaults_are_shown_as_they_are_typed(config: str) -> None:
    """Typing all defaults changes nothing."""
    typed = [each for each in SETTINGS if each.default and not each.default.isdecimal()]
    given = [f"--config.{setting.key}={setting.default}" for setting in typed]
    assert len(given) > 60
    received, expected = leaves(cli.parse(["--config", config, *given])[0]), leaves(Experiment())
    for key, value in expected.items():
        assert received[key] == (pytest.approx(value, rel=1e-3) if key == "attack.eps" else value)


def test_words_are_those_at_the_field() -> None:
    words = {setting.key: setting.words for setting in SETTINGS}
    assert words["transfer.momentum"] == "Momentum of 'sgd'"  # behind it
    assert words["source.checkpoint"].endswith("bundled:NAME, or random")  # above it, three lines
    # An inherited field that is declared again has its own words.
    assert words["pretraining.num_attacked"] != words["transfer.num_attacked"]
    assert words["transfer.baseline"].startswith("Also fit 1-nearest-neighbour")


def test_settings_of_a_group(capsys: pytest.CaptureFixture[str]) -> None:
    said = printed(capsys, "settings", "transfer")
    keys = [line.split(":")[0] for line in said.splitlines() if line[:3].strip() and ";" in line]
    assert f"  {keys[0].strip()}" in said
    for setting in group(Experiment(), "transfer").settings:
        assert f"  {setting.key}: " in said
    assert "attack.eps" not in said and "default 0.1" in said
    error = printed(capsys, "settings", "trnsfer", code=2)
    assert error.startswith("error: unknown group 'trnsfer': expected one of source, target")


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "none"), (True, "true"), ((), ""), ((1, 2), "1,2"), (5e-4, "0.0005"), ("a", "a")],
)
def test_values_as_they_are_typed(value: Any, text: str) -> None:
    assert as_typed(value) == text


# ---- Faults --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["convrt", "a.pt"], "unknown command 'convrt' (did you mean convert?)"),
        (["xyzzy"], "unknown command 'xyzzy': expected convert, sources, configs"),
        (["--config", "svhn_l3"], "there is no file svhn_l3 (did you mean svhn_l2?)"),
        (["--config", "paper/table8"], "(did you mean paper/table7?)"),
        (["--config", "configs/svhn_l2.py"], "(did you mean svhn_l2?)"),
        (["--config", "x.py"], "rtl-jax configs lists those that come with rtl_jax"),
    ],
)
def test_mistakes(
    arguments: list[str],
    expected: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    said = printed(capsys, *arguments, code=2)
    assert said.startswith("error: ") and expected in said and said.count("\n") == 1


@pytest.mark.parametrize(
    ("path", "package", "expected"),
    [
        (ROOT / "run.py", None, ("python run.py", "python run.py convert")),
        ("/somewhere/run.py", None, ("rtl-jax", "rtl-jax convert")),
        ("/env/bin/rtl-jax", None, ("rtl-jax", "rtl-jax convert")),
        ("/x/rtl_jax/__main__.py", "rtl_jax", ("python -m rtl_jax", "python -m rtl_jax convert")),
        ("/x/convert/__main__.py", "convert", ("python -m convert", "python -m convert")),
        ("/x/pytest/__main__.py", "pytest", ("rtl-jax", "rtl-jax convert")),
    ],
)
def test_what_was_typed(
    path: Path | str,
    package: str | None,
    expected: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", [str(path)])
    spec = package and SimpleNamespace(parent=package)
    monkeypatch.setitem(sys.modules, "__main__", SimpleNamespace(__spec__=spec))
    assert (program.typed(), program.typed("convert")) == expected


# ---- A process -----------------------------------------------------------------------------------


def test_help_needs_neither_jax_nor_a_second() -> None:
    script = (
        "import sys; from rtl_jax.command import main; main(['--help'])\n"
        "print(*{'jax', 'numpy', 'pandas', 'ml_collections'} & set(sys.modules), file=sys.stderr)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    fastest = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, env=environment
        )
        fastest = min(fastest, time.perf_counter() - start)
    assert (done.returncode, done.stderr.strip()) == (0, "")
    assert fastest < 1
    assert config_files.DIRECTORY.is_dir()
