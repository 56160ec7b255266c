// Another threshold, tried on the recorded parts: what it would have changed is counted here, from their raw scores, and
// once more by the station when it is set.

import {
  $,
  ask,
  clock,
  count,
  h,
  moment,
  named,
  operator,
  percent,
  plural,
  query,
  rememberOperator,
  score,
} from "./base.js";
import { drawHistogram } from "./charts.js";
import { setMarks, smallCard } from "./cards.js";

const BINS = 120,
  SHOWN = 12,
  MOST = 10_000;

let camera,
  told = null; // what the station told of the camera's threshold
let parts = []; // [id, score] of the recorded parts, the newest last
let ordered = []; // their scores, sorted
let range = [0, 1],
  chosen = null;

export const taught = () => told;

export async function loadThreshold(name, keep = true) {
  camera = name;
  const found = await ask(query("/api/teaching", { camera: name }));
  if (name === camera) take(found, keep);
}

function take(found, keep) {
  const same =
    keep &&
    told &&
    told.camera === found.camera &&
    told.model.model_sha256 === found.model.model_sha256 &&
    told.model.threshold_version === found.model.threshold_version;
  told = found;
  parts = found.ids.map((id, index) => [id, found.scores[index]]).reverse();
  if (!same) chosen = found.model.threshold;
  setMarks(told);
  sort();
  setRange();
  $("rate").placeholder = Math.round(1 / told.calibration.false_reject_rate);
  if (!$("rate").value) $("rate").value = $("rate").placeholder;
  showHistory();
  show();
}

function sort() {
  ordered = parts.map(([, value]) => value).sort((a, b) => a - b);
}

// From the lowest scores to a little beyond the threshold; higher scores are counted in the last bar.
function setRange() {
  const { mean, score_spread: spread } = told.calibration,
    now = told.model.threshold;
  const marked = told.marks.map((mark) => mark.score).filter((value) => value < now + 8 * spread);
  const low = Math.min(mean - 3 * spread, ordered[0] ?? mean, now - spread, ...marked);
  const high = Math.max(
    mean + 6 * spread,
    now + 4 * spread,
    Math.min(ordered.at(-1) ?? now, now + 6 * spread),
    chosen,
    ...marked,
  );
  range = [low, high];
  Object.assign($("slider"), { min: low, max: high, disabled: false });
  $("exact").disabled = false;
  $("exact").step = 10 ** -score(now, now).split(".").concat("").at(1).length;
}

let stale = false;

// A part was judged meanwhile.
export function addPart(verdict) {
  if (!told || verdict.camera !== camera || verdict.score === null || verdict.model_sha256 !== told.model.model_sha256)
    return;
  if (parts.length && verdict.id <= parts.at(-1)[0]) return;
  parts.push([verdict.id, verdict.score]);
  if (parts.length > MOST) parts.shift();
  stale = true;
}

export function showNewParts() {
  if (!stale || !told) return;
  stale = false;
  sort();
  show();
}

// How many sorted values are above a threshold.
function above(values, threshold) {
  let first = 0,
    last = values.length;
  while (first < last) {
    const middle = (first + last) >> 1;
    if (values[middle] > threshold) last = middle;
    else first = middle + 1;
  }
  return values.length - first;
}

function effects() {
  const now = told.model.threshold,
    defects = told.marks.filter((mark) => mark.mark === "defect");
  const before = above(ordered, now),
    after = above(ordered, chosen);
  return {
    parts: ordered.length,
    before,
    after,
    change: after - before,
    missed: defects.filter((mark) => mark.score <= chosen),
    missedNow: defects.filter((mark) => mark.score <= now),
    stillRejected: told.marks.filter((mark) => mark.mark === "good" && mark.score > chosen),
  };
}

function show() {
  const now = told.model.threshold,
    found = effects(),
    changed = chosen !== now;
  $("slider").value = chosen;
  $("slider").setAttribute(
    "aria-valuetext",
    `${score(chosen, now)}: ${plural(found.after, "reject")} of ${found.parts}`,
  );
  if (document.activeElement !== $("exact")) $("exact").value = score(chosen, now);
  for (const id of ["reset", "apply"]) $(id).disabled = !changed;
  $("in-use").textContent =
    `${score(now, now)} in use, version ${told.model.threshold_version}, ${told.model.bundle} in ${told.model.precision}`;
  $("effect").replaceChildren(...sentence(found, changed));
  showMissed(found, changed);
  showChanged(found, changed);
  const good = told.marks.filter((mark) => mark.mark === "good").length,
    bad = told.marks.length - good;
  $("marked").textContent = told.marks.length
    ? `Marked: ${good} good, ${plural(bad, "defect")}.`
    : "No part is marked yet.";
  $("refit").querySelector("button").disabled = !told.marks.length;
  histogram(found);
}

function sentence({ parts: number, before, after, change }, changed) {
  const now = told.model.threshold;
  if (!number) return ["No part has been judged by this model yet."];
  const share = (value) => percent(value / number, 2);
  if (!changed)
    return [
      `${score(now, now)} rejects ${plural(before, "part")} of the last ${count(number)} (${share(before)}). Move the slider to see what another threshold would have changed.`,
    ];
  const words =
    change === 0
      ? "not one of the recorded parts would have been judged otherwise"
      : change < 0
        ? `${plural(-change, "part")} would have been accepted that ${change === -1 ? "was" : "were"} rejected`
        : `${plural(change, "part")} would have been rejected that ${change === 1 ? "was" : "were"} accepted`;
  return [
    "At ",
    h("b", {}, score(chosen, now)),
    ` instead of ${score(now, now)}, `,
    h("b", {}, words),
    `. Rejects of the last ${count(number)} parts: ${count(before)} → ${count(after)} (${share(before)} → ${share(after)}).`,
  ];
}

function showMissed({ missed, missedNow, stillRejected }, changed) {
  const names = (marks) => marks.slice(0, 5).map(named).join(", ") + (marks.length > 5 ? ", …" : "");
  const lines = [];
  if (missed.length)
    lines.push(
      `${plural(missed.length, "part")} marked as ${missed.length === 1 ? "a defect" : "defects"} ${changed ? "would be" : "are"} accepted: ${names(missed)}.` +
        (changed && missedNow.length ? ` Now: ${missedNow.length}.` : ""),
    );
  if (stillRejected.length && changed)
    lines.push(
      `${plural(stillRejected.length, "part")} marked as good would still be rejected: ${names(stillRejected)}.`,
    );
  $("missed").hidden = !lines.length;
  $("missed").replaceChildren(...lines.map((words) => h("p", {}, words)));
}

// Pictures of parts whose verdict would change, the newest first.
function showChanged(found, changed) {
  const now = told.model.threshold,
    [from, to] = chosen > now ? [now, chosen] : [chosen, now];
  const between = changed ? parts.filter(([, value]) => value > from && value <= to).reverse() : [];
  $("changed").hidden = !between.length;
  $("changed-title").textContent =
    `Would have been ${chosen > now ? "accepted" : "rejected"}, the newest whose picture is kept`;
  const ids = between
    .slice(0, SHOWN)
    .map(([id]) => id)
    .join();
  if ($("changed-parts").dataset.ids === ids) return;
  $("changed-parts").dataset.ids = ids;
  $("changed-parts").replaceChildren(...between.slice(0, SHOWN).map(([id, value]) => smallCard(id, value, now)));
}

function histogram(found) {
  const [low, high] = range,
    counts = new Array(BINS).fill(0);
  for (const value of ordered)
    counts[Math.min(BINS - 1, Math.max(0, Math.floor((BINS * (value - low)) / (high - low))))] += 1;
  drawHistogram($("histogram"), {
    counts,
    low,
    high,
    isOpen: ordered.at(-1) > high,
    now: told.model.threshold,
    then: chosen,
    marks: told.marks,
    label: `Scores of ${count(found.parts)} recorded parts; ${count(found.after)} are above ${score(chosen, told.model.threshold)}`,
  });
}

function choose(value) {
  if (!told || !Number.isFinite(value)) return;
  chosen = value;
  if (chosen > range[1] || chosen < range[0]) setRange();
  $("threshold-said").textContent = "";
  show();
}

// --- history -------------------------------------------------------------------------------------------------------

// [since, threshold], the oldest first, for the chart of scores.
export function thresholdsOverTime() {
  if (!told) return [];
  const changes = told.history.toReversed();
  const first = changes.length ? changes[0].before : told.model.threshold;
  return [[0, first], ...changes.map((change) => [Date.parse(change.time), change.threshold])];
}

function showHistory() {
  const now = told.model.threshold,
    own = told.calibration;
  const rows = [
    ...told.history,
    {
      version: own.threshold_version,
      threshold: own.threshold,
      time: null,
      who: "the bundle",
      why: `calibrated on ${plural(own.normal_images, "normal image")}, ${percent(own.false_reject_rate, 2)} false rejects`,
    },
  ];
  $("history").replaceChildren(
    ...rows.map((row, place) =>
      h(
        "tr",
        {},
        h("td", { class: "name" }, `Version ${row.version}`),
        h("td", { class: "number", "data-label": "Threshold" }, score(row.threshold, now)),
        h("td", { "data-label": "Since" }, row.time ? moment(row.time) : "–"),
        h("td", { "data-label": "Who" }, row.who),
        h("td", { "data-label": "Why" }, row.why),
        h(
          "td",
          {},
          place === 0
            ? h("span", { class: "pill good" }, "in use")
            : h(
                "button",
                {
                  type: "button",
                  onclick: () => {
                    choose(row.threshold);
                    confirm(`back to version ${row.version}`);
                  },
                },
                "Go back…",
              ),
        ),
      ),
    ),
  );
}

// --- to set it -----------------------------------------------------------------------------------------------------

function confirm(why) {
  const now = told.model.threshold,
    found = effects(),
    raised = chosen > now;
  if (chosen === now) {
    $("threshold-said").textContent = `${score(now, now)} is in use already.`;
    return;
  }
  $("confirm-title").textContent = `Judge camera ${camera} by ${score(chosen, now)} instead of ${score(now, now)}?`;
  $("confirm-effects").replaceChildren(
    h("li", {}, raised ? "Less sensitive: more parts pass." : "More sensitive: more parts are rejected."),
    h("li", {}, `Rejects of the last ${count(found.parts)} parts: ${count(found.before)} → ${count(found.after)}.`),
    h("li", {}, `This becomes version ${told.model.threshold_version + 1}; every version can be gone back to.`),
  );
  const needed = raised && found.missed.length > 0;
  $("confirm-missed").hidden = !needed;
  Object.assign($("accepts"), { checked: false, required: needed });
  $("confirm-missed").querySelector("span").textContent =
    `I accept that ${plural(found.missed.length, "part")} marked as ${found.missed.length === 1 ? "a defect" : "defects"} would pass.`;
  Object.assign($("who"), { value: operator() });
  Object.assign($("why"), { value: why });
  $("confirm-said").textContent = "";
  $("confirm").showModal();
  (operator() ? $("why") : $("who")).focus();
}

async function set(event) {
  event.preventDefault();
  const { model } = told,
    missed = effects().missed.length;
  $("confirm-go").disabled = true;
  try {
    const found = await ask("/api/thresholds", {
      camera,
      threshold: chosen,
      model_sha256: model.model_sha256,
      version: model.threshold_version,
      who: $("who").value,
      why: $("why").value,
      ...($("accepts").checked && { accepts_missed: missed }),
    });
    rememberOperator($("who").value.trim());
    take(found, false);
    $("threshold-said").textContent = `Version ${found.model.threshold_version} is in use since ${clock(Date.now())}.`;
    $("confirm").close();
  } catch (error) {
    $("confirm-said").textContent = error.message;
    loadThreshold(camera).catch(() => {});
  } finally {
    $("confirm-go").disabled = false;
  }
}

async function refit(event) {
  event.preventDefault();
  try {
    const found = await ask(query("/api/refit", { camera, rate: 1 / Number($("rate").value) }));
    const now = told.model.threshold;
    choose(found.threshold);
    $("threshold-said").textContent = found.threshold === now ? "The marked parts ask for no other threshold." : "";
  } catch (error) {
    $("threshold-said").textContent = error.message;
  }
}

// What is set is what is shown: a thumb stands at no round figure.
$("slider").addEventListener("input", (event) =>
  choose(Number(score(Number(event.target.value), told.model.threshold))),
);
$("exact").addEventListener("input", (event) => {
  if (event.target.value) choose(Number(event.target.value));
});
$("exact").addEventListener("blur", () => {
  if (told) show();
});
$("reset").addEventListener("click", () => choose(told.model.threshold));
$("apply").addEventListener("click", () => confirm(""));
$("confirm-form").addEventListener("submit", set);
$("refit").addEventListener("submit", refit);
