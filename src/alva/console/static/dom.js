// Helpers. Text is set as text and never parsed as HTML, because log lines and reasons come from services.

export const $ = (id) => document.getElementById(id);

export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "class") made.className = value;
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ""));
  return made;
}

export async function read(path) {
  const answer = await fetch(path, { credentials: "same-origin" });
  const text = await answer.text();
  let value;
  try {
    value = JSON.parse(text);
  } catch {
    throw new Error(text.trim() || `the console answered ${answer.status}`);
  }
  if (value.error) throw Object.assign(new Error(value.error.message), value.error);
  return value;
}

export const nextLine = (text) => (text ? element("p", {}, "Next: ", text.startsWith("./alva ") ? element("code", {}, text) : text) : null);

export const problemLines = (error) => [
  element("p", {}, element("strong", {}, error.message)),
  ...(error.evidence ?? []).map((line) => element("p", { class: "mono" }, line)),
  nextLine(error.next),
].filter(Boolean);

export const problemCard = (error) => element("div", { class: "card bad", role: "alert" }, problemLines(error));

// A command with the options that the shown environment needs. Other text does not change.
export const commandFor = (text, found) => (found?.extra.target === "aws" && text.startsWith("./alva ") ? `${text} --target aws` : text);

export function causeCard(cause) {
  return element("div", { class: "card bad" },
    element("p", {}, element("strong", {}, `${cause.subject}: ${cause.cause}`)),
    cause.evidence.map((line) => element("p", { class: "mono" }, line)),
    nextLine(cause.next));
}

export function command(text) {
  const button = element("button", { type: "button", "aria-label": `Copy: ${text}` }, "Copy");
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
  return element("div", { class: "command" }, element("code", {}, text), button);
}

export function ago(time) {
  if (!time) return "";
  const seconds = Math.max(0, (Date.now() - new Date(time)) / 1000);
  for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
    if (seconds >= size) return `${Math.floor(seconds / size)} ${unit}`;
  }
  return `${Math.floor(seconds)} s`;
}

// Text that shows how long ago a time was. `tick` updates it.
export const since = (time) => element("time", { datetime: time, "data-since": time }, ago(time));

export function tick() {
  for (const each of document.querySelectorAll("[data-since]")) {
    const text = ago(each.dataset.since);
    if (each.textContent !== text) each.textContent = text;
  }
}

// Renders only what has changed, so that selected text, focus and scroll positions stay.
const rendered = new Map();
export function renderWhenChanged(key, value, render) {
  const text = JSON.stringify(value);
  if (rendered.get(key) === text) return;
  rendered.set(key, text);
  render();
}

export const seconds = (value) => (value === null || value === undefined ? "" : value < 100 ? `${value.toFixed(1)} s` : `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`);
export const short = (digest) => (digest ?? "").replace("sha256:", "").slice(0, 12);
