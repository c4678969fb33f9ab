"""Predictions of a picture do not depend on the batch, the format or interruptions."""

import dataclasses
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.special import softmax

import run
from rtl_jax.data import pictures
from rtl_jax.errors import Incomplete, UserError
from rtl_jax.lab.config import Experiment, Predict, Source
from rtl_jax.lab.predict import inputs, output
from rtl_jax.lab.predict.output import read
from rtl_jax.lab.predict.predictor import Predictor
from rtl_jax.lab.predict.table import summarize
from rtl_jax.lab.predict.task import run_predict
from rtl_jax.models.architecture import architecture
from rtl_jax.models.model import initialize
from rtl_jax.models.network import Network
from rtl_jax.runtime.digest import image_digests

pytestmark = pytest.mark.slow

CONFIG = Path(__file__).parents[3] / "configs" / "predict.py"
NAMES = ["ant", "bee", "cat", "dog"]
TEMPERATURE = 1.7
ARCH = architecture("resnet18", stem="small", stage_sizes=(1, 1), stage_widths=(8, 16)).replace(
    stem_width=8, num_classes=4
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network and 11 pictures of several sizes, one of them broken."""
    directory = tmp_path_factory.mktemp("predict")
    variables = jax.tree.map(np.asarray, initialize(ARCH, jax.random.key(0)))
    provenance = {
        "class_names": NAMES,
        "settings": {"target": {"image_size": 12}},
        "calibration": {"temperature": TEMPERATURE, "before": 9.0, "after": 2.0, "images": 5},
    }
    Network(ARCH, *variables, provenance).save(directory / "network")
    Network(ARCH, *variables, {}).save(directory / "bare")
    (directory / "new" / "deep").mkdir(parents=True)
    draw = np.random.default_rng(0)
    for index in range(10):
        pixels = draw.integers(0, 256, (10 + index, 14, 3), dtype=np.uint8)
        folder = directory / "new" / ("deep" if index % 2 else "")
        Image.fromarray(pixels).save(folder / f"{index}.png")
    (directory / "new" / "5_broken.jpg").write_bytes(b"no picture")
    (directory / "new" / "notes.md").write_text("x")
    return directory


def experiment(root: Path, images: str, **settings) -> Experiment:
    return Experiment(
        task="predict",
        source=Source(str(root / "network")),
        predict=Predict(images=images, batch_size=4, **settings),
    )


def expected(root: Path, file: str) -> np.ndarray:
    """Compute the probabilities of one picture by the whole network."""
    network = Network.load(root / "network")
    logits_fn = Network(ARCH, network.params, network.batch_stats).logits_fn()
    pixels = pictures.decode(Path(file), 12)[None] / np.float32(255)
    return softmax(np.asarray(logits_fn(jnp.asarray(pixels)))[0] / TEMPERATURE)


def check(root: Path, table: pd.DataFrame) -> None:
    for row in table.itertuples():
        if Path(row.file).name == "5_broken.jpg":
            assert "not an image" in row.error and pd.isna(row.class_1)
            continue
        assert pd.isna(row.error)
        truth = expected(root, row.file)
        order = np.argsort(-truth)[:3]
        assert [row.class_1, row.class_2, row.class_3] == [NAMES[label] for label in order]
        found = [row.probability_1, row.probability_2, row.probability_3]
        np.testing.assert_allclose(found, truth[order], atol=1e-5)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_rows_are_each_picture_s_own(root: Path, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"out.{ending}"
    with pytest.raises(Incomplete, match=r"1 of 11 images could not be read.*out\."):
        run_predict(experiment(root, str(root / "new"), top=3, output=str(path)), tmp_path)
    table = read(path)
    names = [str(Path(file).relative_to(root / "new")) for file in table["file"]]
    assert names == ["0.png", "2.png", "4.png", "5_broken.jpg", "6.png", "8.png",
                     *(f"deep/{index}.png" for index in (1, 3, 5, 7, 9))]  # fmt: skip
    assert list(table.columns) == ["file", "error", *(
        f"{name}_{rank}" for rank in (1, 2, 3) for name in ("class", "probability"))]  # fmt: skip
    check(root, table)
    assert not list((tmp_path / "predicting").iterdir())


def test_patterns_lists_and_single_pictures(root: Path, tmp_path: Path) -> None:
    rows = run_predict(experiment(root, str(root / "new/**/[0-9].png"), top=3), tmp_path)
    assert rows["pictures"].tolist() == [10]
    assert "predicted 10 images in " in summarize(rows)
    whole = read(tmp_path / "predictions.csv")
    check(root, whole)
    listed = root / "some.txt"
    listed.write_text("new/deep/3.png\n\nnew/0.png\n")
    run_predict(experiment(root, str(listed), top=3), tmp_path)
    some = read(tmp_path / "predictions.csv")
    assert [Path(file).name for file in some["file"]] == ["3.png", "0.png"]
    check(root, some)
    rows = run_predict(experiment(root, str(root / "new/2.png"), top=9), tmp_path)
    assert "predicted 1 image in " in summarize(rows)
    one = read(tmp_path / "predictions.csv")
    assert len(one) == 1 and one["probability_4"].notna().all()  # there are four classes
    assert one.filter(like="probability").sum(axis=1).tolist() == pytest.approx([1.0])


def test_the_exit_code_says_that_some_were_broken(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--config", str(CONFIG), "--workdir", str(tmp_path), "--config.predict.batch_size=4",
             f"--config.source.checkpoint={root / 'network'}"]  # fmt: skip
    assert run.main([*words, f"--config.predict.images={root / 'new'}"]) == 3
    captured = capsys.readouterr()
    assert "incomplete: 1 of 11 images" in captured.err and "Traceback" not in captured.err
    assert "temperature 1.700" in captured.out and "is 2.0 %" in captured.out
    assert run.main([*words, f"--config.predict.images={root / 'new/0.png'}"]) == 0
    assert run.main([*words, f"--config.predict.images={root / 'absent'}"]) == 2
    assert "predict.images: expected a folder" in capsys.readouterr().err


def test_an_interrupted_prediction_goes_on(
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(output, "ROWS", 4)
    every = [pictures.decode(path, 12) for path in (root / "new").rglob("*.png")]
    monkeypatch.setattr(Network, "training_images", frozenset(image_digests(every)))
    settings = experiment(root, str(root / "new/**/[0-9].png"), top=3)
    features, seen = Predictor.features, []

    def counted(self: Predictor, images: np.ndarray) -> np.ndarray:
        seen.append(len(images))
        if len(seen) == 3:
            raise KeyboardInterrupt
        return features(self, images)

    monkeypatch.setattr(Predictor, "features", counted)
    with pytest.raises(KeyboardInterrupt):
        run_predict(settings, tmp_path)
    assert not (tmp_path / "predictions.csv").exists()
    run_predict(settings, tmp_path)
    assert seen == [4, 4, 2, 2]  # two pieces were there, and were not computed again
    assert "2 of the images predicted now are training images" in capsys.readouterr().out
    check(root, read(tmp_path / "predictions.csv"))
    # A changed picture is another prediction.
    with pytest.raises(KeyboardInterrupt):
        seen.clear()
        run_predict(settings, tmp_path)
    (piece,) = (tmp_path / "predicting").iterdir()
    (root / "new/0.png").touch()
    run_predict(settings, tmp_path)
    assert piece.exists() and len(seen) == 6


def test_no_more_is_held_than_a_few_batches(root: Path) -> None:
    taken = 0

    def endless() -> Iterator[Path]:
        nonlocal taken
        while True:
            taken += 1
            yield root / "new/0.png"

    batches = inputs.decoded(endless(), 12, batch_size=5)
    for number in range(1, 6):
        batch = next(batches)
        assert len(batch.files) == 5 and taken <= 5 * (number + 3)
    batches.close()


def test_a_network_without_a_temperature_says_so(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = experiment(root, str(root / "new/0.png"))
    bare = dataclasses.replace(settings, source=Source(str(root / "bare")))
    bare = dataclasses.replace(bare, target=dataclasses.replace(bare.target, image_size=12))
    run_predict(bare, tmp_path)
    assert "no temperature was fitted for this network" in capsys.readouterr().out
    (row,) = read(tmp_path / "predictions.csv").itertuples()
    truth = expected(root, str(root / "new/0.png")) ** TEMPERATURE
    assert row.class_1 == truth.argmax()  # a number, since there are no names
    assert row.probability_1 == pytest.approx((truth / truth.sum()).max(), abs=1e-5)


def test_images_that_the_network_saw_changed_are_said(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = Network.load(root / "network")
    target = {"image_size": 12, "low_resolution": 4}
    provenance = {**network.provenance, "settings": {"target": target}}
    network.replace(provenance=provenance).save(tmp_path / "small")
    settings = experiment(root, str(root / "new/0.png"))
    run_predict(settings, tmp_path / "work")
    assert "trained on images with" not in capsys.readouterr().out
    run_predict(
        dataclasses.replace(settings, source=Source(str(tmp_path / "small"))), tmp_path / "work"
    )
    assert "trained on images with low_resolution=4; these are" in capsys.readouterr().out


def test_a_network_without_a_head_is_refused(root: Path, tmp_path: Path) -> None:
    variables = jax.tree.map(np.asarray, initialize(ARCH, jax.random.key(0)))
    Network(ARCH, *variables, {"head": "none of its own: zeros"}).save(tmp_path / "backbone")
    settings = experiment(root, str(root / "new/0.png"))
    settings = dataclasses.replace(settings, source=Source(str(tmp_path / "backbone")))
    with pytest.raises(UserError, match="no trained head, and so no classes to predict"):
        run_predict(settings, tmp_path)


def test_bad_outputs_and_nothing_to_do(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"predict.output: expected a .csv or .parquet"):
        run_predict(experiment(root, str(root / "new"), output="x.txt"), tmp_path)
    with pytest.raises(UserError, match=r"predict.images: expected a folder, .* no ''"):
        run_predict(experiment(root, ""), tmp_path)
    with pytest.raises(UserError, match=r"expected images, and .* has none"):
        run_predict(experiment(root, str(root / "new/*.tiff")), tmp_path)


def test_names_that_are_not_utf8_have_rows_too(root: Path, tmp_path: Path) -> None:
    odd = os.path.join(os.fsencode(tmp_path), b"caf\xe9.png")
    shutil.copy(root / "new/0.png", odd)
    (tmp_path / "list.txt").write_bytes(b"caf\xe9.png\nabsent\xe9.png\n")
    with pytest.raises(Incomplete, match="1 of 2 images"):
        run_predict(experiment(root, str(tmp_path / "list.txt")), tmp_path)
    row, absent = read(tmp_path / "predictions.csv").itertuples()
    assert row.file == str(tmp_path / r"caf\xe9.png") and row.class_1 in NAMES
    assert absent.file == str(tmp_path / r"absent\xe9.png") and "No such file" in absent.error


def test_pictures_of_12_bits_are_a_question(root: Path, tmp_path: Path) -> None:
    levels = np.random.default_rng(0).integers(0, 4096, (14, 14)).astype(np.uint16)
    Image.fromarray(levels).save(tmp_path / "a.png")
    with pytest.raises(
        UserError, match=r"the images with 16 bits per channel \(1\) .*\* 65535 // 4095"
    ):
        run_predict(experiment(root, str(tmp_path / "*.png")), tmp_path)
    levels[0, 0] = 65535
    Image.fromarray(levels).save(tmp_path / "a.png")
    run_predict(experiment(root, str(tmp_path / "*.png")), tmp_path)
