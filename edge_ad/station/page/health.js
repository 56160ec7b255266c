// How the cameras, the stages from trigger to verdict, the record and the publishers are.

import { $, count, gibibytes, h, milliseconds, terms } from "./base.js";
import { drawStage } from "./charts.js";

const STAGES = [
  ["capture", "Capture"],
  ["wait", "Wait"],
  ["inspect", "Inspect"],
  ["record", "Record"],
  ["total", "Trigger to verdict"],
];
const FAULTS = [
  ["timeouts", "no answer"],
  ["incomplete", "incomplete"],
  ["gaps", "never arrived"],
  ["overruns", "too fast"],
  ["lost", "camera lost"],
  ["unfit", "unfit images"],
];

export function showHealth(state, latency, camera) {
  $("health").replaceChildren(...state.cameras.map(cameraRow));
  showLatency(latency, camera);
  const { storage } = state;
  terms($("storage"), [
    ["Verdicts on the record", count(storage.newest_id)],
    ["Record", `${gibibytes(storage.database_bytes)} of ${gibibytes(storage.most_database_bytes)}`],
    ["Images", `${gibibytes(storage.images_bytes)} of ${gibibytes(storage.most_images_bytes)}`],
    ["Images dropped", count(storage.images_dropped), storage.images_dropped ? "warn" : ""],
    ...state.publishers.map((publisher) => [
      `Publisher ${publisher.name}`,
      publisher.failure || (publisher.waiting ? `${count(publisher.waiting)} waiting` : "all delivered"),
    ]),
    ["Version", `edge_ad ${state.version}, run ${state.run}`],
  ]);
}

function cameraRow(camera) {
  const faults = FAULTS.reduce((sum, [name]) => sum + camera[name], 0);
  const kinds = FAULTS.filter(([name]) => camera[name])
    .map(([name, words]) => `${count(camera[name])} ${words}`)
    .join(", ");
  const cell = (label, value, small) =>
    h("td", { class: "number", "data-label": label }, h("span", {}, value, small ? h("small", {}, small) : null));
  return h(
    "tr",
    {},
    h("td", { class: "name" }, h("span", {}, camera.name, h("small", {}, camera.description))),
    h(
      "td",
      { "data-label": "State" },
      h(
        "span",
        {},
        h("span", { class: `pill ${camera.connected ? "good" : "bad"}` }, camera.connected ? "connected" : "not there"),
        camera.reason ? h("small", {}, camera.reason) : null,
      ),
    ),
    cell("Triggers", camera.mode === "live" ? "runs free" : count(camera.triggers)),
    cell("Frames", count(camera.frames)),
    cell("Faults", count(faults), kinds),
    cell("Passed over", count(camera.skipped + camera.late)),
    cell("Lost, found", `${count(camera.losses)}, ${count(camera.reconnects)}`),
  );
}

function showLatency(latency, camera) {
  const stages = latency.cameras[camera],
    bounds = latency.bounds_ms,
    place = $("latency");
  $("latency-of").textContent = `of ${camera}, since the start; milliseconds on a logarithmic scale`;
  if (place.children.length !== STAGES.length) {
    place.replaceChildren(
      ...STAGES.map(([, name]) =>
        h("figure", {}, h("div", { class: "chart" }), h("figcaption", {}, h("b", {}, name), h("span", {}))),
      ),
    );
  }
  const range = shownRange(Object.values(stages), bounds);
  STAGES.forEach(([stage, name], index) => {
    const found = stages[stage],
      figure = place.children[index];
    drawStage(figure.firstChild, bounds, found, range, name);
    figure.lastChild.lastChild.textContent = `${milliseconds(found.p50_ms)}, 99 %: ${milliseconds(found.p99_ms)}`;
  });
}

// From the first bucket that holds something to the last, in whole decades, and the same for every stage.
function shownRange(stages, bounds) {
  const filled = bounds.map((_, index) => stages.some((stage) => stage.counts[index] > 0));
  const decade = (index, round) => round(Math.log10(bounds[Math.max(0, index)] / bounds[0]) - 1e-6) * 20;
  const first = Math.max(0, decade(filled.indexOf(true), Math.floor)),
    last = decade(filled.lastIndexOf(true), Math.ceil);
  return [first, Math.min(bounds.length - 1, Math.max(first + 40, last))];
}
