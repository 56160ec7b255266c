// Charts in SVG, drawn at the size of their place, and again when that changes.

import { clock, count, milliseconds, percent, s, score, tick } from "./base.js";

const drawings = new WeakMap();
const sizes = new ResizeObserver((entries) => {
  for (const { target } of entries) drawings.get(target)?.();
});

// `paint(width, height)` returns the SVG's children; `label` says to those who do not see it what it shows.
export function draw(place, label, paint) {
  const paintNow = () => {
    const { clientWidth: width, clientHeight: height } = place;
    if (!width || !height) return;
    place.replaceChildren(
      s("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label }, ...paint(width, height)),
    );
  };
  drawings.set(place, paintNow);
  sizes.observe(place);
  paintNow();
}

export const scale = (from, to, first, last) => (value) => first + ((last - first) * (value - from)) / (to - from || 1);
const line = (kind, x1, y1, x2, y2) => s("line", { class: kind, x1, y1, x2, y2 });
const text = (kind, x, y, words) => s("text", { class: kind, x, y }, words);
const path = (kind, points) => s("path", { class: kind, d: points });
const within = (value, least, most) => Math.min(most, Math.max(least, value));

// The distance of round figures on an axis, about `wanted` of them, and the figures.
function stepOf(from, to, wanted) {
  const rough = (to - from) / wanted,
    power = 10 ** Math.floor(Math.log10(rough));
  return power * [1, 2, 5, 10].find((factor) => factor * power >= rough * (1 - 1e-9));
}
function ticks(from, to, step) {
  const found = [];
  for (let index = Math.ceil(from / step - 1e-9); index * step <= to + step * 1e-9; index += 1)
    found.push(index * step);
  return found;
}

const LEFT = 46,
  RIGHT = 8,
  BOTTOM = 18;

const MINUTE = 60e3,
  HOUR = 60 * MINUTE,
  DAY = 24 * HOUR;
const TIME_STEPS = [
  MINUTE,
  2 * MINUTE,
  5 * MINUTE,
  10 * MINUTE,
  15 * MINUTE,
  30 * MINUTE,
  HOUR,
  2 * HOUR,
  3 * HOUR,
  6 * HOUR,
  12 * HOUR,
  DAY,
  2 * DAY,
];

function timeAxis(trend, width, height) {
  const first = Date.parse(trend.buckets[0].start),
    step = trend.step_s * 1000;
  const last = first + step * trend.buckets.length;
  const x = scale(first, last, LEFT, width - RIGHT);
  const between = TIME_STEPS.find((wide) => (last - first) / wide <= width / 70) ?? 7 * DAY;
  const zone = new Date(first).getTimezoneOffset() * MINUTE; // so that days begin where they do here
  const times = ticks(first - zone, last - zone, between).map((time) => time + zone);
  const name = (time) =>
    between >= DAY
      ? new Date(time).toLocaleDateString("en-GB", { weekday: "short", day: "numeric" })
      : clock(time).slice(0, 5);
  const shown = times.filter((time) => x(time) > LEFT + 16 && x(time) < width - RIGHT - 16);
  return { x, step, marks: shown.map((time) => text("tick", x(time), height - 2, name(time))) };
}

// The shares of parts that were rejected, and of triggers that ended in faults.
export function drawYield(place, trend) {
  const shares = trend.buckets.map(({ good, anomalous, fault }) => {
    const judged = good + anomalous,
      all = judged + fault;
    return { judged, fault, rejected: judged ? anomalous / judged : 0, faulty: all ? fault / all : 0 };
  });
  const judged = shares.reduce((sum, share) => sum + share.judged, 0);
  const most = Math.max(0.01, ...shares.map(({ rejected, faulty }) => rejected + faulty));
  const label = judged
    ? `${count(judged)} parts were judged; at most ${percent(most)} at a time were rejected or ended in faults`
    : "No parts in this time";
  draw(place, label, (width, height) => {
    const axis = timeAxis(trend, width, height),
      base = height - BOTTOM,
      y = scale(0, most, base, 8);
    const wide = Math.max(1, axis.x(axis.step) - axis.x(0) - 1);
    const bars = trend.buckets.flatMap((bucket, index) => {
      const { judged: number, fault, rejected, faulty } = shares[index];
      if (!number && !fault) return [];
      const x = axis.x(Date.parse(bucket.start)),
        top = y(rejected);
      const title = `${clock(bucket.start)}: yield ${percent(1 - rejected)} of ${count(number)} parts, ${count(fault)} faults`;
      return [
        s(
          "g",
          {},
          s("title", {}, title),
          s("rect", { class: "seen", x, y: 0, width: wide, height: base }),
          s("rect", { class: "anomalous", x, y: top, width: wide, height: base - top }),
          s("rect", { class: "fault", x, y: y(rejected + faulty), width: wide, height: top - y(rejected + faulty) }),
        ),
      ];
    });
    const step = stepOf(0, most, 3);
    const grid = ticks(0, most, step).flatMap((share) => [
      line("grid", LEFT, y(share), width - RIGHT, y(share)),
      text("end", LEFT - 8, y(share) + 4, `${tick(100 * share, 100 * step)} %`),
    ]);
    return [...bars, ...grid, line("base", LEFT, base, width - RIGHT, base), ...axis.marks];
  });
}

// Median and spread of scores over time, on the band of the calibration, with the thresholds that held.
export function drawScores(place, trend, thresholds) {
  const { mean, score_spread: spread } = trend.calibration;
  const known = trend.buckets.filter((bucket) => bucket.p50 !== null);
  const low = Math.min(mean - 2.5 * spread, ...known.map(({ p5 }) => p5));
  const high =
    Math.max(mean + 2.5 * spread, ...thresholds.map(([, value]) => value), ...known.map(({ p50 }) => p50)) + spread;
  const label =
    trend.scores.p50 === null
      ? "No scores in this time"
      : `Median score ${score(trend.scores.p50, trend.threshold)}, threshold ${score(trend.threshold, trend.threshold)}`;
  draw(place, label, (width, height) => {
    const axis = timeAxis(trend, width, height),
      y = scale(low, high, height - BOTTOM, 6);
    const middle = (bucket) => axis.x(Date.parse(bucket.start) + axis.step / 2);
    const step = stepOf(low, high, 4),
      clip = s(
        "clipPath",
        { id: "scores-place" },
        s("rect", { x: LEFT, y: 0, width: width - LEFT - RIGHT, height: height - BOTTOM }),
      );
    const grid = ticks(low, high, step).flatMap((value) => [
      line("grid", LEFT, y(value), width - RIGHT, y(value)),
      text("end", LEFT - 8, y(value) + 4, tick(value, step)),
    ]);
    const normal = s("rect", {
      class: "normal",
      x: LEFT,
      width: width - LEFT - RIGHT,
      y: y(mean + 2 * spread),
      height: y(mean - 2 * spread) - y(mean + 2 * spread),
    });
    const curves = s(
      "g",
      { "clip-path": "url(#scores-place)" },
      ...runs(trend.buckets).flatMap((run) => curve(run, middle, y)),
    );
    return [
      s("defs", {}, clip),
      ...grid,
      curves,
      normal,
      path("limit", steps(thresholds, trend, axis, y, width)),
      ...axis.marks,
    ];
  });
}

// Buckets with scores that follow each other.
function runs(buckets) {
  const found = [[]];
  for (const bucket of buckets) {
    if (bucket.p50 !== null) found.at(-1).push(bucket);
    else if (found.at(-1).length) found.push([]);
  }
  return found.filter((run) => run.length);
}

function curve(run, x, y) {
  if (run.length === 1) {
    const at = x(run[0]);
    return [
      s("line", { class: "median", x1: at, x2: at, y1: y(run[0].p5), y2: y(run[0].p95) }),
      s("circle", { class: "dot", cx: at, cy: y(run[0].p50), r: 3 }),
    ];
  }
  const points = (name, buckets) => buckets.map((bucket) => `${x(bucket)},${y(bucket[name])}`);
  const around = [...points("p95", run), ...points("p5", run.toReversed())];
  return [path("spread", `M${around.join("L")}Z`), path("median", `M${points("p50", run).join("L")}`)];
}

// The thresholds as a line with steps; `thresholds` are [since, value], the oldest first.
function steps(thresholds, trend, axis, y, width) {
  const first = Date.parse(trend.buckets[0].start);
  let drawn = "";
  for (const [since, value] of thresholds) {
    const x = within(axis.x(Math.max(first, since)), LEFT, width - RIGHT);
    drawn = since <= first || !drawn ? `M${LEFT},${y(value)}` : `${drawn}H${x}V${y(value)}`;
  }
  return `${drawn}H${width - RIGHT}`;
}

// The last parts of a camera, each as high as its score above the threshold's line in the middle.
export function drawRecent(place, verdicts, room, height01) {
  draw(place, `The last ${verdicts.length} parts`, (width, height) => {
    const step = width / room,
      base = height - 2;
    const bars = verdicts.map((verdict, index) => {
      const tall = verdict.score === null ? base : Math.max(3, base * height01(verdict));
      return s("rect", {
        class: verdict.verdict,
        x: width - (verdicts.length - index) * step,
        y: base - tall,
        width: Math.max(1, step - 1.5),
        height: tall,
        rx: 1,
      });
    });
    return [line("grid", 0, base / 2, width, base / 2), ...bars, line("base", 0, base, width, base)];
  });
}

export const MARGIN = 14; // half of the slider's thumb: what it stands on is what it means

// Scores of recorded parts, split by the threshold that is tried.
export function drawHistogram(place, { counts, low, high, isOpen, now, then, marks, label }) {
  draw(place, label, (width, height) => {
    const base = height - 34,
      x = scale(low, high, MARGIN, width - MARGIN),
      most = Math.max(1, ...counts);
    const wide = (width - 2 * MARGIN) / counts.length;
    const bars = (kind, clip) =>
      s(
        "g",
        { class: kind, "clip-path": `url(#${clip})` },
        ...counts.flatMap((number, index) => {
          const tall = number ? Math.max(3, ((base - 16) * number) / most) : 0;
          return number
            ? [
                s("rect", {
                  x: MARGIN + index * wide + 0.5,
                  y: base - tall,
                  width: Math.max(1, wide - 1),
                  height: tall,
                }),
              ]
            : [];
        }),
      );
    const clip = (id, from, to) =>
      s("clipPath", { id }, s("rect", { x: from, y: 0, width: Math.max(0, to - from), height }));
    const at = within(x(then), MARGIN, width - MARGIN),
      was = within(x(now), MARGIN, width - MARGIN);
    const signs = marks.map(({ mark, score: value }) => {
      const place = within(x(value), MARGIN, width - MARGIN);
      return path(
        mark === "good" ? "accepted" : "rejected",
        mark === "good" ? `M${place},${base + 3}l5,8h-10z` : `M${place},${base + 11}l5,-8h-10z`,
      );
    });
    const step = stepOf(low, high, width / 110);
    const numbers = ticks(low, high, step).map((value) => text("tick", x(value), height - 4, tick(value, step)));
    const side = at > width / 2 ? "end" : "";
    return [
      s("defs", {}, clip("accepted-side", 0, at), clip("rejected-side", at, width)),
      s("rect", { class: "between", x: Math.min(at, was), y: 0, width: Math.abs(at - was), height: base }),
      bars("accepted", "accepted-side"),
      bars("rejected", "rejected-side"),
      line("base", MARGIN, base, width - MARGIN, base),
      line("now", was, 0, was, base),
      line("then", at, 0, at, base + 4),
      text(`label ${side}`, at + (side ? -7 : 7), 12, score(then, now)),
      ...(isOpen ? [text("end", width - MARGIN, base - ((base - 16) * counts.at(-1)) / most - 5, "and higher")] : []),
      ...signs,
      ...numbers,
    ];
  });
}

// One stage's latency, on a logarithmic axis from `bounds[first]` to `bounds[last]`.
export function drawStage(place, bounds, stage, [first, last], name) {
  const shown = stage.counts.slice(first, last + 1),
    most = Math.max(1, ...shown);
  draw(
    place,
    `${name}: median ${milliseconds(stage.p50_ms)}, 99 % within ${milliseconds(stage.p99_ms)}`,
    (width, height) => {
      const base = height - 18,
        wide = width / shown.length;
      const bars = shown.flatMap((number, index) =>
        number
          ? [
              s("rect", {
                class: "dot",
                x: index * wide,
                width: Math.max(1, wide - 1),
                y: base - Math.max(2, (base * number) / most),
                height: Math.max(2, (base * number) / most),
              }),
            ]
          : [],
      );
      const x = (value) => (width * Math.log(value / bounds[first])) / Math.log(bounds[last] / bounds[first]);
      const decades = bounds
        .slice(first, last + 1)
        .filter((bound) => Math.abs(Math.log10(bound) - Math.round(Math.log10(bound))) < 1e-3);
      const every = Math.ceil(46 / (x(decades[1]) - x(decades[0])));
      const place = (bound) => (x(bound) > width - 16 ? "end" : x(bound) < 16 ? "" : "tick");
      const numbers = decades
        .filter((_, index) => index % every === 0)
        .map((bound) =>
          text(place(bound), x(bound), height - 3, bound >= 1000 ? `${bound / 1000} s` : `${+bound.toFixed(2)}`),
        );
      return [...bars, line("base", 0, base, width, base), ...numbers];
    },
  );
}
