"""Every registered kind of dataset keeps its contract, and so does an external one."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rtl_jax.data import load_dataset
from rtl_jax.data.dataset import Decoded, ImageSet
from rtl_jax.data.listing import write_list
from rtl_jax.data.source import KINDS, DataSource, parts, register, usage
from tests.contracts.data import Case, check_data_source, touch
from tests.data.prepared import example, png, write


def picture(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (9, 11 + seed % 3, 3), np.uint8)
    Image.fromarray(noise).save(path)
    return path


def undivided(directory: Path) -> str:
    for number in range(10):
        picture(directory / "photos" / "ab"[number % 2] / f"{number}.png", number)
    return f"folder:{directory / 'photos'}"


def divided(directory: Path) -> str:
    for number in range(10):
        half = "test" if number > 7 else "train"
        picture(directory / "photos" / half / "ab"[number % 2] / f"{number}.png", number)
    return f"folder:{directory / 'photos'}"


def listed(directory: Path) -> str:
    rows = [
        (picture(directory / f"{number}.png", number), "ab"[number % 2], split)
        for number, split in enumerate(["train"] * 6 + ["test"] * 4)
    ]
    write_list(directory / "list.csv", rows)
    return f"list:{directory / 'list.csv'}"


def change_listed(file: Path) -> None:
    if file.suffix == ".csv":
        file.write_text(file.read_text().replace(",a,train", ",b,train", 1))
    else:
        touch(file)


def arrays(directory: Path) -> str:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (10, 9, 7, 3), np.uint8), np.arange(10) % 2
    kept = {"x_train": x[:6], "y_train": y[:6], "x_test": x[6:], "y_test": y[6:]}
    np.savez_compressed(directory / "set.npz", **kept)
    return f"npz:{directory / 'set.npz'}"


def prepared(directory: Path) -> str:
    pytest.importorskip("array_record.python.array_record_module")
    rows = [example(image=png(20 * i), label=i % 2) for i in range(10)]
    write(directory, {"train": rows[:6], "test": rows[6:]})
    return "tfds:toy"


def missing(kind: str) -> dict:
    return {"missing": lambda directory: f"{kind}:{directory / 'absent'}"}


CASES = {
    "digits": Case(lambda _: "digits", None),
    "folder": Case(undivided, **missing("folder")),
    "folder, divided": Case(divided, **missing("folder")),
    "list": Case(listed, **missing("list"), change=change_listed),
    "npz": Case(arrays, **missing("npz")),
    "tfds": Case(prepared, lambda _: "tfds:absent"),
}


@pytest.mark.parametrize("name", CASES)
def test_data_sources(name: str, tmp_path: Path) -> None:
    check_data_source(CASES[name], tmp_path)


def test_every_kind_has_been_checked() -> None:
    assert {name.partition(",")[0] for name in CASES} == set(KINDS)


# ---- Seams -------------------------------------------------------------------------------------


def test_a_kind_from_elsewhere_works_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A class is all it takes: specs, unions, tests on it and messages support it."""
    monkeypatch.setitem(KINDS, "noise", KINDS["digits"])  # so that it is taken out afterwards
    del KINDS["noise"]

    @register("noise", takes="SEED")
    class Noise(DataSource):
        def cache_key(self, image_size: int, seed: int | None) -> None:
            return None

        def read(self, image_size: int, seed: int | None) -> Decoded:
            rng = np.random.default_rng(int(self.rest))
            images = rng.integers(0, 256, (8, 5, 5, 1), np.uint8)
            labels = np.arange(8, dtype=np.int32) % 2
            return Decoded(
                ImageSet(images[:6], labels[:6]), ImageSet(images[6:], labels[6:]), ("a", "b")
            )

        def decoded_bytes(self, image_size: int) -> int:
            return 8 * 25

    check_data_source(Case(lambda _: "noise:3", None), tmp_path)
    assert usage().endswith("or noise:SEED")
    assert parts("folder:x+noise:1+digits") == ["folder:x", "noise:1", "digits"]
    both = load_dataset("noise:1+noise:2", data_dir=None, image_size=8)
    assert len(both.train) == 12 and len(both.test) == 2
    other = load_dataset("noise:1", data_dir=None, image_size=8, test="noise:4")
    np.testing.assert_array_equal(
        other.test.images[..., :1], load_dataset("noise:4", data_dir=None, image_size=8).test.images
    )


def test_two_kinds_cannot_have_one_name() -> None:
    with pytest.raises(ValueError, match="'npz'"):
        register("npz", takes="PATH")(KINDS["npz"].source)
