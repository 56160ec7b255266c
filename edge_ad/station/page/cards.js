// A part as a card: its picture, its score, and what is said of it.

import { $, ask, h, moment, named, operatorName, score } from "./base.js";

export const WORDS = { good: "accepted", anomalous: "rejected", fault: "fault" };
const MARKS = [
  ["good", "Good"],
  ["defect", "Defect"],
];

let marks = new Map(); // of this record: verdict id to "good" or "defect"

// What holds of the camera's parts; ids of another record mean other parts.
export function setMarks(told) {
  marks = new Map(
    told.marks.filter(({ record }) => record === told.record).map((mark) => [mark.verdict_id, mark.mark]),
  );
  for (const group of document.querySelectorAll("[data-marks]")) {
    for (const button of group.children)
      button.setAttribute("aria-pressed", button.dataset.mark === marks.get(Number(group.dataset.marks)));
  }
}

export function markButtons(verdict) {
  const buttons = MARKS.map(([mark, words]) =>
    h(
      "button",
      {
        type: "button",
        "data-mark": mark,
        "aria-pressed": marks.get(verdict.id) === mark,
        onclick: () => press(verdict, mark),
      },
      words,
    ),
  );
  return h(
    "div",
    { class: "marks", role: "group", "aria-label": `${named(verdict)} is`, "data-marks": verdict.id },
    ...buttons,
  );
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
function picture(id, missing) {
  const image = h("img", { src: `/api/thumbnails/${id}.jpg`, alt: "", loading: "lazy", decoding: "async" });
  const holder = h("span", {}, image, "no picture kept");
  let tries = 0;
  image.onerror = () => {
    image.remove();
    if (missing) return missing();
    if (++tries <= 2)
      setTimeout(() => {
        image.src = `/api/thumbnails/${id}.jpg?again=${tries}`;
        holder.prepend(image);
      }, 1000 * tries);
  };
  return holder;
}

const show = (verdict) => document.dispatchEvent(new CustomEvent("show-part", { detail: verdict }));

// `verdict.image` is null where no picture was kept.
export function partCard(verdict) {
  const shown = verdict.image === null ? "no picture kept" : picture(verdict.id);
  const opens = h(
    "button",
    { type: "button", "aria-label": `Show ${named(verdict)}, ${WORDS[verdict.verdict]}`, onclick: () => show(verdict) },
    shown,
  );
  const value = verdict.score === null ? verdict.reason : `score ${score(verdict.score, verdict.threshold)}`;
  return h(
    "li",
    { class: "card", "data-id": verdict.id },
    opens,
    h(
      "div",
      {},
      h("b", {}, verdict.part_id ?? `#${verdict.id}`),
      h("small", {}, value),
      h("small", {}, moment(verdict.time)),
    ),
    verdict.score === null ? null : markButtons(verdict),
  );
}

// A picture and a score, of a part whose picture may not have been kept: then the card goes.
export function smallCard(id, value, threshold) {
  const card = h("li", { class: "card" });
  const opens = h(
    "button",
    { type: "button", "aria-label": `Show verdict ${id}`, onclick: () => show({ id }) },
    picture(id, () => card.remove()),
  );
  card.append(opens, h("div", {}, h("small", {}, score(value, threshold))));
  return card;
}
