"""The training loop: progressive ExpG, mixed precision, distillation, exact resumption, several processes."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Generator, Tensor, nn

from snnc.errors import InputError, UsageError, Where
from snnc.nn.expg import ExpG
from snnc.nn.schedule import Schedule, reestimate_batch_norm
from snnc.train.checkpoint import check_same, digest, load_state, read, write
from snnc.train.data import TrainingData
from snnc.train.device import repeatable
from snnc.train.metrics import Metrics
from snnc.train.processes import (
    average_gradients,
    mean_of,
    rank,
    require_equal,
    same_buffers,
    same_tensors,
    same_thresholds,
    world,
)
from snnc.train.progress import Progress
from snnc.train.stop import Interrupted, Stop

__all__ = ["FitOptions", "accuracy", "fit"]

_SECONDS = 600  # between checkpoints, at most
_MOST = 10**9  # of anything that is counted
_PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class FitOptions:
    """How to train.

    Attributes:
        epochs: Passes over the data.
        batch: Samples a step, of all processes together.
        rate: Peak learning rate of AdamW; linear warm-up, cosine decay to 0.
        weight_decay: Of weights; not of biases, norms and thresholds.
        warm_up: Steps of warm-up, at most a tenth of all.
        clip: Largest norm of the gradient.
        smoothing: Label smoothing.
        rho: Part of training after which neurons are ExpG alone (see `snnc.nn.Schedule`).
        seed: Of the order of samples, augmentation and whatever the network draws.
        precision: ``"float32"``, ``"bfloat16"`` or ``"float16"`` (with loss scaling), as torch.autocast does
            it; parameters and evaluation are float32.
        device: Where to train: ``"cpu"``, ``"cuda"``...
        distil_weight: Weight of the teacher's part of the loss, 0 to 1.
        distil_temperature: Temperature of teacher and student.
        statistics: Samples to re-estimate BatchNorm with after training; 0: not at all.
        checkpoint_steps: Write a checkpoint every so many steps too, not only after each epoch and
            every 10 minutes.
        log_steps: Log figures every so many steps.
        evaluate_epochs: Evaluate on test data every so many epochs; 0: not before the end.
        stop_after: Stop after so many steps in all, as an interruption would; the run can be resumed.
            ``None``: train to the end.

    Raises:
        UsageError: SNN218 if a value is out of range.
    """

    epochs: int = 10
    batch: int = 128
    rate: float = 2e-3
    weight_decay: float = 0.02
    warm_up: int = 200
    clip: float = 5.0
    smoothing: float = 0.0
    rho: float = 0.8
    seed: int = 0
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    device: str = "cpu"
    distil_weight: float = 0.5
    distil_temperature: float = 2.0
    statistics: int = 20_000
    checkpoint_steps: int = 0
    log_steps: int = 50
    evaluate_epochs: int = 1
    stop_after: int | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "warm_up", "statistics", "checkpoint_steps", "evaluate_epochs", "seed"):
            if getattr(self, name) < 0:
                raise UsageError("SNN218", f"{name} must not be negative: {getattr(self, name)}")
        for name in ("batch", "rate", "clip", "distil_temperature", "log_steps", "stop_after"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise UsageError("SNN218", f"{name} must be positive: {value}")
        for name in ("epochs", "batch", "warm_up", "statistics", "checkpoint_steps", "log_steps"):
            if getattr(self, name) > _MOST:
                raise UsageError("SNN218", f"{name} must be at most {_MOST:,}: {getattr(self, name)}")
        if self.seed >= 2**63:
            raise UsageError("SNN218", f"seed must be less than 2^63: {self.seed}")
        for name in ("smoothing", "distil_weight", "weight_decay"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError("SNN218", f"{name} must lie in [0, 1]: {getattr(self, name)}")
        if self.precision not in _PRECISIONS:
            raise UsageError("SNN218", f"no precision {self.precision!r}", hint=", ".join(_PRECISIONS))

    @property
    def identity(self) -> dict[str, Any]:
        """What must be equal for a run to be resumed."""
        free = ("device", "checkpoint_steps", "log_steps", "evaluate_epochs", "stop_after", "statistics")
        return {key: value for key, value in asdict(self).items() if key not in free}


@torch.no_grad()
def accuracy(network: nn.Module, data: TrainingData, batch: int = 250, device: str = "cpu") -> float:
    """Return top-1 accuracy in percent with the deployed neurons, in float32.

    Args:
        network: Network; left in evaluation mode.
        data: Labelled samples.
        batch: Samples at a time.
        device: Where the network is.
    """
    network.eval()
    right = 0
    with repeatable(torch.device(device)):
        for indices in torch.split(torch.arange(len(data)), batch):
            inputs, labels = data.batch(indices, None)
            right += int((network(inputs.to(device)).argmax(1).cpu() == labels).sum())
    return 100.0 * right / max(1, len(data))


def fit(
    network: nn.Module,
    data: TrainingData,
    options: FitOptions,
    *,
    folder: Path | None = None,
    test: TrainingData | None = None,
    teacher: nn.Module | None = None,
    resume: bool = True,
    quiet: bool = False,
    identity: dict[str, Any] | None = None,
) -> bool:
    """Train a network in place; at the end its BatchNorm statistics are those of the deployed neurons.

    The order of samples, their augmentation and what the network draws from torch depend on the seed and the
    number of the step only, so that a run resumed from its checkpoint takes the same steps as one that was
    never interrupted: on the same machine and device, with the same number of threads and processes, bit for
    bit. (Where torch has an operation in no repeatable form on a GPU, as the gradient of adaptive pooling, it
    warns.) A run may go on on another device; its sums are rounded otherwise from there on.
    Ctrl-C and SIGTERM end the run behind the step, with a checkpoint; a second Ctrl-C ends it at once.

    Args:
        network: Network with `snnc.nn.ExpG` neurons, or in float.
        data: Training samples.
        options: How to train.
        folder: For ``checkpoint.pt`` and metrics; ``None``: neither is written.
        test: Samples to evaluate with after epochs.
        teacher: Float network whose logits are part of the loss.
        resume: Go on from the folder's checkpoint, if there is one.
        quiet: Show no progress.
        identity: What else must be equal for the run to be resumed, by name: numbers, texts, ``None``.
            Options, codes of the neurons, samples and teacher are looked at anyway.

    Returns:
        Whether training came to its end (not stopped by ``stop_after``).

    Raises:
        UsageError: SNN218 if the batch does not fit data or processes; SNN219 if the checkpoint is of a run
            with other options.
        InputError: SNN353 if the checkpoint is damaged; SNN354 if loss, gradient or weights are not finite.
        EnvironmentFailure: SNN603 if the checkpoint cannot be written; SNN617 if another process is gone.
        KeyboardInterrupt: The run was interrupted (`Interrupted`, which says after how many steps).
    """
    run = _Run(network, data, options, folder, teacher, identity or {})
    first = run.restore(resume)
    metrics = Metrics(folder if rank() == 0 else None, first=first)
    progress = Progress(run.total, run.steps, options.batch, first=first, quiet=quiet or rank() > 0)
    with repeatable(run.device):
        try:
            with Stop(patient=world() > 1) as run.stop:
                finished = _steps(run, first, metrics, progress, test)
        finally:
            metrics.close()
        require_equal(network)
        if finished and options.epochs and options.statistics:
            reestimate_batch_norm(network, run.plain_batches(options.statistics))
    return finished


def _steps(run: _Run, first: int, metrics: Metrics, progress: Progress, test: TrainingData | None) -> bool:
    options = run.options
    if options.stop_after is not None and options.stop_after <= first < run.total:
        return False
    running, counted, kept = 0.0, 0, time.monotonic()
    run.network.train()
    for done in range(first, run.total):
        loss = run.step(done)
        running, counted = running + loss, counted + 1
        progress.step(done + 1, running / counted)
        epoch, place = divmod(done + 1, run.steps)
        if (done + 1) % options.log_steps == 0:
            alpha = run.schedule.alpha(done / run.steps)
            metrics.write(
                done + 1, train__loss=loss, train__rate=run.rate(done), train__alpha=alpha,
                train__samples_per_second=progress.rate,
            )  # fmt: skip
        if place == 0:
            text, found = f"loss {running / counted:.4f}", {"train__epoch_loss": running / counted}
            if test is not None and options.evaluate_epochs and epoch % options.evaluate_epochs == 0:
                found["test__accuracy"] = accuracy(run.network, test, device=options.device)
                run.network.train()
                text += f" test {found['test__accuracy']:.2f} %"
            metrics.write(done + 1, **found)
            progress.epoch(epoch, options.epochs, text)
            running, counted = 0.0, 0
        stopping = options.stop_after is not None and done + 1 >= options.stop_after
        is_step = options.checkpoint_steps and (done + 1) % options.checkpoint_steps == 0
        is_late = time.monotonic() - kept > _SECONDS
        if place == 0 or stopping or run.signal or is_step or is_late:
            run.save(done + 1)
            kept = time.monotonic()
        if run.signal and done + 1 < run.total:
            raise Interrupted(done + 1, 128 + run.signal, run.folder is not None)
        if stopping and done + 1 < run.total:
            return False
    return True


class _Run:
    """The state of a training run."""

    def __init__(
        self,
        network: nn.Module,
        data: TrainingData,
        options: FitOptions,
        folder: Path | None,
        teacher: nn.Module | None,
        identity: dict[str, Any],
    ) -> None:
        self.network, self.data, self.options, self.folder = network, data, options, folder
        self.identity, self.stop, self.signal = identity, Stop(), 0
        self.device = torch.device(options.device)
        if options.batch % world():
            raise UsageError(
                "SNN218", f"a batch of {options.batch} is not shared evenly by {world()} processes"
            )
        if len(data) < options.batch:
            raise UsageError(
                "SNN218",
                f"{len(data)} samples do not fill one batch of {options.batch}",
                hint="give a smaller --batch",
            )
        self.steps = len(data) // options.batch
        self.total = self.steps * options.epochs
        if len(data.shape) == 3:
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        network.to(self.device)
        self.teacher = None if teacher is None else teacher.to(self.device).eval()
        parameters = [part for part in network.parameters() if part.requires_grad]
        if not parameters and options.epochs:
            raise UsageError("SNN218", "the network has no parameters to train", hint="or give --epochs 0")
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": options.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self.optimiser = torch.optim.AdamW(groups, lr=options.rate, betas=(0.9, 0.99))
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=options.precision == "float16")
        self.schedule = Schedule(network, options.epochs, options.rho)
        self.taught = None if teacher is None else digest(teacher.state_dict())

    def restore(self, resume: bool) -> int:
        """Begin, or go on from the checkpoint; returns the number of steps done."""
        done = 0
        path = None if self.folder is None else self.folder / "checkpoint.pt"
        if resume and path is not None and path.is_file():
            state = read(path)
            check_same(state.get("options"), self._identity(), path)
            load_state(self.network, state["network"], str(path))
            try:
                done = self._go_on_from(state)
            except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
                raise InputError(
                    "SNN353",
                    f"is damaged: {type(error).__name__}: {str(error)[:100]}",
                    where=Where(file=str(path)),
                    hint="begin anew: --restart",
                ) from error
        elif self.total:
            torch.manual_seed(self.options.seed)
            self.network.train()
            self.schedule.set(0)
            same_tensors(self.network)
            if world() > 1:
                indices = self._order(0)[: self.options.batch]
                same_thresholds(self.network, self.data.batch(indices, None)[0].to(self.device))
        return done

    def _go_on_from(self, state: dict[str, Any]) -> int:
        """Take over the optimiser of a checkpoint; returns the number of steps done."""
        self.optimiser.load_state_dict(state["optimiser"])
        for parameter, kept in self.optimiser.state.items():
            for name in ("exp_avg", "exp_avg_sq"):
                if kept[name].shape != parameter.shape or not bool(torch.isfinite(kept[name]).all()):
                    raise ValueError(f"{name} of the optimiser")
        if not isinstance(state["scaler"], dict):
            # Where no loss is scaled torch would not look at it.
            raise ValueError("scale of the loss")
        self.scaler.load_state_dict(state["scaler"])
        done = state["steps"]
        if type(done) is not int or not 0 <= done <= self.total:
            raise ValueError(f"{done} steps")
        return done

    def _identity(self) -> dict[str, Any]:
        codes = {part.extra_repr() for part in self.network.modules() if isinstance(part, ExpG)}
        return {
            **self.options.identity,
            "samples": len(self.data),
            **getattr(self.data, "identity", {}),
            "processes": world(),
            "codes": sorted(codes),
            "teacher": self.taught,
            **self.identity,
        }

    def save(self, done: int) -> None:
        """Write the checkpoint, in one process of all."""
        if not all(bool(torch.isfinite(part).all()) for part in self.network.parameters()):
            raise _diverged(f"weights are not finite after step {done}")
        if self.folder is None or rank():
            return
        state = {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "steps": done,
            "options": self._identity(),
        }
        write(self.folder / "checkpoint.pt", state)

    def rate(self, done: int) -> float:
        """Return the learning rate of a step."""
        warm = max(1, min(self.options.warm_up, self.total // 10))
        return (
            self.options.rate * min(1.0, (done + 1) / warm) * (1 + math.cos(math.pi * done / self.total)) / 2
        )

    def _order(self, epoch: int) -> Tensor:
        if getattr(self, "_ordered", None) != epoch:
            self._ordered = epoch
            self._indices = torch.randperm(len(self.data), generator=_generator(self.options.seed, epoch, 0))
        return self._indices

    def batch(self, done: int) -> tuple[Tensor, Tensor]:
        """Return this process's part of the samples of a step."""
        epoch, place = divmod(done, self.steps)
        size = self.options.batch // world()
        start = place * self.options.batch + rank() * size
        generator = _generator(self.options.seed, done, 1 + rank())
        inputs, labels = self.data.batch(self._order(epoch)[start : start + size], generator)
        return inputs.to(self.device), labels.to(self.device)

    def plain_batches(self, count: int) -> Iterator[Tensor]:
        """Yield samples without augmentation, the same in every process."""
        size = self.options.batch
        chosen = self._order(0)[: max(size, min(count, len(self.data)) // size * size)]
        for indices in torch.split(chosen, size):
            yield self.data.batch(indices, None)[0].to(self.device)

    def step(self, done: int) -> float:
        """Take one step and return its loss, the mean of all processes."""
        options = self.options
        self.schedule.set(done / self.steps)
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate(done)
        inputs, labels = self.batch(done)
        dtype = _PRECISIONS[options.precision]
        same_buffers(self.network)
        torch.manual_seed(_mixed(options.seed, done, -1 - rank()))
        with torch.autocast(self.device.type, dtype, enabled=dtype is not None):
            logits = self.network(inputs)
        _require_for_each(logits, labels)
        loss = self._loss(logits.float(), labels, inputs)
        if not loss.requires_grad:
            raise UsageError("SNN218", "the logits of the network do not depend on its parameters")
        # Together, so that all processes end at the same step.
        value, asked = mean_of((float(loss.detach()), float(self.stop.asked)), self.device)
        self.signal = self.stop.asked or (signal.SIGINT if asked else 0)
        if not math.isfinite(value):
            raise _diverged(f"the loss is {value} at step {done + 1}")
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        average_gradients(part for group in self.optimiser.param_groups for part in group["params"])
        self.scaler.unscale_(self.optimiser)
        norm = float(nn.utils.clip_grad_norm_(self.network.parameters(), options.clip))
        if not math.isfinite(norm) and not self.scaler.is_enabled():
            raise _diverged(f"the gradient is {norm} at step {done + 1}")
        self.scaler.step(self.optimiser)
        self.scaler.update()
        return value

    def _loss(self, logits: Tensor, labels: Tensor, inputs: Tensor) -> Tensor:
        options = self.options
        loss = nn.functional.cross_entropy(logits, labels, label_smoothing=options.smoothing)
        if self.teacher is None:
            return loss
        heat = options.distil_temperature
        with torch.no_grad():
            wanted = nn.functional.log_softmax(self.teacher(inputs).float() / heat, 1)
        found = nn.functional.log_softmax(logits / heat, 1)
        distance = nn.functional.kl_div(found, wanted, reduction="batchmean", log_target=True)
        return (1 - options.distil_weight) * loss + options.distil_weight * heat * heat * distance


def _require_for_each(logits: Tensor, labels: Tensor) -> None:
    """Refuse a network that gives logits for other samples than it took, in training mode alone perhaps."""
    if logits.ndim != 2 or len(logits) != len(labels):
        raise UsageError(
            "SNN218",
            f"the network returns {tuple(logits.shape)} for {len(labels)} samples, not logits (N, classes)",
        )


def _diverged(what: str) -> InputError:
    return InputError(
        "SNN354",
        what,
        hint="try a lower --rate, --precision float32, or for Ge2mS-T --set score_scale=tokens",
    )


def _mixed(seed: int, number: int, stream: int) -> int:
    return (seed * 0x9E3779B97F4A7C15 + number * 0xBF58476D1CE4E5B9 + stream * 0x94D049BB133111EB) % 2**63


def _generator(seed: int, number: int, stream: int) -> Generator:
    """Return randomness that depends on nothing but these numbers."""
    return torch.Generator().manual_seed(_mixed(seed, number, stream))
