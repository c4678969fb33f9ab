"""The training loop: steps, checkpoints, ends of epochs, divergence, and interruption.

The loop decides when to measure and save; a `Log` decides what.
"""

import contextlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from rtl_jax.errors import UserError
from rtl_jax.models.network import Network
from rtl_jax.runtime import devices
from rtl_jax.runtime.interruption import Stopped, asked_to_stop
from rtl_jax.runtime.progress import bar, say
from rtl_jax.train.checkpoints import TrainingCheckpoints, named, unnamed
from rtl_jax.train.finetuning import FineTuning
from rtl_jax.train.metrics import Metrics
from rtl_jax.train.parallel import in_groups, seeds_at_once
from rtl_jax.train.side_by_side import all_finite
from rtl_jax.train.step import TrainState
from rtl_jax.train.trainer import FeatureCaches, Training, begin, caches_for

# Seconds between reads of the losses, each of which waits for the device.
_LOOK_SECONDS = 1.0


class Log(Protocol):
    """The measurements of a training.

    evaluations: the epochs, counted from 1, after which `evaluate` is called.
    """

    @property
    def evaluations(self) -> Collection[int]: ...

    def evaluate(
        self, epoch: int, state: TrainState, trained: Sequence[Mapping[str, float]]
    ) -> Mapping[str, str]:
        """Measure the state after an epoch and return what the progress bar shows.

        `trained` has the training loss (nats) and accuracy (percent) of each seed in that epoch.
        """

    def record(self) -> dict[str, Any]:
        """Return what a checkpoint saves besides the state, JSON-serialisable."""

    def restore(self, record: Mapping[str, Any]) -> None:
        """Return to the state in which `record` was called."""


class NoLog:
    """A log without measurements."""

    evaluations: Collection[int] = ()

    def evaluate(
        self, epoch: int, state: TrainState, trained: Sequence[Mapping[str, float]]
    ) -> Mapping[str, str]:
        """Return nothing; never called."""
        return {}

    def record(self) -> dict[str, Any]:
        """Return an empty record."""
        return {}

    def restore(self, record: Mapping[str, Any]) -> None:
        """Nothing to do."""


class Loop:
    """A training, from the last checkpoint or the start to its end.

    Args:
      training, state: the results of `begin`.
      log: the measurements.
      checkpoints: where to save the state every `settings.checkpoint_seconds`, at the end, and when
        SIGTERM asks the training to stop; None: it is not saved.
      what: the label of the progress bar. name: the name of the run in messages.
      ends: whether divergence of any seed is an error.
      progress: a progress bar shared by several trainings; by default a new one.
    """

    def __init__(
        self,
        training: Training,
        state: TrainState,
        log: Log,
        *,
        checkpoints: TrainingCheckpoints | None = None,
        what: str = "training",
        name: str = "",
        ends: bool = True,
        progress: Any = None,
    ):
        self.training, self.state, self.log = training, state, log
        self.checkpoints, self.what, self.name, self.ends = checkpoints, what, name, ends
        self.sums = training.zero()
        self.done = self.saved = 0
        self.saved_at = self.looked_at = time.monotonic()
        self._progress = progress
        self._answer: Any = False

    def run(self) -> TrainState:
        """Train to the end.

        Raises:
          UserError: if training diverges, or a checkpoint cannot be written or read.
          Stopped: after SIGTERM; the state has been saved.
        """
        training = self.training
        if self.checkpoints is not None:
            self._restore(self.checkpoints)
        kept = asked_to_stop() if self.checkpoints is not None else contextlib.nullcontext(_never)
        with contextlib.closing(training.feed), kept as stop:
            if self._progress is not None:
                self._steps(self._progress, stop)
            else:
                total = training.feed.images_per_epoch * training.seeds * training.program.epochs
                with bar(self.what, total, done=self._images_done, leave=True) as progress:
                    self._steps(progress, stop)
        return self.state

    @property
    def _epochs_done(self) -> int:
        return self.done // self.training.feed.steps_per_epoch

    @property
    def _images_done(self) -> int:
        """The images that have been trained on, counting each seed and epoch."""
        feed = self.training.feed
        return feed.images_per_epoch * self.training.seeds * self.done // feed.steps_per_epoch

    def _steps(self, progress: Any, stop: Callable[[], bool]) -> None:
        training, settings = self.training, self.training.program.settings
        steps, total = training.feed.steps_per_epoch, training.num_steps
        shown = self._images_done
        if not total and 0 in self.log.evaluations:  # the fitted head is the whole training
            self.log.evaluate(0, self.state, [head.measured for head in training.heads])
        while self.done < total:
            self.state, self.sums, number = training.advance(self.state, self.sums, self.done)
            self.done += number
            ended = self.done % steps == 0
            progress.update(self._images_done - shown)
            shown = self._images_done
            if ended:
                self._end_epoch(progress)
            if self.checkpoints is None:
                continue
            last = self.done == total
            due = time.monotonic() - self.saved_at >= settings.checkpoint_seconds
            asked = self._agreed(stop())
            if last or due or asked:
                self._save(self.checkpoints)
            if asked and not last:
                raise Stopped(
                    f"stopped after step {self.done} of {total}, which is saved; the same "
                    "command resumes"
                )

    def _agreed(self, asked: bool) -> bool:
        """Return whether to stop; hosts that divide batches stop after the same step.

        Otherwise those that were asked later, or not at all, would wait for the others forever. The
        answer is that of the step before, because waiting for this one's would idle the devices.
        """
        if jax.process_count() == 1 or not self.training.placement.divides_batches:
            return asked
        before, self._answer = self._answer, devices.any_host(asked)
        return bool(before)

    def _end_epoch(self, progress: Any) -> None:
        """Check a finished epoch if it is to be evaluated or the last check was a second ago."""
        epoch, sums = self._epochs_done, self.sums
        self.sums = self.training.zero()
        evaluated = epoch in self.log.evaluations
        if not evaluated and time.monotonic() - self.looked_at < _LOOK_SECONDS:
            return
        trained = sums.each()
        self._require_finite([one["loss"] for one in trained])
        mean = {key: float(np.mean([one[key] for one in trained])) for key in trained[0]}
        shown = {"loss": f"{mean['loss']:.3g}", "acc": f"{mean['accuracy']:.1f}%"}
        if evaluated:
            shown |= self.log.evaluate(epoch, self.state, trained)
        progress.set_postfix(shown, refresh=False)
        self.looked_at = time.monotonic()

    def _require_finite(self, losses: Sequence[float]) -> None:
        """Raise UserError if a loss or a value of the state is not finite."""
        if self.ends and not (np.isfinite(losses).all() and all_finite(self.state).all()):
            raise UserError(self._divergence(losses))

    def _divergence(self, losses: Sequence[float]) -> str:
        epoch = -(-self.done // self.training.feed.steps_per_epoch)
        kept = ""
        if self.checkpoints is not None:
            kept = (
                f"; the last good checkpoint is step {self.saved}, in {self.checkpoints.directory}"
                if self.saved
                else "; there is no earlier checkpoint"
            )
        group = self.training.program.settings.GROUP
        return (
            f"training diverged by epoch {epoch}, step {self.done}: its loss is "
            f"{', '.join(f'{loss:.4g}' for loss in losses)}, or a parameter is not a finite "
            f"number{kept}. Lower {group}.learning_rate (a large finite loss is normal with a new "
            "head)"
        )

    def _save(self, checkpoints: TrainingCheckpoints) -> None:
        """Save a checkpoint. Hosts need not agree on when, since only the first one writes."""
        self._require_finite(np.asarray(self.sums.loss).tolist())
        record = {
            "log": self.log.record(),
            "position": self.training.feed.position(),
            "sums": [np.asarray(part).tolist() for part in self.sums],
        }
        checkpoints.save(self.done, named(self.state), record)
        self.saved, self.saved_at = self.done, time.monotonic()

    def _restore(self, checkpoints: TrainingCheckpoints) -> None:
        """Restore the last checkpoint, if there is one."""
        step = checkpoints.latest()
        if step is None:
            return
        leaves, record = checkpoints.restore(step, jax.tree.map(np.asarray, named(self.state)))
        self.state = self.training.placement.state(unnamed(leaves, self.state))
        zero = Metrics.zero(self.training.seeds)
        sums = Metrics(*(jnp.asarray(part) for part in record["sums"]))
        sums = jax.tree.map(lambda part, like: part.astype(like.dtype), sums, zero)
        self.sums = self.training.placement.state(sums)
        self.log.restore(record["log"])
        self.training.feed.seek(record["position"])
        self.done = self.saved = step
        steps = self.training.feed.steps_per_epoch
        say(
            f"run {self.name} resumes after step {step} of {self.training.num_steps}, epoch "
            f"{-(-step // steps)} of {self.training.program.epochs}"
        )


def _never() -> bool:
    return False


def fit(tunings: Sequence[FineTuning]) -> list[Network]:
    """Train fine-tunings that differ only by seed; return their networks in order.

    They train in one program or several, as `seeds_at_once` says. Raises UserError if one diverges.
    """
    networks: list[Network] = []
    diverged: list[int] = []
    with devices.matmul_precision(tunings[0].program.settings.precision):
        for group, caches in _groups(tunings):
            training, state = begin(group, caches)
            state = Loop(training, state, NoLog(), what="fine-tuning", ends=False).run()
            for index, (tuning, good) in enumerate(zip(group, all_finite(state), strict=True)):
                if good:
                    networks.append(training.network(state, tuning, index))
                else:
                    diverged.append(tuning.seed)
    if diverged:
        raise UserError(
            f"fine-tuning diverged for the seeds {diverged}: a parameter is not a finite number. "
            "Lower the learning rate"
        )
    return networks


def _groups(
    tunings: Sequence[FineTuning],
) -> Iterator[tuple[Sequence[FineTuning], FeatureCaches | None]]:
    """Yield the fine-tunings of each program, with the images that programs share."""
    if len(tunings) == 1:
        yield tunings, None
        return
    caches = None if tunings[0].program.network.own_statistics else caches_for(tunings)
    for group in in_groups(tunings, seeds_at_once(tunings, caches)):
        yield group, caches
