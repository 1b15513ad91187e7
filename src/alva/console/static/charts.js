// Charts of the last hour, drawn by uPlot. A table below each has the same values as numbers.

import { $, element, problemCard, read } from "./dom.js";

const COLOURS = ["--busy", "--good", "--warn", "--old", "--bad", "--accent"];
const HEIGHT = 190;
let timer = null;
let plots = [];
let drawn = null;
let library = null;

export async function start() {
  stop();
  timer = setTimeout(start, 30000);
  try {
    const [found] = await Promise.all([read("/api/charts?minutes=60"), load()]);
    draw(found);
  } catch (error) {
    forget();
    $("charts").replaceChildren(problemCard(error));
  }
}

export function stop() {
  clearTimeout(timer);
  timer = null;
}

// uPlot is loaded when the view Metrics is opened: the first view does not need it.
function load() {
  library ??= new Promise((resolve, reject) => {
    document.head.append(element("link", { rel: "stylesheet", href: "/static/uPlot.min.css" }));
    const script = element("script", { src: "/static/uPlot.iife.min.js" });
    script.addEventListener("load", resolve);
    script.addEventListener("error", () => { library = null; reject(new Error("cannot load the chart library (next: ./alva --help, which installs it)")); });
    document.head.append(script);
  });
  return library;
}

function forget() {
  for (const { plot } of plots) plot.destroy();
  plots = [];
  drawn = null;
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const number = (value) => (value === null || value === undefined ? "none" : Number(value).toLocaleString("en", { maximumFractionDigits: 3, notation: Math.abs(value) >= 1e6 ? "compact" : "standard" }));
const known = (values) => values.filter((value) => value !== null);
const last = (values) => values.findLast((value) => value !== null);
const say = (chart) => chart.lines.map((line) => `${line.label} ${number(last(line.values))}`).join(", ");

// A threshold far above the values would flatten the lines, so it is left out of the plot. The text below has it.
function near(chart) {
  const most = Math.max(0, ...chart.lines.flatMap((line) => known(line.values)));
  return chart.thresholds.filter((threshold) => threshold.value <= most * 6 || threshold.state === "ALARM");
}

const dataOf = (times, chart) => [times, ...chart.lines.map((line) => line.values), ...near(chart).map((threshold) => times.map(() => threshold.value))];
const shapeOf = (charts) => JSON.stringify(charts.map((chart) => [chart.title, chart.lines.map((line) => line.label), near(chart)]));

function draw({ times, charts }) {
  if (drawn === shapeOf(charts)) {
    plots.forEach(({ plot, notes }, index) => {
      plot.setData(dataOf(times, charts[index]));
      notes.replaceChildren(...notesOf(charts[index]));
    });
    return;
  }
  forget();
  drawn = shapeOf(charts);
  const boxes = charts.map((chart) => {
    const frame = element("div", { role: "img", "aria-label": `${chart.title}: ${say(chart)}` });
    const notes = element("div", {}, notesOf(chart));
    return { chart, frame, notes, box: element("div", { class: "chart" }, element("h2", {}, chart.title), frame, notes) };
  });
  $("charts").replaceChildren(...boxes.map(({ box }) => box));
  plots = boxes.map(({ chart, frame, notes }) => ({ plot: plotOf(frame, times, chart), frame, notes }));
}

function notesOf(chart) {
  const rows = chart.lines.map((line, index) => element("tr", {},
    element("th", { scope: "row" }, element("i", { class: "swatch", style: `background:var(${COLOURS[index % COLOURS.length]})` }), line.label),
    element("td", { class: "number" }, number(last(line.values))), element("td", { class: "number" }, known(line.values).length ? number(Math.max(...known(line.values))) : "none")));
  return [
    element("div", { class: "values" }, element("table", {},
      element("thead", {}, element("tr", {}, ["Line", "Last", "Highest"].map((name, index) => element("th", { scope: "col", class: index ? "number" : "" }, name)))), element("tbody", {}, rows))),
    ...thresholdsInWords(chart).map(({ words, isInAlarm }) => element("p", { class: isInAlarm ? "bad-text" : "quiet" }, words)),
  ];
}

// Alarms with the same threshold share one line. Those in the state ALARM come first.
function thresholdsInWords(chart) {
  const groups = new Map();
  for (const { label, value, state, comparison } of chart.thresholds) {
    const isInAlarm = state === "ALARM";
    const words = `${comparison.startsWith("Less") ? "below" : "above"} ${number(value)}${isInAlarm ? ", in the state ALARM" : ""}`;
    const group = groups.get(words) ?? { isInAlarm, labels: [] };
    group.labels.push(label);
    groups.set(words, group);
  }
  return [...groups].sort(([, a], [, b]) => b.isInAlarm - a.isInAlarm).map(([words, { isInAlarm, labels }]) => ({
    isInAlarm,
    words: labels.length === 1 ? `Alarm ${labels[0]}: ${words}`
      : labels.length <= 6 || isInAlarm ? `Alarms ${labels.join(", ")}: ${words}` : `${labels.length} alarms (${labels.slice(0, 3).join(", ")}…): ${words}`,
  }));
}

function plotOf(frame, times, chart) {
  const lines = chart.lines.map((line, index) => ({ label: line.label, stroke: colour(COLOURS[index % COLOURS.length]), width: 2, points: { show: true, size: 4 } }));
  const thresholds = near(chart).map((threshold) => ({ label: threshold.label, stroke: colour("--bad"), dash: [6, 4], width: 1, points: { show: false } }));
  const clock = (value) => new Date(value * 1000).toISOString().slice(11, 16);
  const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line") } };
  return new globalThis.uPlot({
    width: frame.clientWidth || 400, height: HEIGHT, series: [{}, ...lines, ...thresholds], legend: { show: false },
    axes: [{ ...axis, values: (_, values) => values.map(clock) }, { ...axis, size: 64, values: (_, values) => values.map(number) }],
    scales: { y: { range: (_, __, high) => [0, high > 0 ? high * 1.1 : 1] } },
  }, dataOf(times, chart), frame);
}

addEventListener("resize", () => {
  for (const { plot, frame } of plots) plot.setSize({ width: frame.clientWidth || 400, height: HEIGHT });
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  forget();
  if (timer !== null) start();
});
