"""What the page asks for beyond the rest of the interface: scores, trends and small images, marks and thresholds."""

from __future__ import annotations

import math
import time
from http import HTTPStatus
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from edge_ad.errors import EdgeAdError, StationError
from edge_ad.inspector import Inspector
from edge_ad.station.http.server import COOKIE, HttpError, Request, Response, Route, as_json
from edge_ad.station.images import image_path
from edge_ad.station.latency import BOUNDS_MS
from edge_ad.station.query import Reader
from edge_ad.station.refit import Effects, Evidence, effects, refit
from edge_ad.station.scores import BINS, Bucket, ScoreScale, Trend, recorded_scores
from edge_ad.station.teach import MARKS, BundleThreshold
from edge_ad.station.verdict import ServedModel, Verdict, utc

if TYPE_CHECKING:
    from edge_ad.station.station import Station

__all__ = ["teaching_routes"]

PARTS = 10_000
"""The last parts of a model that another threshold is tried on."""

LATEST = 1000
"""The last parts of a camera whose median tells drift."""

SPANS_S = {"15m": (15, 60), "1h": (60, 60), "8h": (300, 96), "24h": (900, 96), "7d": (7200, 84)}
"""What a trend covers: seconds of a bucket, and how many there are."""

_THUMBNAIL = 320  # pixels of width
_BEFORE, _BEYOND = 5, 11  # of a trend's scale, in spreads around the mean of the normal scores
_SETTLE_NS = 60_000_000_000


def teaching_routes(station: Station) -> list[Route]:
    """Routes below /api."""
    api = _Api(station)
    return [
        Route("GET", "/api/trend", api.trend),
        Route("GET", "/api/latency", api.latency),
        Route("GET", r"/api/thumbnails/([0-9]{1,18})\.jpg", api.thumbnail),
        Route("GET", "/api/teaching", api.teaching),
        Route("GET", "/api/refit", api.refit),
        Route("POST", "/api/marks", api.mark),
        Route("POST", "/api/thresholds", api.change),
        Route("POST", "/api/logout", api.logout),
    ]


class _Api:
    def __init__(self, station: Station) -> None:
        self._station, self._teaching = station, station.teaching
        self._folder = station.settings.record.folder
        slowest_ns = round(station.settings.verdict_timeout_ms * 1e6)
        self._trend = Trend(self._folder, slowest_ns + _SETTLE_NS)

    # --- to look at ----------------------------------------------------------------------------------------------

    def trend(self, request: Request) -> Response:
        camera, inspector, model = self._served(request.query.get("camera"))
        span = request.query.get("span", "1h")
        if span not in SPANS_S:
            raise _wrong("span", " or ".join(SPANS_S), span)
        calibration = _calibration(inspector)
        spread = calibration["score_spread"]
        width = (_BEFORE + _BEYOND) * spread / BINS
        scale = ScoreScale(low=calibration["mean"] - _BEFORE * spread, width=width)
        step_s, count = SPANS_S[span]
        buckets = self._trend.buckets(
            camera, model, scale, until_ns=time.time_ns(), step_ns=step_s * 1_000_000_000, count=count
        )
        _, latest = recorded_scores(self._folder, model, LATEST, camera)
        tree = {
            "camera": camera,
            "latest": {"parts": len(latest), "median": float(np.median(latest)) if len(latest) else None},
            "step_s": step_s,
            "threshold": model.threshold,
            "calibration": calibration,
            "scores": _figures(scale, sum(bucket.scores for bucket in buckets)),
            "buckets": [_bucket(scale, bucket) for bucket in buckets],
        }
        return as_json(tree)

    def latency(self, request: Request) -> Response:
        cameras = {
            camera: {stage: {**found.to_json(), "counts": found.counts()[0]} for stage, found in stages.items()}
            for camera, stages in self._station.latencies.histograms().items()
        }
        return as_json({"bounds_ms": [round(bound, 4) for bound in BOUNDS_MS], "cameras": cameras})

    def thumbnail(self, request: Request, verdict_id: str) -> Response:
        verdict = self._verdict(int(verdict_id))
        for suffix in (".jpg", ".png"):
            path = image_path(self._folder, self._station.uid, verdict, suffix)
            image = cv2.imread(str(path), cv2.IMREAD_COLOR) if path.is_file() else None
            if image is not None:
                break
        else:
            raise HttpError(HTTPStatus.NOT_FOUND, f"The image of verdict {verdict_id} is not here.")
        height, width = image.shape[:2]
        if width > _THUMBNAIL:
            size = (_THUMBNAIL, max(1, round(height * _THUMBNAIL / width)))
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        content = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()
        headers = {"Cache-Control": "private, max-age=31536000, immutable"}
        return Response(content_type="image/jpeg", content=content, headers=headers)

    # --- to teach ------------------------------------------------------------------------------------------------

    def teaching(self, request: Request) -> Response:
        camera, inspector, model = self._served(request.query.get("camera"))
        evidence = self._evidence(model)
        history = self._teaching.history(BundleThreshold.of(inspector))
        tree = {
            "camera": camera,
            "record": self._station.uid,
            "model": vars(model),
            "calibration": _calibration(inspector),
            "history": [change.to_json() for change in reversed(history)],
            "marks": [mark.to_json() for mark in reversed(evidence.marks)],
            "ids": evidence.ids.tolist(),
            "scores": evidence.scores.tolist(),
        }
        return as_json(tree)

    def refit(self, request: Request) -> Response:
        _, inspector, model = self._served(request.query.get("camera"))
        text = request.query.get("rate")
        try:
            rate = _calibration(inspector)["false_reject_rate"] if text is None else float(text)
        except ValueError:
            raise _wrong("rate", "a number", text) from None
        evidence = self._evidence(model)
        proposal = refit(evidence, rate)
        return as_json({**proposal.to_json(), "effects": effects(evidence, proposal.threshold).to_json()})

    def mark(self, request: Request) -> Response:
        body = request.body
        verdict_id, mark = body.get("verdict"), body.get("mark")
        if type(verdict_id) is not int or not 0 < verdict_id < 10**18:
            raise _wrong("verdict", "the id of a verdict", verdict_id)
        if mark is not None and mark not in MARKS:
            raise _wrong("mark", "good, defect, or null to take it back", mark)
        who, note = _text(request, "who", 64), _text(request, "note", 500, default="")
        self._teaching.mark(self._station.uid, self._verdict(verdict_id), mark, who=who, note=note)
        return as_json({})

    def change(self, request: Request) -> Response:
        """Set a threshold, put it in use, and take it back if it cannot be."""
        body = request.body
        camera, inspector, model = self._served(_text(request, "camera", 64))
        threshold, accepted = _number(request, "threshold"), body.get("accepts_missed", 0)
        who, why = _text(request, "who", 64), _text(request, "why", 500)
        seen = {"model_sha256": body.get("model_sha256"), "version": body.get("version")}
        now = {"model_sha256": model.model_sha256, "version": model.threshold_version}
        if seen != now:
            raise StationError(f"{camera} is judged with another threshold meanwhile.", expected=now, got=seen)
        found = effects(self._evidence(model), threshold)
        _refuse_unseen_misses(found, threshold > model.threshold, accepted)
        self._put_in_use(BundleThreshold.of(inspector), threshold, model, who, why, found)
        return self.teaching(Request(query={"camera": camera}))

    def _put_in_use(
        self, of: BundleThreshold, threshold: float, model: ServedModel, who: str, why: str, found: Effects
    ) -> None:
        made = self._teaching.change(
            of, threshold, version=model.threshold_version, who=who, why=why, basis=found.to_json()
        )
        try:
            self._station.switch_recipe(self._station.recipes.current.name)
        except EdgeAdError as error:
            reason = f"version {made.version} could not be put in use: {error.what}"
            self._teaching.change(of, made.before, version=made.version, who="station", why=reason, basis={})
            raise

    def logout(self, request: Request) -> Response:
        return Response(
            content=b"{}\n", headers={"Set-Cookie": f"{COOKIE}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0"}
        )

    # --- what they share -----------------------------------------------------------------------------------------

    def _served(self, camera: str | None) -> tuple[str, Inspector, ServedModel]:
        """A camera's name, the first one's where none was given, and what judges its frames now."""
        name = next(iter(self._station.feeds)) if camera is None else camera
        if name not in self._station.feeds:
            raise _wrong("camera", " or ".join(self._station.feeds), name)
        recipe = self._station.recipes.current
        return name, recipe.inspectors[name], recipe.models[name]

    def _evidence(self, model: ServedModel) -> Evidence:
        ids, scores = recorded_scores(self._folder, model, PARTS)
        marks = self._teaching.marks(model.model_sha256, model.precision)
        return Evidence(record=self._station.uid, ids=ids, scores=scores, marks=marks, threshold=model.threshold)

    def _verdict(self, verdict_id: int) -> Verdict:
        with Reader(self._folder) as reader:
            verdict = reader.verdict(verdict_id)
        if verdict is None:
            raise HttpError(HTTPStatus.NOT_FOUND, f"There is no verdict {verdict_id} in the record.")
        return verdict


def _refuse_unseen_misses(found: Effects, is_higher: bool, accepted: object) -> None:
    """A higher threshold that misses marked defects must say how many: whoever sets it has seen them."""
    missed = len(found.missed_defects)
    if is_higher and missed and accepted != missed:
        parts = ", ".join(mark.part_id or f"verdict {mark.verdict_id}" for mark in found.missed_defects[:5])
        raise HttpError(
            HTTPStatus.CONFLICT,
            f"{missed} parts that are marked as defects would be accepted: {parts}{', ...' if missed > 5 else ''}.",
            expected=f'"accepts_missed": {missed}',
            got=accepted,
            fix="choose a lower threshold, or confirm that these may pass",
        )


def _calibration(inspector: Inspector) -> dict[str, Any]:
    """What the bundle says of its threshold.

    A bundle of before `score_mean` was known gets the mean of the normal distribution with this spread whose tail the
    threshold cuts off at this rate.
    """
    entry = inspector.bundle.precision(inspector.precision)
    mean = entry.score_mean
    if mean is None:
        rate = min(max(entry.false_reject_rate, 1e-9), 0.5)
        mean = entry.threshold - NormalDist().inv_cdf(1 - rate) * entry.score_spread
    return {
        "threshold": entry.threshold,
        "threshold_version": entry.threshold_version,
        "false_reject_rate": entry.false_reject_rate,
        "normal_images": entry.normal_images,
        "score_spread": entry.score_spread,
        "mean": mean,
        "mean_is_estimated": entry.score_mean is None,
    }


def _bucket(scale: ScoreScale, bucket: Bucket) -> dict[str, Any]:
    counts = {str(name): count for name, count in bucket.verdicts.items()}
    return {"start": utc(bucket.start_ns), **counts, **_figures(scale, bucket.scores)}


def _figures(scale: ScoreScale, counts: Any) -> dict[str, float | None]:
    return {name: scale.quantile(counts, share) for name, share in (("p5", 0.05), ("p50", 0.5), ("p95", 0.95))}


def _text(request: Request, name: str, most: int, default: str | None = None) -> str:
    value = request.body.get(name, default)
    if not isinstance(value, str) or len(value) > most or (not value.strip() and default is None):
        raise _wrong(name, f"a text of 1 to {most} characters", value)
    return value.strip()


def _number(request: Request, name: str) -> float:
    value = request.body.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _wrong(name, "a finite number", value)
    return float(value)


def _wrong(name: str, expected: object, got: object) -> HttpError:
    return HttpError(HTTPStatus.BAD_REQUEST, f"{name} is wrong.", expected=expected, got=repr(got)[:200])
