"""The peers' environment and the contenders in it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from benchmarks.speed.contenders import Contender
from benchmarks.speed.race import ROOT
from edge_ad.errors import MissingDependency

__all__ = ["METHODS_OF_PEERS", "PEERS", "peer_contenders", "peers_python"]

PEERS = ROOT / ".peers"
METHODS_OF_PEERS = ("efficientad-s", "efficientad-m", "supersimplenet")
"""Our methods that a peer has too."""

_FORMS = {
    # name: opener, file below the models' folder, quick, packages beside anomalib
    "anomalib torch": ("torch_inferencer", "weights/torch/model.pt", False, ()),
    "anomalib ONNX, ONNX Runtime": ("onnx_session", "weights/onnx/model.onnx", False, ("onnxruntime",)),
    "anomalib OpenVINO bf16 where offered": (
        "openvino_inferencer",
        "fp32/weights/openvino/model.xml",
        True,
        ("openvino",),
    ),
    "anomalib OpenVINO INT8": ("openvino_inferencer", "int8/weights/openvino/model.xml", True, ("openvino",)),
}


def peer_contenders(method: str, *, quick: bool) -> list[Contender]:
    """The peers' forms of a method; their models are made on first use, and kept in .peers/models.

    Raises:
        MissingDependency: There is no .peers, or their models could not be made.
    """
    python = Path(peers_python())
    models = PEERS / "models" / method
    _make_models(python, models, method)
    return [
        Contender(
            name=name,
            family="peer",
            opener=f"benchmarks.peers.openers:{opener}",
            arguments={"path": str(models / file)},
            packages=("anomalib", "torch", "torchvision", *packages),
            python=str(python),
        )
        for name, (opener, file, in_quick, packages) in _FORMS.items()
        if in_quick or not quick
    ]


def peers_python() -> str:
    """The interpreter of their environment.

    Raises:
        MissingDependency: There is no .peers.
    """
    python = PEERS / "bin" / "python"
    if not python.exists():
        raise MissingDependency(
            "The peers are not installed.", expected=PEERS, got="nothing there", fix="make peers, or leave out --peers"
        )
    return str(python)


def _make_models(python: Path, models: Path, method: str) -> None:
    if all((models / file).exists() for _, file, _, _ in _FORMS.values()):
        return
    command = [str(python), "-m", "benchmarks.peers.models", method, str(models)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MissingDependency(
            "The peers' models could not be made.",
            got=done.stderr.strip()[-1500:],
            fix="rm -r .peers && make peers",
        )
