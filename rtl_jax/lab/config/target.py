"""Settings of the target: its images, and how they are changed."""

import dataclasses

from rtl_jax.data.corruptions.severities import CORRUPTIONS, LEAST, Corruption
from rtl_jax.errors import require
from rtl_jax.runtime import limits


@dataclasses.dataclass(frozen=True)
class Target:
    """The images to transfer to."""

    # tfds:NAME, folder:PATH, list:PATH, npz:PATH or digits; join several with +
    dataset: str = "digits"
    # Where tfds data sets are; none: RTL_JAX_DATA_DIR, or ~/.cache/rtl_jax/data
    data_dir: str | None = None
    image_size: int = 224  # Size in pixels at which the network sees images
    num_images: int | None = None  # Number of training images, drawn by the seed; none: all
    # Number of test images, the same draw for every seed; none: all
    num_test_images: int | None = None
    # Labels to keep, which are then renumbered from 0; none: all
    classes: tuple[int, ...] | None = None
    # Another data set with the same classes, whose test images are used instead. If it is a folder
    # without a test split, all of its images are.
    test_dataset: str | None = None
    # Number of folds for cross-validation, stratified by class; none: no cross-validation
    folds: int | None = None
    # Fold to test on, counted from 0, while the others train; none: train on all folds and test on
    # the same images
    fold: int | None = None
    # Downscale all images, training and test, to this many pixels and back up (paper, Table 2)
    low_resolution: int | None = None
    # Low-pass filter all images: of the image_size x image_size frequencies of each channel, set
    # this many to zero, starting with the highest (paper, Table 2)
    low_pass: int | None = None
    low_pass_share: float | None = None  # The same as a fraction of the frequencies
    # Common corruption of the test images and its severity from 1 to 5, such as fog:3; none: no
    # corruption
    corruption: str | None = None

    def __post_init__(self) -> None:
        require(bool(self.dataset), "target.dataset", "a data set", self.dataset)
        other = self.test_dataset
        require(other != "", "target.test_dataset", "a data set, or none", other)
        require(self.image_size >= 8, "target.image_size", "at least 8 pixels", self.image_size)
        for name in ("num_images", "num_test_images"):
            value = getattr(self, name)
            require(value is None or value > 0, f"target.{name}", "a positive number", value)
        classes = self.classes
        require(
            classes is None or (len(set(classes)) == len(classes) >= 2 and min(classes) >= 0),
            "target.classes",
            "two different labels or more, or none",
            classes,
        )
        limits.require_within(
            self,
            "target",
            image_size=limits.IMAGE_SIZE,
            num_images=limits.IMAGES,
            num_test_images=limits.IMAGES,
            classes=limits.CLASSES,
            folds=limits.FOLDS,
        )
        folds, fold = self.folds, self.fold
        require(folds is None or folds >= 2, "target.folds", "2 or more, or none", folds)
        good = fold is None or (folds is not None and 0 <= fold < folds)
        require(good, "target.fold", "0 to target.folds - 1, or none", fold)
        good = folds is None or self.num_test_images is None
        require(good, "target.num_test_images", "none with target.folds", self.num_test_images)
        good = folds is None or other is None
        require(good, "target.test_dataset", "none with target.folds", other)
        self._check_variant()

    def _check_variant(self) -> None:
        pixels, count, share = self.low_resolution, self.low_pass, self.low_pass_share
        expected = f"1 to {self.image_size - 1} pixels, fewer than target.image_size, or none"
        good = pixels is None or 0 < pixels < self.image_size
        require(good, "target.low_resolution", expected, pixels)
        most = self.image_size**2 - 1  # the mean stays
        good = count is None or 0 < count <= most
        require(good, "target.low_pass", f"1 to {most} frequencies, or none", count)
        good = share is None or (0 < share < 1 and 0 < self.zeroed_frequencies <= most)
        require(good, "target.low_pass_share", f"a share of 1 to {most} frequencies", share)
        one = count is None or share is None
        require(one, "target.low_pass_share", "none with target.low_pass", share)
        if self.corruption is not None:
            expected = (
                "NAME:SEVERITY, such as 'fog:3', with a severity of 1 to 5 and a name of "
                f"{', '.join(CORRUPTIONS)}, or none"
            )
            good = Corruption.readable(self.corruption)
            require(good, "target.corruption", expected, self.corruption)
            good = self.image_size >= LEAST
            expected = f"{LEAST} pixels or more with target.corruption"
            require(good, "target.image_size", expected, self.image_size)

    @property
    def zeroed_frequencies(self) -> int:
        """How many frequencies the low-pass sets to zero; 0: there is none."""
        return self.low_pass or round((self.low_pass_share or 0) * self.image_size**2)

    @property
    def variant(self) -> str | None:
        """What is done to images, such as 'low_pass=1024,corruption=fog:3'; None: nothing."""
        done = {
            "low_resolution": self.low_resolution,
            "low_pass": self.zeroed_frequencies,
            "corruption": self.corruption,
        }
        return ",".join(f"{name}={value}" for name, value in done.items() if value) or None
