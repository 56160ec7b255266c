"""Fixtures for every package's tests: small whole bundles, real images, and the machine's GPU."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from edge_ad.backends import cuda
from edge_ad.backends.flavours import installed_flavours
from edge_ad.bundle import Bundle
from edge_ad.errors import EdgeAdError
from tests.golden_bundle import brightness_bundle, golden_bundle


@pytest.fixture
def tiny_bundle(tmp_path: Path) -> Bundle:
    """A real bundle, 17 x 24 pixels, fp32: Cast first, two convolutions, dynamic batch, golden vectors."""
    return golden_bundle(tmp_path / "tiny.bundle")


@pytest.fixture
def bright_bundle(tmp_path: Path) -> Bundle:
    """A real bundle, 16 x 24 pixels: the map is the mean grey level of 2 x 2 pixels, the score its maximum."""
    return brightness_bundle(tmp_path / "bright.bundle")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real images that lies beside the repository on development machines."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real images (../shared/data) are not on this machine")
    return folder


@pytest.fixture(scope="session")
def shared_weights() -> Path:
    """The folder of ImageNet backbones that lies beside the repository on development machines."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "weights"
    if not folder.is_dir():
        pytest.skip("the ImageNet weights (../shared/weights) are not on this machine")
    return folder


@pytest.fixture(scope="session")
def parts_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of procedural parts, see tests/trained.py."""
    from tests.trained import draw_dataset

    return draw_dataset(tmp_path_factory.mktemp("parts") / "flange")


@pytest.fixture(scope="session")
def trained_run(parts_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """method -> its run, finished after a handful of steps; trained once and shared, so not to be changed."""
    from tests.trained import train_run

    return cache(lambda method: train_run(method, parts_dataset, tmp_path_factory.mktemp("runs") / method))


@pytest.fixture(scope="session")
def calibrated(
    trained_run: Callable[[str], Path], parts_dataset: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Bundle]:
    """method -> its bundle in fp32, fp16 and int8; made once and shared, so not to be changed."""
    from tests.trained import calibrated_bundle

    return cache(
        lambda method: calibrated_bundle(
            trained_run(method), parts_dataset, tmp_path_factory.mktemp("bundles") / f"{method}.bundle"
        )
    )


@pytest.fixture(scope="session")
def gpu() -> tuple[int, int]:
    """Compute capability of the real GPU; skips where none can run TensorRT."""
    if not installed_flavours():
        pytest.skip("no TensorRT is installed")
    try:
        return cuda.compute_capability()
    except EdgeAdError as exc:
        pytest.skip(f"no GPU to run on: {exc.got}")


@pytest.fixture(scope="session")
def no_gpu() -> None:
    """Skips where there is a GPU, for what can only be seen without."""
    try:
        cuda.compute_capability()
    except EdgeAdError:
        return
    pytest.skip("this machine has a GPU")


@pytest.fixture(autouse=True)
def _gpu_marker(request: pytest.FixtureRequest) -> None:
    """A test marked `gpu` is skipped, with the reason, where there is none."""
    if request.node.get_closest_marker("gpu"):
        request.getfixturevalue("gpu")
