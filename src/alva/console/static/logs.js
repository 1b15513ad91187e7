// Log lines are read in batches and kept in an array. Only the visible rows are elements of the page.

import { $, element, problemCard } from "./dom.js";

const ROW = 22;
const MOST = 200000;
let lines = [];
let shown = [];
let source = null;
let isReady = false;
let isQueued = false;
let names = null;

export function start() {
  if (!isReady) {
    isReady = true;
    $("log-form").addEventListener("submit", (event) => { event.preventDefault(); open(); });
    $("log-form").elements.find.addEventListener("input", () => { filter(); draw(); });
    $("log-lines").addEventListener("scroll", queue);
    addEventListener("resize", queue);
  }
  showNames();
  open();
}

export function stop() {
  source?.close();
  source = null;
}

function showNames() {
  if (names) return;
  const rows = [...document.querySelectorAll("#services tbody th")].map((cell) => cell.textContent);
  if (!rows.length) { setTimeout(showNames, 300); return; }
  names = [...rows, "migrations"];
  $("log-services").replaceChildren(...names.map((name) => element("label", {}, element("input", { type: "checkbox", name: "service", value: name }), name)));
}

function open() {
  stop();
  lines = [];
  shown = [];
  draw();
  const form = $("log-form").elements;
  const chosen = [...document.querySelectorAll("#log-services input:checked")].map((box) => box.value);
  const query = new URLSearchParams({ services: chosen.join(","), minutes: form.minutes.value, filter: form.filter.value, follow: form.follow.checked ? "1" : "0" });
  $("log-state").textContent = "reading";
  source = new EventSource(`/api/logs?${query}`);
  source.addEventListener("lines", (event) => add(JSON.parse(event.data)));
  source.addEventListener("end", () => { stop(); say(); });
  source.addEventListener("problem", (event) => {
    stop();
    $("log-state").replaceChildren(problemCard(JSON.parse(event.data)));
  });
  source.addEventListener("error", () => { stop(); $("log-state").textContent = "cannot read log lines: the console has ended"; });
  source.addEventListener("open", say);
}

function text(line) {
  const message = line.message;
  if (typeof message !== "object" || message === null) return String(message);
  const { level, message: words, ...rest } = message;
  const fields = Object.entries(rest).filter(([name]) => !["timestamp", "time", "service", "logger"].includes(name));
  return [level, words, ...fields.map(([name, value]) => `${name}=${typeof value === "object" ? JSON.stringify(value) : value}`)].filter((part) => part !== undefined && part !== "").join("  ");
}

export const lineOf = (line) => ({ time: line.time, source: line.source, level: line.message?.level ?? "", text: text(line).replaceAll("\n", " ⏎ ") });

export const lineElement = (line) => element("div", { class: `log-line ${/^[A-Z]+$/.test(line.level) ? line.level : ""}`, title: line.text },
  element("time", { datetime: line.time }, line.time.slice(11, 23)), element("span", { class: "source" }, line.source), element("span", {}, line.text));

function add(batch) {
  const box = $("log-lines");
  const isAtEnd = box.scrollTop + box.clientHeight >= box.scrollHeight - 3 * ROW;
  const find = $("log-form").elements.find.value.toLowerCase();
  for (const line of batch) {
    const entry = lineOf(line);
    lines.push(entry);
    if (!find || entry.text.toLowerCase().includes(find)) shown.push(entry);
  }
  if (lines.length > MOST) { lines = lines.slice(-MOST); filter(); }
  say();
  queue(isAtEnd);
}

function filter() {
  const find = $("log-form").elements.find.value.toLowerCase();
  shown = find ? lines.filter((line) => line.text.toLowerCase().includes(find)) : lines.slice();
  say();
}

function say() {
  $("log-state").textContent = `${shown.length} of ${lines.length} lines${source ? ", following" : ""}`;
}

function queue(toEnd) {
  if (toEnd === true) isQueued = "end";
  if (isQueued === true || (isQueued === "end" && toEnd !== true)) return;
  if (!isQueued) isQueued = true;
  requestAnimationFrame(() => {
    const scrollToEnd = isQueued === "end";
    isQueued = false;
    draw(scrollToEnd);
  });
}

function draw(scrollToEnd = false) {
  const box = $("log-lines");
  const all = box.querySelector(".log-all");
  const window_ = box.querySelector(".log-window");
  all.style.height = `${shown.length * ROW}px`;
  if (scrollToEnd) box.scrollTop = box.scrollHeight;
  const first = Math.max(0, Math.floor(box.scrollTop / ROW) - 5);
  const count = Math.ceil(box.clientHeight / ROW) + 10;
  window_.style.top = `${first * ROW}px`;
  window_.replaceChildren(...shown.slice(first, first + count).map(lineElement));
}
