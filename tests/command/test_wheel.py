"""A wheel, unpacked and used from an empty directory: everything works as in a checkout."""

import configparser
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
NEEDED = ("pyproject.toml", "README.md", "LICENSE", "CITATION.cff")


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked wheel, as in site-packages; built from a copy, without network access."""
    place = tmp_path_factory.mktemp("wheel")
    source = place / "checkout"
    source.mkdir()
    for name in NEEDED:
        shutil.copy(ROOT / name, source)
    for name in ("rtl_jax", "convert", "configs"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignored)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index",
               "--no-build-isolation", "--wheel-dir", place, source]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = place.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place / "site")
    return place / "site"


def run(unpacked: Path, directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the installed command in an empty directory."""
    script = directory.parent / "bin" / "rtl-jax"  # as pip writes it
    script.parent.mkdir(exist_ok=True)
    script.write_text("import sys\nfrom rtl_jax.command import start\nsys.exit(start())\n")
    environment = {**os.environ, "PYTHONPATH": str(unpacked), "JAX_PLATFORMS": "cpu"}
    return subprocess.run(
        [sys.executable, script, *arguments],
        cwd=directory, capture_output=True, text=True, env=environment,
    )  # fmt: skip


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    (tmp_path / "empty").mkdir()
    return tmp_path / "empty"


def test_it_holds_one_package_and_all_of_it(unpacked: Path) -> None:
    tops = {path.name for path in unpacked.iterdir() if path.suffix != ".dist-info"}
    assert tops == {"rtl_jax"}
    for folder in ("rtl_jax", "rtl_jax/convert", "rtl_jax/configs"):
        expected = {path.relative_to(ROOT) for path in (ROOT / folder).rglob("*") if path.is_file()}
        expected = {path for path in expected if "__pycache__" not in path.parts}
        assert len(expected) > 30
        assert not {path for path in expected if not (unpacked / path).is_file()}


def test_what_it_installs(unpacked: Path) -> None:
    (metadata,) = unpacked.glob("*.dist-info")
    entries = configparser.ConfigParser()
    entries.read(metadata / "entry_points.txt")
    assert dict(entries["console_scripts"]) == {"rtl-jax": "rtl_jax.command:start"}
    assert {"rtl_jax.converters", "rtl_jax.exporters"} < set(entries.sections())


def test_every_config_loads_by_name(unpacked: Path, empty: Path) -> None:
    """With no checkout on the path."""
    code = (
        "import sys, rtl_jax; from rtl_jax.lab import cli, config_files\n"
        f"sys.path = [p for p in sys.path if p != {str(ROOT)!r}]\n"
        f"assert rtl_jax.__file__.startswith({str(unpacked)!r}), rtl_jax.__file__\n"
        "for name in config_files.names(): cli.parse(['--config', name])\n"
        "print(len(config_files.names()))"
    )
    environment = {**os.environ, "PYTHONPATH": str(unpacked)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=empty, capture_output=True, text=True, env=environment
    )
    assert not done.stderr
    assert int(done.stdout) == len([*(ROOT / "configs").rglob("*.py")])


def test_an_experiment_and_its_report(unpacked: Path, empty: Path) -> None:
    small = ("source.checkpoint=random", "source.arch=resnet18", "source.stem=small_stride2",
             "source.stage_sizes=1", "source.stage_widths=8", "target.dataset=digits",
             "target.image_size=8", "target.num_images=32", "target.num_test_images=32",
             "transfer.blocks=0", "transfer.head_fit=ridge", "augmentation.rotation=0")  # fmt: skip
    done = run(unpacked, empty, "--config", "svhn_l2", *(f"--config.{each}" for each in small))
    assert done.returncode == 0, done.stderr
    assert [path.name for path in empty.glob("runs/svhn_l2/rows/*")]
    done = run(unpacked, empty, "--config", "report", "--workdir", "runs/svhn_l2")
    assert done.returncode == 0, done.stderr
    assert (empty / "runs/svhn_l2/report/index.html").exists()


def test_the_converter_is_there(unpacked: Path, empty: Path) -> None:
    done = run(unpacked, empty, "convert", "missing.pt", "out")
    assert done.returncode == 2 and done.stderr.startswith("convert: "), done.stderr


def test_mistakes_name_what_there_is(unpacked: Path, empty: Path) -> None:
    done = run(unpacked, empty, "--config", "configs/svhn_l2.py")
    assert done.returncode == 2 and not done.stdout
    assert done.stderr == (
        "error: --config: there is no file configs/svhn_l2.py (did you mean svhn_l2?); "
        "rtl-jax configs lists those that come with rtl_jax\n"
    )
