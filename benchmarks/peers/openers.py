"""How the peers' contenders are opened, for benchmarks.speed.worker in .peers: from a frame to a verdict."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Verdict = Callable[[npt.NDArray[np.uint8]], object]


def torch_inferencer(path: str) -> Verdict:
    """anomalib's TorchInferencer."""
    from benchmarks.peers.shim import declare_operators

    declare_operators()
    import torch
    from anomalib.deploy import TorchInferencer

    inferencer = TorchInferencer(path, device="cpu")

    def verdict(frame: npt.NDArray[np.uint8]) -> float:
        with torch.inference_mode():
            return float(inferencer.predict(frame).pred_score)

    return verdict


def efficientad_step(size: str) -> Verdict:
    """A training step of anomalib's model as its module makes one, without the trainer around it."""
    from benchmarks.peers.shim import declare_operators

    declare_operators()
    import torch
    from anomalib.models import EfficientAd

    model = EfficientAd(model_size=size).model.train()
    model.mean_std["mean"].data.fill_(0.1)
    model.mean_std["std"].data.fill_(1.1)
    trained = [*model.student.parameters(), *model.ae.parameters()]
    optimiser = torch.optim.Adam(trained, lr=1e-4, weight_decay=1e-5)

    def step(frame: npt.NDArray[np.uint8]) -> float:
        image = torch.from_numpy(frame[None, ..., ::-1].copy()).permute(0, 3, 1, 2).float() / 255
        loss = sum(model(image, image.flip(3)))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return float(loss.item())

    return step


def openvino_inferencer(path: str) -> Verdict:
    """anomalib's OpenVINOInferencer, with OpenVINO's own choice of precision."""
    from benchmarks.peers.shim import declare_operators

    declare_operators()
    from anomalib.deploy import OpenVINOInferencer

    os.chdir(tempfile.mkdtemp())  # it keeps a cache in the working directory: a cold start shall be one
    inferencer = OpenVINOInferencer(path, device="CPU")
    return lambda frame: float(np.ravel(inferencer.predict(frame).pred_score)[0])


def onnx_session(path: str) -> Verdict:
    """anomalib's ONNX in ONNX Runtime, with the preparation of its OpenVINOInferencer; anomalib is not imported."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    [image] = session.get_inputs()

    def verdict(frame: npt.NDArray[np.uint8]) -> float:
        planes = (frame.astype(np.float32) / 255).transpose(2, 0, 1)[None]
        answer = dict(
            zip((one.name for one in session.get_outputs()), session.run(None, {image.name: planes}), strict=True)
        )
        return float(np.ravel(answer["pred_score"])[0])

    return verdict
