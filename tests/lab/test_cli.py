"""The command line: its parsing, and messages about mistakes."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import run
from rtl_jax.errors import UserError
from rtl_jax.lab import cli, tasks
from rtl_jax.lab.config import Experiment

ROOT = Path(__file__).parents[2]
CONFIGS = sorted(path.relative_to(ROOT) for path in (ROOT / "configs").rglob("*.py"))
DEFAULT = "from rtl_jax.lab.config import defaults\ndef get_config():\n    return defaults()\n"


@pytest.fixture
def config(tmp_path: Path) -> str:
    """A config file with the defaults."""
    path = tmp_path / "mine.py"
    path.write_text(DEFAULT)
    return str(path)


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "written.py"
    path.write_text(text)
    return str(path)


def setting(experiment: Experiment, key: str) -> Any:
    value: Any = experiment
    for name in key.split("."):
        value = getattr(value, name)
    return value


def message(*arguments: str) -> str:
    """Return the error of a command line, which must be readable."""
    with pytest.raises(UserError) as caught:
        cli.parse(arguments)
    text = str(caught.value)
    assert "Traceback" not in text and "object at 0x" not in text and "File " not in text
    assert len(text) < 450 and text.count("\n") == 0
    return text


# ---- What is read --------------------------------------------------------------------------------


@pytest.mark.parametrize("path", CONFIGS, ids=str)
def test_every_config_file_is_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    experiment, workdir = cli.parse(["--config", str(path)])
    assert isinstance(experiment, Experiment)
    assert workdir == f"runs/{path.stem}"


OVERRIDES = [
    ("task", "finetune", "finetune"),
    ("seed", "20100000", 20_100_000),
    ("source.checkpoint", "a/b=c.pt", "a/b=c.pt"),
    ("source.checkpoint", "hf:madrylab/x/y.ckpt", "hf:madrylab/x/y.ckpt"),
    ("source.arch", "resnet18", "resnet18"),
    ("source.stage_sizes", "1,2", (1, 2)),
    ("source.stage_sizes", "(1, 2)", (1, 2)),
    ("source.stage_sizes", "none", None),
    ("target.dataset", "folder:my photos", "folder:my photos"),
    ("target.data_dir", "/data", "/data"),
    ("target.data_dir", "none", None),
    ("target.image_size", "64", 64),
    ("target.num_images", "400", 400),
    ("target.num_images", "none", None),
    ("target.num_images", "None", None),
    ("target.num_test_images", "1000", 1000),
    ("target.num_test_images", "none", None),
    ("target.classes", "3,1", (3, 1)),
    ("sweep.sources", "bundled:l2,hf:a/b.ckpt", ("bundled:l2", "hf:a/b.ckpt")),
    ("sweep.targets", "folder:my photos", ("folder:my photos",)),
    ("augmentation.flip", "false", False),
    ("augmentation.rotation", "5", 5.0),
    ("transfer.blocks", "0", 0),
    ("transfer.blocks", "1", 1),
    ("transfer.blocks", "none", None),
    ("transfer.frozen_batch_norm", "source", "source"),
    ("transfer.epochs", "3", 3),
    ("transfer.epochs", "none", None),
    ("transfer.batch_size", "32", 32),
    ("transfer.learning_rate", "1e-2", 0.01),
    ("transfer.learning_rate", "1", 1.0),
    ("transfer.baseline", "true", True),
    ("transfer.perturbation", "none", "none"),  # a choice of that name
]


@pytest.mark.parametrize("space", [False, True], ids=["equals", "space"])
@pytest.mark.parametrize(("key", "text", "value"), OVERRIDES)
def test_overrides(config: str, key: str, text: str, value: Any, space: bool) -> None:
    override = [f"--config.{key}", text] if space else [f"--config.{key}={text}"]
    experiment, _ = cli.parse([f"--config={config}", *override])
    assert setting(experiment, key) == value
    assert type(setting(experiment, key)) is type(value)


def test_none_undoes_what_the_file_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    arguments = ["--config=configs/svhn_l2.py", "--config.target.num_images=none"]
    assert cli.parse(arguments[:1])[0].target.num_images == 100
    assert cli.parse(arguments)[0].target.num_images is None


def test_only_what_is_named_changes(config: str) -> None:
    experiment, _ = cli.parse(["--config", config, "--config.transfer.blocks=1"])
    settings = experiment.to_dict()
    settings["transfer"]["blocks"] = Experiment().transfer.blocks
    assert settings == Experiment().to_dict()


def test_booleans_without_a_value(config: str) -> None:
    flags = ["--config.transfer.baseline", "--noconfig.augmentation.flip"]
    experiment, _ = cli.parse(["--config", config, *flags])
    assert experiment.transfer.baseline and not experiment.augmentation.flip


def test_overrides_may_come_first(config: str) -> None:
    experiment, workdir = cli.parse(["--config.seed=3", "--workdir", "w", "--config", config])
    assert (experiment.seed, workdir) == (3, "w")


def test_a_partial_config_can_be_overridden(tmp_path: Path) -> None:
    lines = "from ml_collections import ConfigDict\n"
    file = write(tmp_path, f"{lines}def get_config():\n    return ConfigDict({{'seed': 1}})\n")
    experiment, _ = cli.parse(["--config", file, "--config.transfer.blocks=2"])
    assert (experiment.seed, experiment.transfer.blocks) == (1, 2)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "runs/mine"),
        (["--workdir=out/x"], "out/x"),
        (["--workdir", "gs://bucket/x"], "gs://bucket/x"),
        (["--workdir=~/x"], os.path.expanduser("~/x")),
    ],
)
def test_work_directory(config: str, arguments: list[str], expected: str) -> None:
    assert cli.parse(["--config", config, *arguments])[1] == expected


# ---- What is wrong -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("transfer.epoch=3", "transfer.epoch (did you mean transfer.epochs?)"),
        ("trnsfer.blocks=3", "trnsfer.blocks (did you mean transfer.blocks?)"),
        ("blocks=3", "blocks (did you mean transfer.blocks?)"),
        ("xyzzy=3", "unknown setting xyzzy"),
        ("seed.x=3", "unknown setting seed.x"),
        (".=3", "unknown setting"),
    ],
)
def test_unknown_settings(config: str, override: str, expected: str) -> None:
    assert expected in message("--config", config, f"--config.{override}")


@pytest.mark.parametrize(
    "override",
    [
        "transfer.blocks=many",
        "transfer.blocks=1.5",
        "transfer.blocks=",
        "transfer.blocks=-1",
        "transfer.epochs=true",
        "transfer.learning_rate=fast",
        "transfer.learning_rate=nan",
        "transfer.learning_rate=none",
        "transfer.frozen_batch_norm=sauce",
        "transfer.frozen_batch_norm=none",
        "transfer.baseline=maybe",
        "transfer=3",
        "target.image_size=none",
        "target.image_size=large",
        "target.classes=a,b",
        "target.classes=(1,2",
        "target.dataset=",
        "task=fly",
        "seed=-1",
        "seed=4294967296",
        "seed=99999999999999999999",
    ],
)
def test_wrong_values(config: str, override: str) -> None:
    key, _, value = override.partition("=")
    text = message("--config", config, f"--config.{override}")
    assert text.startswith(f"{key}: expected ")
    received = text.rpartition("received ")[2]
    plain = received.strip("'").replace("'", "").replace(", ", ",")
    assert plain.lower().strip("(,)") == value.strip("(,)")


@pytest.mark.parametrize(
    ("name", "override", "expected"),
    [
        ("sweep_digits", "transfer.blocks=1", "sweep.blocks=0,2: set --config.sweep.blocks"),
        ("sweep_digits", "target.num_images=7", "sweep.num_images=50,100"),
        ("my_images", "source.checkpoint=bundled:linf4", "sweep.sources=bundled:natural,"),
        ("my_images", "target.num_images=20", "none with my_images, which uses the whole folder"),
        ("my_images", "target.classes=0,1", "none with my_images, which uses the whole folder"),
        ("my_images", "target.fold=0", "none with my_images, which uses the whole folder"),
        ("my_images", "transfer.blocks=2", "set --config.sweep.blocks instead"),
        ("choose_source", "transfer.blocks=2", "sweep.blocks=0,1,3: set --config.sweep.blocks"),
        ("choose_source", "source.checkpoint=bundled:linf4", "sweep.sources=bundled:natural,"),
        ("predict", "target.image_size=64", "which uses the network's own image size"),
    ],
)
def test_a_setting_that_another_one_replaces(name: str, override: str, expected: str) -> None:
    key = override.partition("=")[0]
    with pytest.raises(UserError, match=rf"^{key}: .*{re.escape(expected)}"):
        cli.parse(["--config", name, f"--config.{override}"])


def test_a_setting_without_a_value(config: str) -> None:
    flags = ["--config.transfer.blocks", "--config.seed=1"]
    expected = "transfer.blocks: expected a whole number or none, received nothing"
    assert message("--config", config, *flags) == expected
    assert message("--config", config, flags[0]) == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["stray"], "unexpected 'stray'"),
        (["--config.transfer.baseline=true", "stray"], "unexpected 'stray'"),
        (["--workdri=x"], "--workdri (did you mean --workdir?)"),
        (["--epochs=3"], "unknown flag --epochs"),
        (["--flagfile=/dev/null"], "unknown flag --flagfile"),
        (["--"], "unknown flag --"),
        (["--config.seed=1", "--config.seed=1"], "--config.seed is given twice"),
        (["--workdir=a", "--workdir=b"], "--workdir is given twice"),
        (["--config=other.py"], "--config is given twice"),
        (["--workdir"], "--workdir: expected a value"),
        (["--workdir="], "--workdir: expected a value"),
    ],
)
def test_wrong_flags(config: str, arguments: list[str], expected: str) -> None:
    assert expected in message("--config", config, *arguments)


@pytest.mark.parametrize("arguments", [[], ["--workdir=x"], ["--config"], ["--config="]])
def test_no_config(arguments: list[str]) -> None:
    assert "--config" in message(*arguments)
    assert "--help" in message(*arguments)


def test_no_such_file(config: str, tmp_path: Path) -> None:
    absent = tmp_path / "mime.py"
    expected = f"there is no file {absent} (did you mean {config}?)"
    assert expected in message("--config", str(absent))
    assert "there is no file" in message("--config", str(tmp_path / "a" / "b.py"))


def test_a_directory(tmp_path: Path) -> None:
    assert f"received the directory {tmp_path}" in message("--config", str(tmp_path))


IMPORT = "from rtl_jax.lab.config import defaults, preset\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("def get_config(:\n", ", line 1: SyntaxError: "),
        ("def get_config():\nreturn 1\n", ", line 2: IndentationError: "),
        ("def get_config():\n    return 1 / 0\n", ", line 2: ZeroDivisionError: division by zero"),
        ("import absent_module\n", ", line 1: ModuleNotFoundError: No module named 'absent_mod"),
        ("def get_config():\n    return {}['x']\n", ", line 2: KeyError: 'x'"),
        ("def get_config(x):\n    return 1\n", "TypeError: get_config() missing 1 required"),
        ("x = 1\n", ": expected a function get_config(), found none"),
        ("def get_config():\n    pass\n", ": get_config() must return a ConfigDict, received None"),
        ("raise OSError(2, 'gone', 'data')\n", "line 1: FileNotFoundError: [Errno 2] gone: 'data'"),
        (
            f"{IMPORT}def get_config():\n    c = defaults()\n    c.transfer.epoch = 3\n",
            'Did you mean "epochs" instead of "epoch"?',
        ),
        (
            f"{IMPORT}def get_config():\n    c = defaults()\n    c.transfer.epochs = 'x'\n",
            ", line 4: TypeError: ",
        ),
        (f"{IMPORT}def get_config():\n    preset('x')\n", ": augmentation: expected one of none"),
        (
            f"{IMPORT}def get_config():\n    c = defaults()\n    c.seed = -1\n    return c\n",
            ": seed: expected a number from 0",
        ),
        ("def get_config():\n    return {'sed': 1}\n", "unknown setting sed (did you mean seed?)"),
        ("\0", ""),
        ("def get_config():\n    return 1 + '" + "x" * 9999 + "'\n", ", line 2: TypeError"),
        ("raise ValueError('x' * 9999)\n", ", line 1: ValueError: xxx"),
    ],
)
def test_faults_of_a_config_file(tmp_path: Path, text: str, expected: str) -> None:
    file = write(tmp_path, text)
    received = message("--config", file)
    assert received.startswith(file)
    assert expected in received


def test_a_binary_file(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(bytes(range(256)) * 10)
    assert message("--config", str(path)).startswith(str(path))


# ---- run.py --------------------------------------------------------------------------------------


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main([flag]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("usage: rtl-jax --config NAME")
    assert not shown.err


def test_no_arguments_show_the_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main([]) == 2
    assert "usage: " in capsys.readouterr().out


def test_user_errors_exit_with_2(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["--config", config, "--config.seed=x"]) == 2
    shown = capsys.readouterr()
    assert shown.err == "error: seed: expected a whole number, received 'x'\n"
    assert not shown.out


def test_user_errors_of_the_run_exit_with_2(
    config: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise UserError("the disk is full")

    monkeypatch.setattr(tasks, "run", fail)
    assert run.main(["--config", config]) == 2
    assert capsys.readouterr().err == "error: the disk is full\n"


def test_a_defect_is_not_hidden(config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(tasks, "run", fail)
    with pytest.raises(ZeroDivisionError):
        run.main(["--config", config])


def test_main_passes_everything_on(config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    received: list[object] = []
    monkeypatch.setattr(tasks, "run", lambda *arguments: received.extend(arguments))
    assert run.main(["--config", config, "--config.seed=5", "--workdir=w"]) == 0
    assert received == [Experiment(seed=5), "w"]


@pytest.mark.parametrize("platforms", ["cuda", "nonsense"])
def test_a_platform_that_is_not_there_is_one_sentence(platforms: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "run.py",
            "--config",
            "configs/digits_influence.py",
            "--workdir",
            tmp_path,
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": platforms},
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert f"error: JAX finds no device with JAX_PLATFORMS={platforms}" in done.stderr


def test_the_process_prints_one_line_and_exits_with_2() -> None:
    done = subprocess.run(
        [sys.executable, "run.py", "--config", "configs/svhn_l2.py", "--config.sed=1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: unknown setting sed (did you mean seed?)")
    assert done.stderr.count("\n") == 1 and not done.stdout
