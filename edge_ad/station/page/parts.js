// Recorded parts: rejects, faults and those accepted ones whose picture was kept; and one of them in full.

import { $, ask, milliseconds, moment, named, query, score, tabs, terms } from "./base.js";
import { WORDS, markButtons, partCard } from "./cards.js";

const PAGE = 24,
  IDLE_MS = 15_000;
const SEARCHED = 1000; // accepted parts that are looked through for a picture
const WRITTEN_MS = 10_000; // within so long a picture is written
const KINDS = [
  ["anomalous", "Rejected"],
  ["fault", "Faults"],
  ["good", "Accepted"],
];

let kind = "anomalous",
  part = "",
  following = null,
  camera = null,
  asked = 0;
let shown = []; // verdicts, in the order in which they are shown
let open = null; // the verdict in the viewer

export function startParts(name) {
  camera = name;
  tabs($("kinds"), KINDS, kind, (value) => {
    kind = value;
    $("part").value = part = "";
    load();
  });
  return load();
}

async function load(more = false) {
  const turn = ++asked;
  const isSampled = kind === "good" && !part;
  const values = {
    camera,
    limit: isSampled ? SEARCHED : PAGE,
    ...(part ? { part_id: part } : { verdict: kind }),
    ...(more && { before: following }),
  };
  try {
    const page = await ask(query("/api/verdicts", values));
    if (turn !== asked) return;
    const found = isSampled
      ? page.verdicts.filter(({ image }) => image).slice(0, PAGE)
      : page.verdicts.map((told) => (Date.now() - Date.parse(told.time) < WRITTEN_MS ? onItsWay(told) : told));
    if (!more) {
      fresh = [];
      $("newer").hidden = true;
    }
    shown = more ? [...shown, ...found] : found;
    following = isSampled && found.length === PAGE ? found.at(-1).id : page.next;
    show();
  } catch (error) {
    $("gallery-said").textContent = error.message;
  }
}

function show() {
  $("gallery").replaceChildren(...shown.map(partCard));
  $("more").hidden = following === null;
  const what = {
    anomalous: "No part was rejected.",
    fault: "No trigger ended in a fault.",
    good: "No picture of an accepted part is kept among the last ones.",
  }[kind];
  $("gallery-said").textContent = shown.length ? "" : part ? `There is no part ${part} in the record.` : what;
}

let fresh = []; // judged meanwhile, the newest last

// A part was judged: it will come first, unless a part is looked for. Its picture is on its way.
export function addVerdict(verdict) {
  if (part || kind === "good" || verdict.camera !== camera || verdict.verdict !== kind) return;
  if (!shown.some(({ id }) => id === verdict.id))
    fresh.push(onItsWay(verdict));
}

// A part that was just judged: its picture may not be written yet, and is not known to be missing.
function onItsWay(verdict) {
  const isKept = verdict.sequence !== null && verdict.verdict !== "good";
  return isKept && !verdict.image ? { ...verdict, image: undefined } : verdict;
}

// By themselves they come only where nobody is at work: a card must not move from under a finger.
export function showNewVerdicts(idleMs) {
  if (!fresh.length) return;
  if (idleMs > IDLE_MS) showFresh();
  else {
    $("newer").hidden = false;
    $("newer").textContent = `Show ${fresh.length} newer`;
  }
}

function showFresh() {
  const added = fresh.reverse().slice(0, PAGE);
  fresh = [];
  shown = [...added, ...shown];
  if (shown.length > 4 * PAGE) {
    shown.length = 3 * PAGE;
    following = shown.at(-1).id;
  }
  $("gallery").prepend(...added.map(partCard));
  while ($("gallery").children.length > shown.length) $("gallery").lastChild.remove();
  $("gallery-said").textContent = "";
  $("newer").hidden = true;
  $("more").hidden = following === null;
  $("gallery").inert = true; // a press that was meant for what stood there before
  setTimeout(() => {
    $("gallery").inert = false;
  }, 500);
}

// --- one part ------------------------------------------------------------------------------------------------------

async function view(verdict) {
  open = verdict.verdict ? verdict : await ask(`/api/verdicts/${verdict.id}`).catch(() => null);
  if (!open) return;
  showOpen();
  if (!$("viewer").open) $("viewer").showModal();
}

function showOpen() {
  const place = shown.findIndex(({ id }) => id === open.id);
  $("viewer-title").textContent = `${open.part_id ?? `#${open.id}`}: ${WORDS[open.verdict]}`;
  $("viewer-image").alt = `${named(open)}, ${WORDS[open.verdict]}`;
  showPicture(`/api/images/${open.id}.${$("heat").checked && open.score !== null ? "jpg" : "png"}`);
  $("earlier").disabled = place < 1;
  $("later").disabled = place < 0 || place === shown.length - 1;
  $("viewer-marks").replaceChildren(...(open.score === null ? [] : [markButtons(open)]));
  const threshold = open.threshold;
  terms($("viewer-facts"), [
    [
      "Score",
      open.score === null
        ? "–"
        : `${score(open.score, threshold)}, threshold ${score(threshold, threshold)} (version ${open.threshold_version})`,
    ],
    ["Triggered", moment(open.time, "medium")],
    ...(open.reason ? [["Fault", open.reason]] : []),
    ["Camera and recipe", `${open.camera}, ${open.recipe}`],
    ["Trigger", `${open.trigger_id}, verdict ${open.id}`],
    ["Bundle", open.bundle === null ? "–" : `${open.bundle}, ${open.bundle_sha256.slice(0, 12)}`],
    ["Model", open.bundle === null ? "–" : `${open.precision} on ${open.backend}, ${open.model_sha256.slice(0, 12)}`],
    ["Capture, wait, inspect", [open.capture_ms, open.wait_ms, open.inspect_ms].map(milliseconds).join(", ")],
    [
      "Regions",
      open.regions.length
        ? open.regions
            .slice(0, 3)
            .map((r) => `${r.width} × ${r.height} at ${r.x}, ${r.y}`)
            .join("; ")
        : "none",
    ],
  ]);
}

// A picture is written after its verdict is told: one that is not there yet is tried again, twice.
function showPicture(source, tries = 0) {
  const image = $("viewer-image");
  image.dataset.source = source;
  image.hidden = false;
  image.onerror = () => {
    image.hidden = true;
    if (tries < 2)
      setTimeout(() => {
        if (image.dataset.source === source) showPicture(source, tries + 1);
      }, 1000);
  };
  image.src = tries ? `${source}?again=${tries}` : source;
}

function move(by) {
  const place = shown.findIndex(({ id }) => id === open.id) + by;
  if (shown[place]) view(shown[place]);
}

document.addEventListener("show-part", (event) => view(event.detail));
$("earlier").addEventListener("click", () => move(-1));
$("later").addEventListener("click", () => move(1));
$("viewer").addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") move(-1);
  if (event.key === "ArrowRight") move(1);
});
$("heat").addEventListener("change", showOpen);
$("newer").addEventListener("click", showFresh);
$("more").addEventListener("click", () => load(true));
$("search").addEventListener("submit", (event) => {
  event.preventDefault();
  part = $("part").value.trim();
  load();
});
