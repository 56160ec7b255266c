// A part as a card: its picture, its score, and what is said of it.

import { $, ask, h, moment, named, operatorName, score } from "./base.js";

export const WORDS = { good: "accepted", anomalous: "rejected", fault: "fault" };
const MARKS = [["good", "Good"], ["defect", "Defect"]];

let marks = new Map(); // of this record: verdict id to "good" or "defect"

// What holds of the camera's parts; ids of another record mean other parts.
export function setMarks(told) {
  marks = new Map(told.marks.filter(({ record }) => record === told.record).map((mark) => [mark.verdict_id, mark.mark]));
  for (const group of document.querySelectorAll("[data-marks]")) {
    for (const button of group.children) button.setAttribute("aria-pressed", button.dataset.mark === marks.get(Number(group.dataset.marks)));
  }
}

export function markButtons(verdict) {
  const buttons = MARKS.map(([mark, words]) => h("button", { type: "button", "data-mark": mark,
    "aria-pressed": marks.get(verdict.id) === mark, onclick: () => press(verdict, mark) }, words));
  return h("div", { class: "marks", role: "group", "aria-label": `${named(verdict)} is`, "data-marks": verdict.id }, ...buttons);
}

// Says it, or takes it back; the page then asks anew for what is said.
async function press(verdict, mark) {
  const who = await operatorName();
  if (!who) return;
  try {
    await ask("/api/marks", { verdict: verdict.id, mark: marks.get(verdict.id) === mark ? null : mark, who });
    document.dispatchEvent(new Event("marked"));
  } catch (error) {
    $("gallery-said").textContent = error.message;
  }
}

// Pictures are written after verdicts are told: one that is not there yet is tried again, twice.
function picture(id) {
  const image = h("img", { src: `/api/thumbnails/${id}.jpg`, alt: "", loading: "lazy", decoding: "async" });
  const holder = h("span", {}, image, "no picture kept");
  let tries = 0;
  image.onerror = () => {
    image.remove();
    if (++tries <= 2) setTimeout(() => { image.src = `/api/thumbnails/${id}.jpg?again=${tries}`; holder.prepend(image); }, 1000 * tries);
  };
  return holder;
}

// `verdict.image` is null where none was kept; a card of a fault without a frame has none either.
export function partCard(verdict, threshold, small = false) {
  const words = verdict.verdict ? `${named(verdict)}, ${WORDS[verdict.verdict]}` : `verdict ${verdict.id}`;
  const show = () => document.dispatchEvent(new CustomEvent("show-part", { detail: verdict }));
  const shown = verdict.image === null ? "no picture kept" : picture(verdict.id);
  const opens = h("button", { type: "button", "aria-label": `Show ${words}`, onclick: show }, shown);
  const value = verdict.score === null ? verdict.reason : `score ${score(verdict.score, threshold)}`;
  if (small) return h("li", { class: "card" }, opens, h("div", {}, h("small", {}, value)));
  return h("li", { class: "card", "data-id": verdict.id }, opens,
    h("div", {}, h("b", {}, verdict.part_id ?? `#${verdict.id}`), h("small", {}, value), h("small", {}, moment(verdict.time))),
    verdict.score === null ? null : markButtons(verdict));
}
