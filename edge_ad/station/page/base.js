// What every part of the page uses: elements, requests, figures, the operator's name. Texts from the line (part ids,
// names, reasons) only ever become text nodes.

const SVG = "http://www.w3.org/2000/svg";

export const $ = (id) => document.getElementById(id);

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false)
      element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export const h = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
export const s = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

// Rows of a description list: [name, value, class].
export const terms = (list, rows) =>
  list.replaceChildren(
    ...rows.map(([name, value, kind]) => h("div", { class: kind }, h("dt", {}, name), h("dd", {}, value ?? "–"))),
  );

// A group of buttons of which one is pressed; returns a function that presses another.
export function tabs(group, choices, chosen, choose) {
  const press = (value) => {
    for (const button of group.children) button.setAttribute("aria-pressed", button.value === value);
  };
  group.replaceChildren(
    ...choices.map(([value, text]) =>
      h(
        "button",
        {
          type: "button",
          value,
          onclick: () => {
            press(value);
            choose(value);
          },
        },
        text,
      ),
    ),
  );
  press(chosen);
  return press;
}

// --- requests ------------------------------------------------------------------------------------------------------

export class Refused extends Error {
  constructor(status, { what, expected, fix } = {}) {
    super(
      [what ?? `The station answered ${status}.`, expected && `Expected: ${expected}.`, fix && `${fix}.`]
        .filter(Boolean)
        .join(" "),
    );
    this.status = status;
  }
}

export async function ask(path, body) {
  const json = body !== undefined && {
    method: "POST",
    body: JSON.stringify(body),
    headers: { "Content-Type": "application/json" },
  };
  let response;
  try {
    response = await fetch(path, { ...json, cache: body === undefined ? "default" : "no-store" });
  } catch {
    throw new Refused(0, { what: "The station does not answer." });
  }
  const tree = await response.json().catch(() => ({}));
  if (!response.ok) {
    if (response.status === 401 && path !== "/api/login") document.dispatchEvent(new Event("signed-out"));
    throw new Refused(response.status, tree.error);
  }
  return tree;
}

export const query = (path, values) => `${path}?${new URLSearchParams(values)}`;

// Calls `work` now and again, one call at a time, and only while somebody looks.
export function every(milliseconds, work) {
  let timer;
  const turn = async () => {
    clearTimeout(timer);
    if (!document.hidden) await work().catch(() => {});
    timer = setTimeout(turn, milliseconds);
  };
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) turn();
  });
  turn();
  return turn;
}

// --- figures -------------------------------------------------------------------------------------------------------

// With as many decimals as the threshold needs for four digits, so that scores and thresholds line up.
export function score(value, threshold) {
  if (value === null || value === undefined) return "–";
  const size = Math.max(Math.abs(threshold ?? value), 1e-9);
  return value.toFixed(Math.min(6, Math.max(0, 4 - Math.ceil(Math.log10(size)))));
}

// A tick of an axis, with as many decimals as its step needs.
export const tick = (value, step) => value.toFixed(Math.min(6, Math.max(0, Math.ceil(-Math.log10(step) - 1e-9))));

export const count = (value) => (value === null || value === undefined ? "–" : value.toLocaleString("en"));
export const percent = (share, digits = 1) => (Number.isFinite(share) ? `${(100 * share).toFixed(digits)} %` : "–");
export const milliseconds = (value) =>
  value === null || value === undefined
    ? "–"
    : value >= 1000
      ? `${(value / 1000).toFixed(2)} s`
      : `${value >= 100 ? value.toFixed(0) : value.toFixed(1)} ms`;
export const gibibytes = (bytes) => `${(bytes / 2 ** 30).toFixed(bytes < 2 ** 30 ? 2 : 1)} GiB`;
export const clock = (time) => new Date(time).toLocaleTimeString("en-GB");
export const moment = (time, timeStyle = "short") =>
  new Date(time).toLocaleString("en-GB", { dateStyle: "medium", timeStyle });
export const plural = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
export const named = (verdict) => verdict.part_id ?? `verdict ${verdict.verdict_id ?? verdict.id}`;

// --- who is here ---------------------------------------------------------------------------------------------------

const NAME = "edge-ad operator";
export const operator = () => localStorage.getItem(NAME) ?? "";
export function rememberOperator(name) {
  localStorage.setItem(NAME, name);
  $("operator").textContent = name ? `Operator: ${name}` : "Set your name";
}

// The operator's name, asked for where it is not known; null if it was not given.
export function operatorName(anew = false) {
  if (operator() && !anew) return Promise.resolve(operator());
  const dialog = $("ask-name");
  $("new-name").value = operator();
  dialog.showModal();
  return new Promise((resolve) => {
    let given = null;
    $("name-form").onsubmit = (event) => {
      event.preventDefault();
      given = $("new-name").value.trim() || null;
      if (given) rememberOperator(given);
      dialog.close();
    };
    dialog.onclose = () => resolve(given);
  });
}

for (const dialog of document.querySelectorAll("dialog")) {
  dialog.querySelector("[data-close]")?.addEventListener("click", () => dialog.close());
}
