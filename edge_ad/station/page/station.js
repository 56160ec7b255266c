// The page: what the station tells, as it tells it. Verdicts come as server-sent events; everything else is asked for
// now and then, and only while somebody looks.

import {
  $,
  ask,
  clock,
  count,
  every,
  h,
  milliseconds,
  named,
  operator,
  operatorName,
  percent,
  plural,
  query,
  rememberOperator,
  score,
  tabs,
  terms,
} from "./base.js";
import { drawRecent, drawScores, drawYield } from "./charts.js";
import { showHealth } from "./health.js";
import { wantImage, watchCamera } from "./live.js";
import { addVerdict, showNewVerdicts, startParts } from "./parts.js";
import { addPart, loadThreshold, showNewParts, taught, thresholdsOverTime } from "./threshold.js";

const ROOM = 60; // parts in the strip of the last ones
const SPANS = [
  ["15m", "15 m"],
  ["1h", "1 h"],
  ["8h", "8 h"],
  ["24h", "24 h"],
  ["7d", "7 d"],
];
const WORDS = { good: "GOOD", anomalous: "REJECT", fault: "FAULT" };

let state = null,
  camera = null,
  span = "1h",
  trend = null;
let recent = []; // verdicts of the camera, the newest last

// --- the station as a whole ----------------------------------------------------------------------------------------

async function refresh() {
  const [found, latency] = await Promise.all([ask("/api/state"), ask("/api/latency")]);
  const known = state?.cameras.map(({ name }) => name).join();
  const recipe = state?.recipe,
    model = state?.models[camera];
  state = found;
  if (known !== state.cameras.map(({ name }) => name).join()) await start();
  else if (recipe !== state.recipe || differs(model, state.models[camera])) {
    shape();
    await reload();
  }
  showState(state);
  showCounts();
  showHealth(state, latency, camera);
}

const differs = (one, other) =>
  ["model_sha256", "threshold_version", "threshold"].some((name) => one?.[name] !== other?.[name]);

function showState({ station, state: word, problems, warnings }) {
  $("name").textContent = station;
  document.title = `${word === "running" ? "" : `${word}: `}${station}`;
  pill($("status"), word, word === "running" ? "good" : word === "fault" ? "bad" : "warn");
  notices([...problems.map((text) => [text, "bad"]), ...(warnings ?? []).map((text) => [text, ""])]);
  showRecipes();
}

function pill(element, words, kind) {
  if (element.textContent !== words) element.textContent = words;
  element.className = `pill ${kind}`;
}

function notices(rows) {
  const words = rows.map(([text]) => text).join("\n");
  if ($("notices").dataset.words === words) return; // told once, not every two seconds
  $("notices").dataset.words = words;
  $("notices").replaceChildren(...rows.map(([text, kind]) => h("li", { class: kind }, text)));
}

// --- recipes -------------------------------------------------------------------------------------------------------

let switching = false;

function showRecipes() {
  const select = $("recipe"),
    names = state.recipes.join("\n");
  if (select.dataset.names !== names) {
    select.dataset.names = names;
    select.replaceChildren(...state.recipes.map((name) => h("option", { value: name }, name)));
    select.value = state.recipe;
  }
  if (select.dataset.now !== state.recipe) select.value = select.dataset.now = state.recipe;
  select.disabled = switching;
  $("switch").disabled = switching || select.value === state.recipe;
}

async function switchRecipe(event) {
  event.preventDefault();
  const name = $("recipe").value;
  switching = true;
  $("switch").textContent = "Loading…";
  showRecipes();
  try {
    await ask("/api/recipe", { recipe: name });
    state.recipe = name;
    switching = false;
    await refresh();
  } catch (error) {
    notices([[error.message, "bad"]]);
    $("recipe").value = state.recipe;
  } finally {
    switching = false;
    $("switch").textContent = "Switch";
    showRecipes();
  }
}

// --- live ----------------------------------------------------------------------------------------------------------

async function start() {
  const names = state.cameras.map(({ name }) => name);
  camera = names.includes(camera) ? camera : names[0];
  tabs(
    $("cameras"),
    names.map((name) => [name, name]),
    camera,
    (name) => {
      camera = name;
      select();
    },
  );
  $("cameras").hidden = names.length < 2;
  await select();
}

// Everything on the page is of one camera.
async function select() {
  const name = camera;
  recent = [];
  shape();
  watchCamera(camera);
  const [page] = await Promise.all([
    ask(query("/api/verdicts", { camera, limit: ROOM })),
    reload(),
    startParts(camera),
  ]);
  if (name !== camera) return;
  const newest = page.verdicts[0]?.id ?? 0;
  recent = [...page.verdicts.reverse(), ...recent.filter(({ id }) => id > newest)].slice(-ROOM);
  showLatest();
  showCounts();
}

const reload = () => Promise.all([loadThreshold(camera), loadTrend()]).then(() => showTrend());

// The frame's shape is known before its first image: with the strip that edge_ad.overlay adds to its foot.
function shape() {
  const { width, height } = state.models[camera] ?? { width: 4, height: 3 };
  const factor = Math.ceil(480 / width);
  const [wide, tall] = [width * factor, height * factor];
  const strip = Math.max(36, Math.floor(Math.min(wide, tall) / 14));
  document.documentElement.style.setProperty("--shape", `${wide} / ${tall + strip}`);
}

function showLatest() {
  const latest = recent.at(-1);
  const threshold = latest?.threshold ?? state.models[camera]?.threshold;
  $("word").textContent = latest ? WORDS[latest.verdict] : "–";
  $("reason").textContent = latest?.reason ?? "";
  $("verdict").className = `verdict ${latest?.verdict ?? ""}`;
  $("needle").style.setProperty("--at", `${100 * (latest?.score === null || !latest ? 0 : level(latest))}%`);
  $("needle").style.visibility = latest && latest.score !== null ? "visible" : "hidden";
  terms($("facts"), [
    ["Part", latest?.part_id ?? (latest && `#${latest.id}`)],
    ["Score", latest && score(latest.score, threshold)],
    [
      "Threshold",
      threshold !== undefined &&
        `${score(threshold, threshold)}, version ${latest?.threshold_version ?? state.models[camera]?.threshold_version}`,
    ],
    ["Triggered", latest && clock(latest.time)],
    ["Inspection", latest && milliseconds(latest.inspect_ms)],
  ]);
  drawRecent($("recent"), recent, ROOM, level);
  $("image").classList.toggle("stale", latest?.sequence === null);
}

// A score between 0 and 1, with the threshold in the middle and the calibration's lowest scores at 0.
function level(verdict) {
  const { mean, score_spread: spread } = taught()?.calibration ?? { mean: 0, score_spread: 1 };
  const low = Math.min(mean - 3 * spread, verdict.threshold - spread);
  return Math.min(1, Math.max(0, (0.5 * (verdict.score - low)) / (verdict.threshold - low)));
}

function showCounts() {
  if (!state || !camera) return;
  const { good, anomalous, fault } = state.counts;
  terms($("counts"), [
    ["Yield", percent(good / (good + anomalous))],
    ["Good", count(good)],
    ["Rejects", count(anomalous), anomalous ? "bad" : ""],
    ["Faults", count(fault), fault ? "warn" : ""],
  ]);
}

// --- yield and scores ----------------------------------------------------------------------------------------------

async function loadTrend() {
  const [name, asked] = [camera, span];
  const found = await ask(query("/api/trend", { camera: name, span: asked }));
  if (name === camera && asked === span) trend = found;
}

function showTrend() {
  if (!trend) return;
  drawYield($("yield"), trend);
  drawScores($("scores"), trend, thresholdsOverTime());
  const sum = (name) => trend.buckets.reduce((total, bucket) => total + bucket[name], 0);
  $("yield-of").textContent = percent(sum("good") / (sum("good") + sum("anomalous")));
  const { mean, score_spread: spread, normal_images: images, mean_is_estimated: isEstimated } = trend.calibration,
    latest = trend.latest;
  if (!latest.parts) {
    pill($("drift"), "no scores", "");
    $("drift-text").textContent = "This model has judged no part of this camera yet.";
    return;
  }
  const drift = (latest.median - mean) / spread,
    size = Math.abs(drift);
  const [word, kind] = size < 1 ? ["in line", "good"] : size < 2 ? ["watch", "warn"] : ["drifted", "bad"];
  pill($("drift"), word, kind);
  $("drift-text").textContent =
    `The median score of this camera's last ${plural(latest.parts, "part")} is ${size.toFixed(1)} spreads ${drift < 0 ? "below" : "above"}` +
    ` what calibration expects of good parts (${score(mean, trend.threshold)} ± ${score(spread, trend.threshold)},` +
    ` ${isEstimated ? "estimated from the threshold and the spread of" : "from"} ${count(images)} images).`;
}

// --- events --------------------------------------------------------------------------------------------------------

let events = null,
  attempt = 0,
  spoken = 0,
  dirty = false;

// Loads everything anew, then hears what came after that: what was missed while nobody looked is in the record.
async function connect() {
  const turn = ++attempt;
  events?.close();
  if (document.hidden) return;
  try {
    const after = (await ask("/api/state")).storage.newest_id;
    const isFirst = state === null;
    await refresh();
    if (!isFirst) await select();
    if (turn !== attempt) return;
    events = new EventSource(query("/api/events", { after }));
  } catch (error) {
    if (error.status !== 401) retry(error.message);
    return;
  }
  events.addEventListener("state", (event) => {
    const summary = JSON.parse(event.data),
      isSame = summary.recipe === state.recipe;
    showState({ ...state, ...summary });
    if (!isSame) refresh().catch(() => {});
  });
  events.addEventListener("verdict", (event) => judged(JSON.parse(event.data)));
  events.addEventListener("error", () => retry("The station does not answer."));
}

function retry(words) {
  events?.close();
  pill($("status"), "no connection", "bad");
  notices([[`${words} This page tries again every 2 seconds.`, "bad"]]);
  const turn = attempt;
  setTimeout(() => {
    if (turn === attempt) connect();
  }, 2000);
}

function judged(verdict) {
  addPart(verdict);
  addVerdict(verdict);
  if (verdict.camera !== camera || verdict.id <= (recent.at(-1)?.id ?? 0)) return;
  recent.push(verdict);
  if (recent.length > ROOM) recent.shift();
  wantImage();
  if (verdict.verdict !== "good" && Date.now() - spoken > 5000) {
    spoken = Date.now();
    $("spoken").textContent = `${named(verdict)}: ${WORDS[verdict.verdict].toLowerCase()}`;
  }
  if (!dirty) {
    dirty = true;
    setTimeout(() => {
      dirty = false;
      showLatest();
    }, 80);
  }
}

// --- from the beginning --------------------------------------------------------------------------------------------

document.addEventListener("signed-out", () => {
  events?.close();
  if (!$("sign-in").open) $("sign-in").showModal();
});
$("sign-in").addEventListener("cancel", (event) => event.preventDefault());
$("token-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await ask("/api/login", { token: $("token").value });
    localStorage.setItem("edge-ad signed in", "yes");
    location.reload();
  } catch (error) {
    $("sign-in-said").textContent = error.message;
  }
});
$("sign-out").hidden = !localStorage.getItem("edge-ad signed in");
$("sign-out").addEventListener("click", async () => {
  await ask("/api/logout", {}).catch(() => {});
  localStorage.removeItem("edge-ad signed in");
  location.reload();
});
$("operator").addEventListener("click", () => operatorName(true));
rememberOperator(operator());
$("recipes").addEventListener("submit", switchRecipe);
$("recipe").addEventListener("change", showRecipes);
tabs($("spans"), SPANS, span, (value) => {
  span = value;
  loadTrend().then(showTrend, () => {});
});
document.addEventListener("marked", () => loadThreshold(camera).catch(() => {}));
document.addEventListener("visibilitychange", connect);

connect();
const whileOpen = (work) => async () => {
  if (events?.readyState === EventSource.OPEN) await work();
};
every(2000, whileOpen(refresh));
every(
  5000,
  whileOpen(() => loadTrend().then(showTrend)),
);

let busy = -Infinity; // when somebody last did something
for (const name of ["pointerdown", "pointermove", "keydown", "wheel"]) {
  document.addEventListener(
    name,
    () => {
      busy = performance.now();
    },
    { passive: true },
  );
}
every(
  1000,
  whileOpen(async () => {
    showNewVerdicts(performance.now() - busy);
    showNewParts();
  }),
);
