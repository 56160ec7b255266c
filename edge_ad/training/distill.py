"""Distil ImageNet features into a PDN-S or PDN-M teacher (EfficientAD, sec. 3.1 and appendix A.2).

The network learns to predict, from 33 x 33 pixels of a 256 x 256 image, the features a deep classifier
computes of the same image at 512 x 512: layers 2 and 3, 3 x 3 averaged, layer 3 upsampled to layer 2
(PatchCore's features), reduced to 384 channels, each channel normalised over the training images.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from edge_ad.errors import TrainingError
from edge_ad.frame import Image, read_image
from edge_ad.methods.backbones import FeatureExtractor, load_backbone
from edge_ad.methods.pdn import (
    CROPPED_CELLS,
    OUT_CHANNELS,
    RECEPTIVE_FIELD,
    STRIDE,
    Pdn,
    PdnMedium,
    PdnSmall,
    load_pdn_small,
)
from edge_ad.progress import Progress
from edge_ad.training.checkpoint import load_checkpoint, save_checkpoint, write_options, write_whole
from edge_ad.training.device import half_precision, training_device
from edge_ad.training.grow import grown
from edge_ad.training.images import endless, natural_images, normalise
from edge_ad.training.schedule import warm_up_cosine

__all__ = ["STUDENTS", "DistillOptions", "distill", "target_features"]

STUDENTS: dict[str, type[Pdn]] = {"pdn-s": PdnSmall, "pdn-m": PdnMedium}

IMAGE_SIZE = 256  # EfficientAD, appendix A.2: the PDN sees 256, the classifier 512
BACKBONE_SIZE = 512
GRAYSCALE_PROBABILITY = 0.1  # EfficientAD, appendix A.2
STATISTICS_IMAGES = 10_000  # EfficientAD, appendix A.2: images for the channel statistics
HELD_OUT_FRACTION = 0.05
VALIDATE_EVERY = 100
MIN_IMAGES = 20
CROP_SIZE = 288  # crops are kept at this size before both resizes


@dataclass(frozen=True, kw_only=True)
class DistillOptions:
    """What a distillation is made of.

    The paper trains 60,000 steps of 16 images with Adam at 1e-4 on all of ImageNet. With fewer steps a
    higher peak with warm-up and cosine decay gets further; these defaults take about 50 minutes of two cores and
    made the shipped PDN-S.

    Attributes:
        student: A key of STUDENTS.
        grow_from: A PDN-S state dict from which a PDN-M starts, see `edge_ad.training.grow`; random weights without it.
        window: Side in pixels of the part of each 256 x 256 crop that the student sees, a multiple of 4. The
            classifier sees the whole. A PDN is the same network at every position, so that a window only chooses some
            of its outputs: where the student costs more than the classifier, more and smaller windows teach it more.
    """

    images: Path
    output: Path
    student: str = "pdn-s"
    grow_from: Path | None = None
    window: int = IMAGE_SIZE
    backbone: str = "resnet18"
    weights: Path | None = None
    steps: int = 4200
    batch: int = 4
    peak_learning_rate: float = 1e-3
    weight_decay: float = 1e-5  # EfficientAD, appendix A.2
    seed: int = 0


def distill(options: DistillOptions) -> Path:
    """Train a teacher; returns the path of its float16 state dict, `teacher.safetensors`.

    Resumes from `checkpoint.pt` in the output folder. Writes `loss.csv` as it goes.

    Raises:
        TrainingError: Options that make no sense, or that differ from those the run in the folder began with.
        TooFewImages, WeightsNotFound: From the images and the weights.
    """
    if options.grow_from is not None and options.student != "pdn-m":
        raise TrainingError("Only a PDN-M grows.", got=f"grow from {options.grow_from}", fix="add --student pdn-m")
    if options.window % STRIDE or not RECEPTIVE_FIELD < options.window <= IMAGE_SIZE:
        raise TrainingError(
            "The student cannot see such a window.",
            expected=f"a multiple of {STRIDE} from {RECEPTIVE_FIELD + 3} to {IMAGE_SIZE} pixels",
            got=options.window,
            fix="leave --window out, or give 128",
        )
    if not 0 < options.peak_learning_rate < math.inf:
        raise TrainingError(
            "Nothing is learned at such a rate.",
            expected="a peak learning rate above 0",
            got=options.peak_learning_rate,
            fix="leave --peak-learning-rate out, or give 0.0001",
        )
    paths = natural_images(options.images, MIN_IMAGES)
    held_out = paths[:: math.ceil(1 / HELD_OUT_FRACTION)]
    training = sorted(set(paths) - set(held_out))
    options.output.mkdir(parents=True, exist_ok=True)
    _same_run_or_new(options)
    write_options(options.output, options)

    device = training_device()
    torch.manual_seed(options.seed)
    backbone = load_backbone(options.backbone, weights=options.weights).to(device, memory_format=torch.channels_last)
    student = _initial_student(options).to(device, memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(student.parameters(), lr=options.peak_learning_rate, weight_decay=options.weight_decay)
    checkpoint_path = options.output / "checkpoint.pt"
    state = load_checkpoint(checkpoint_path)
    if state is None:
        mean, std = _channel_statistics(backbone, training, device, options.seed)
        step, curve = 0, []
    else:
        student.load_state_dict(state["student"])
        optimiser.load_state_dict(state["optimiser"])
        mean, std, step, curve = state["mean"].to(device), state["std"].to(device), state["step"], state["curve"]

    inputs = _inputs(training, options, step)
    with Progress(f"distilling {options.student.upper()}", options.steps, step) as progress:
        while step < options.steps:
            batch, window = next(inputs)
            for group in optimiser.param_groups:
                group["lr"] = options.peak_learning_rate * warm_up_cosine(step, options.steps)
            loss = _loss(student, backbone, batch.to(device), mean, std, window)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
            optimiser.step()
            step += 1
            progress.step(loss=f"{loss.item():.4f}")
            if step % VALIDATE_EVERY == 0 or step == options.steps:
                curve.append([step, loss.item(), _validation_loss(student, backbone, held_out, mean, std, device)])
                _write_curve(options.output / "loss.csv", curve)
                save_checkpoint(
                    checkpoint_path,
                    {
                        "student": student.state_dict(),
                        "optimiser": optimiser.state_dict(),
                        "mean": mean.cpu(),
                        "std": std.cpu(),
                        "step": step,
                        "curve": curve,
                    },
                )
                inputs = _inputs(training, options, step)
    teacher = options.output / "teacher.safetensors"
    save_file({key: value.half().cpu().contiguous() for key, value in student.state_dict().items()}, teacher)
    return teacher


def _same_run_or_new(options: DistillOptions) -> None:
    """A distillation goes on only as what it began as."""
    if not (options.output / "checkpoint.pt").exists():
        return
    before = json.loads((options.output / "options.json").read_text())
    now = json.loads(json.dumps(dataclasses.asdict(options), default=str))
    changed = [key for key in now.keys() & before.keys() - {"images", "output"} if before[key] != now[key]]
    if changed:
        raise TrainingError(
            f"{options.output} holds a distillation with other options.",
            expected={key: before[key] for key in sorted(changed)},
            got={key: now[key] for key in sorted(changed)},
            fix="choose another -o, or give the options the run began with",
        )


def _initial_student(options: DistillOptions) -> Pdn:
    if options.grow_from is None:
        return STUDENTS[options.student]()
    return grown(load_pdn_small(options.grow_from))


def target_features(backbone: FeatureExtractor, image: Tensor) -> Tensor:
    """PatchCore's features of (N, 3, 512, 512) normalised RGB: (N, 384, 64, 64)."""
    maps = [F.avg_pool2d(feature, 3, 1, 1) for feature in backbone(image)]
    size = maps[0].shape[-2:]
    features = torch.cat(
        [maps[0], *(F.interpolate(feature, size=size, mode="bilinear") for feature in maps[1:])], dim=1
    )
    channels = features.shape[1]
    if channels == OUT_CHANNELS:
        return features
    # PatchCore reduces by averaging neighbouring channels (adaptive average pooling along the channel axis).
    flat = features.permute(0, 2, 3, 1).reshape(-1, 1, channels)
    pooled = F.adaptive_avg_pool1d(flat, OUT_CHANNELS)
    return pooled.reshape(len(features), *size, OUT_CHANNELS).permute(0, 3, 1, 2)


def _targets(backbone: FeatureExtractor, crops: Tensor) -> Tensor:
    with torch.no_grad(), half_precision(crops.device):
        features = target_features(backbone, _normalised(crops, BACKBONE_SIZE))
    inner = slice(CROPPED_CELLS, -CROPPED_CELLS)  # an unpadded PDN has no outputs at the border
    return features[:, :, inner, inner].float()


def _loss(
    student: Pdn,
    backbone: FeatureExtractor,
    crops: Tensor,
    mean: Tensor,
    std: Tensor,
    window: tuple[int, int, int] = (0, 0, IMAGE_SIZE),
) -> Tensor:
    """Mean squared error over the outputs of a window (top, left, side) of the 256 x 256 pixels."""
    top, left, side = window
    cells = (side - RECEPTIVE_FIELD) // STRIDE + 1
    target = (_targets(backbone, crops) - mean) / std
    target = target[:, :, top // STRIDE :, left // STRIDE :][:, :, :cells, :cells]
    with half_precision(crops.device):
        predicted = student(_normalised(crops, IMAGE_SIZE)[:, :, top : top + side, left : left + side])
    return F.mse_loss(predicted.float(), target)


def _normalised(crops: Tensor, size: int) -> Tensor:
    """(N, H, W, 3) uint8 BGR to (N, 3, size, size) ImageNet-normalised RGB."""
    rgb = crops.permute(0, 3, 1, 2).flip(1).float() / 255
    resized = F.interpolate(rgb, size=(size, size), mode="bilinear", antialias=True)
    return normalise(resized).contiguous(memory_format=torch.channels_last)


def _channel_statistics(
    backbone: FeatureExtractor, paths: list[Path], device: torch.device, seed: int
) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each target channel, (1, 384, 1, 1), over one random crop per image."""
    count = min(len(paths), STATISTICS_IMAGES)
    crops = _augmented_crops(paths, np.random.default_rng((seed, 1)))
    total = squares = torch.zeros(1, OUT_CHANNELS, 1, 1, dtype=torch.float64)
    with Progress("feature statistics", count) as progress:
        for _ in range(count):
            target = _targets(backbone, next(crops)[None].to(device)).double().cpu()
            total = total + target.mean((0, 2, 3), keepdim=True)
            squares = squares + target.square().mean((0, 2, 3), keepdim=True)
            progress.step()
    mean = total / count
    std = (squares / count - mean.square()).clamp_min(1e-12).sqrt()
    return mean.float().to(device), std.float().to(device)


def _validation_loss(
    student: Pdn,
    backbone: FeatureExtractor,
    paths: list[Path],
    mean: Tensor,
    std: Tensor,
    device: torch.device,
) -> float:
    losses = []
    with torch.inference_mode():
        for path in paths:
            crop = torch.from_numpy(_centre_square(read_image(path)))[None].to(device)
            losses.append(_loss(student, backbone, crop, mean, std).item())
    return sum(losses) / len(losses)


def _inputs(paths: list[Path], options: DistillOptions, step: int) -> Iterator[tuple[Tensor, tuple[int, int, int]]]:
    """Of each step from `step` on: crops, and the window (top, left, side) that the student sees of each.

    All chance begins anew here, so that a resumed run equals an uninterrupted one.
    """
    rng = np.random.default_rng((options.seed, step))
    crops = _augmented_crops(paths, rng)
    while True:
        batch = torch.stack([next(crops) for _ in range(options.batch)])
        top, left = STRIDE * rng.integers(0, (IMAGE_SIZE - options.window) // STRIDE + 1, 2)
        yield batch, (int(top), int(left), options.window)


def _augmented_crops(paths: list[Path], rng: np.random.Generator) -> Iterator[Tensor]:
    """Endless random square crops, flipped and sometimes grey, (288, 288, 3) uint8 BGR."""
    for path in endless(paths, rng):
        image = read_image(path)
        side = int(min(image.shape[:2]) * rng.uniform(0.6, 1.0))
        top = int(rng.integers(0, image.shape[0] - side + 1))
        left = int(rng.integers(0, image.shape[1] - side + 1))
        crop = image[top : top + side, left : left + side]
        if rng.random() < 0.5:
            crop = crop[:, ::-1]
        if rng.random() < GRAYSCALE_PROBABILITY:
            crop = cv2.cvtColor(cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
        yield torch.from_numpy(np.ascontiguousarray(_to_side(crop, CROP_SIZE)))


def _centre_square(image: Image) -> Image:
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    return np.ascontiguousarray(_to_side(image[top : top + side, left : left + side], CROP_SIZE))


def _to_side(image: Image, side: int) -> Image:
    interpolation = cv2.INTER_AREA if image.shape[0] > side else cv2.INTER_CUBIC
    resized: Image = cv2.resize(image, (side, side), interpolation=interpolation)  # type: ignore[assignment]
    return resized


def _write_curve(path: Path, curve: list[list[float]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["step", "training_loss", "held_out_loss"])
    writer.writerows(curve)
    write_whole(path, text.getvalue().encode())
