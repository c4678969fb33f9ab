"""The row: one evaluation of one run, and where rows live.

A run's rows are one Parquet file, WORKDIR/rows/RUN.parquet, written whole or not at all;
`read_rows` gathers a work directory's into one pandas frame, without JAX. WORKDIR may be
any path that `etils.epath` opens.
"""

import contextlib
import datetime
import importlib.metadata
import json
import os
import platform
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pandas as pd
from etils import epath

from rtl_jax.config import Experiment
from rtl_jax.errors import UserError

SCHEMA_VERSION = 1

# Column -> (pandas dtype, meaning). Adding a column keeps the version (of a dtype that can be
# missing, since older files do not have it); changing the meaning of one raises it.
SCHEMA: dict[str, tuple[str, str]] = {
    "schema_version": ("int64", "of this table"),
    "run": ("string", "identifies settings, source network and data; 16 hex digits"),
    "task": ("string", "finetune, attack, pretrain or influence"),
    "method": (
        "string",
        "transfer, linear_pixels (logistic regression on raw pixels), pretrain, pgd, gaussian, "
        "influence, influence_trainable, gradient or loss",
    ),
    "source": ("string", "source.checkpoint as given"),
    "source_sha256": ("string", "of the source's original file, where known"),
    "architecture": ("string", "of the network, such as resnet50"),
    "dataset": ("string", "target.dataset as given"),
    "data_order": ("string", "original: the source files' order; tfds: a prepared set's"),
    "num_classes": ("int64", "of the target"),
    "num_images": ("Int64", "training images, of a fine-tuning"),
    "num_test_images": ("int64", "test images evaluated"),
    "image_size": ("int64", "pixels that the network sees"),
    "blocks": ("Int64", "residual blocks trained beside the head; missing: everything"),
    "frozen_batch_norm": ("string", "batch, source or adapt"),
    "seed": ("int64", "of subset, head, batches and augmentation; of an attack's random starts"),
    "epoch": ("Int64", "of a fine-tuning, after which this was measured, from 1"),
    "epochs": ("Int64", "of the whole fine-tuning"),
    "accuracy": ("float64", "top-1 on the test images, percent; attacked: robust accuracy"),
    "loss": ("float64", "mean test cross-entropy (attacked: in the attack's loss), nats"),
    "train_accuracy": ("float64", "during that epoch, on augmented images, percent"),
    "train_loss": ("float64", "mean during that epoch, nats"),
    "norm": ("string", "of an attack: linf, l2 or unconstrained"),
    "eps": ("float64", "of an attack: its radius in that norm, for pixels in [0, 1]"),
    "top1_match": (
        "float64",
        "of influence: test images whose most influential training image has their label, percent",
    ),
    "top5_match": (
        "float64",
        "of influence: test images whose label at least three of the top five have, percent",
    ),
    "inspected": ("float64", "of flipped labels: training images looked at, percent"),
    "recall": ("float64", "of flipped labels: found among those inspected, percent"),
    "seconds": (
        "float64",
        "since the run started, all its sessions, compilation included; of a sweep, its share",
    ),
    "config": ("string", "every setting, as JSON"),
    "platform": ("string", "cpu, gpu or tpu"),
    "device_kind": ("string", "of the accelerator"),
    "num_devices": ("int64", "local devices"),
    "versions": ("string", "of Python and the packages that matter, as JSON"),
    "time": ("string", "when the row was made, UTC, ISO 8601"),
}

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def versions() -> dict[str, str]:
    """The versions of Python, of this package and of those that results depend on."""
    from rtl_jax import __version__

    packages = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), "rtl_jax": __version__, **packages}


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def row(experiment: Experiment, **columns: Any) -> dict[str, Any]:
    """A row of an experiment: what its settings say, `columns`, and nothing in the others."""
    return {
        **dict.fromkeys(SCHEMA),
        "schema_version": SCHEMA_VERSION,
        "task": experiment.task,
        "source": experiment.source.checkpoint,
        "dataset": experiment.target.dataset,
        "image_size": experiment.target.image_size,
        "seed": experiment.seed,
        "config": as_json(experiment.to_dict()),
        "versions": as_json(versions()),
        "time": now(),
        **columns,
    }


def rows_path(workdir: epath.PathLike, run: str) -> epath.Path:
    """Where the rows of a run are."""
    return epath.Path(workdir) / "rows" / f"{run}.parquet"


def frame(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows as a frame with the schema's columns and types.

    Raises ValueError for a column that the schema does not know or that is missing.
    """
    rows = [{"schema_version": SCHEMA_VERSION, **row} for row in rows]
    for row in rows:
        if row.keys() ^ SCHEMA.keys():
            raise ValueError(
                f"columns differ from the schema: {sorted(row.keys() ^ SCHEMA.keys())}"
            )
    table = pd.DataFrame(rows, columns=list(SCHEMA))
    return table.astype({column: dtype for column, (dtype, _) in SCHEMA.items()})


def write_rows(workdir: epath.PathLike, run: str, rows: Iterable[Mapping[str, Any]]) -> epath.Path:
    """Write a run's rows, atomically; an older file of the same run is replaced."""
    path = rows_path(workdir, run)
    # Hidden, and not *.parquet, so that no reader takes it for a finished file.
    temporary = path.parent / f".{run}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp"
    table = frame(rows)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            table.to_parquet(file, engine="pyarrow", index=False, write_page_checksum=True)
        temporary.replace(path)
    except OSError as error:
        raise UserError(
            f"cannot write the rows to {path} ({error}): make room or choose another work "
            "directory, and run the same command again"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return path


def read_rows(workdir: epath.PathLike) -> pd.DataFrame:
    """All rows under a work directory, sorted by run, method, epoch and eps.

    Raises UserError where there are none, where a file is damaged (naming it), and where
    one was written by a newer schema.
    """
    paths = _files(workdir)
    if not paths:
        directory = epath.Path(workdir) / "rows"
        raise UserError(f"{workdir} has no results: expected Parquet files in {directory}")
    tables = [_read(path) for path in paths]
    return pd.concat(tables, ignore_index=True).sort_values(
        ["run", "method", "epoch", "eps"], ignore_index=True
    )


def finished(workdir: epath.PathLike, column: str = "run") -> set[str]:
    """What all rows under a work directory have in a column; nothing if it has no rows.

    Raises UserError where a file is damaged.
    """
    found: set[str] = set()
    for path in _files(workdir):
        with _naming(path), path.open("rb") as file:
            found |= set(pd.read_parquet(file, engine="pyarrow", columns=[column])[column])
    return found


def _files(workdir: epath.PathLike) -> list[epath.Path]:
    directory = epath.Path(workdir) / "rows"
    return sorted(directory.glob("*.parquet")) if directory.exists() else []


@contextlib.contextmanager
def _naming(path: epath.Path) -> Iterator[None]:
    """Raise UserError that names the file where it cannot be read."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError) as error:  # pyarrow's are ValueErrors
        raise UserError(
            f"{path} is damaged ({error}): remove it and run its config again"
        ) from error


def _read(path: epath.Path) -> pd.DataFrame:
    with _naming(path):
        with path.open("rb") as file:
            table = pd.read_parquet(file, engine="pyarrow", page_checksum_verification=True)
        version = int(table["schema_version"].max())
        if version > SCHEMA_VERSION:
            raise UserError(
                f"{path} has schema {version}, this code reads up to {SCHEMA_VERSION}: "
                "update rtl_jax"
            )
        missing = [column for column in SCHEMA if column not in table]
        unknown = [column for column in table if column not in SCHEMA]
        if missing and unknown:  # an older file lacks some, a newer one has more: never both
            raise ValueError(f"it has the columns {unknown} and not {missing}")
        table = table.reindex(columns=[*SCHEMA, *unknown])
        return table.astype({column: dtype for column, (dtype, _) in SCHEMA.items()})


def as_json(value: Mapping[str, Any]) -> str:
    """Compact JSON with sorted keys, as the columns `config` and `versions` hold it."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
