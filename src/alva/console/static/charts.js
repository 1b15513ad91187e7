// Charts of the last hour, drawn by uPlot; each has a table for those who cannot see it.

import { $, element, problemCard, read } from "./dom.js";

const COLOURS = ["--busy", "--good", "--warn", "--old", "--bad", "--accent"];
let timer = null;

export async function startCharts() {
  stopCharts();
  try {
    draw(await read("/api/charts?minutes=60"));
  } catch (error) {
    $("charts").replaceChildren(problemCard(error));
  }
  timer = setTimeout(startCharts, 30000);
}

export function stopCharts() {
  clearTimeout(timer);
  timer = null;
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function draw({ times, charts }) {
  $("charts").replaceChildren(...charts.map((chart) => {
    const box = element("div", { class: "chart" }, element("h2", {}, chart.title));
    const plot = element("div", { role: "img", "aria-label": `${chart.title}: ${say(chart)}` });
    box.append(plot);
    for (const threshold of chart.thresholds) {
      box.append(element("p", { class: threshold.state === "ALARM" ? "bad-text" : "quiet" }, `Alarm ${threshold.label}: ${threshold.comparison.startsWith("Less") ? "below" : "above"} ${number(threshold.value)}${threshold.state === "ALARM" ? ", rings" : ""}`));
    }
    queueMicrotask(() => drawOne(plot, times, chart));
    return box;
  }));
}

const number = (value) => (value === null || value === undefined ? "none" : Number(value).toLocaleString("en", { maximumFractionDigits: 3, notation: Math.abs(value) >= 1e6 ? "compact" : "standard" }));
const last = (values) => values.findLast((value) => value !== null);
const say = (chart) => chart.lines.map((line) => `${line.label} ${number(last(line.values))}`).join(", ");

function drawOne(plot, times, chart) {
  if (!globalThis.uPlot) {
    plot.replaceChildren(element("p", {}, say(chart)));
    return;
  }
  const most = Math.max(0, ...chart.lines.flatMap((line) => line.values.filter((value) => value !== null)));
  // A threshold far above what is measured would flatten the line: it is said below the chart all the same.
  const near = chart.thresholds.filter((threshold) => threshold.value <= most * 6 || threshold.state === "ALARM");
  const series = [{}, ...chart.lines.map((line, index) => ({ label: line.label, stroke: colour(COLOURS[index % COLOURS.length]), width: 2, points: { show: true, size: 4 }, value: (_, value) => number(value) })),
    ...near.map((threshold) => ({ label: threshold.label, stroke: colour("--bad"), dash: [6, 4], width: 1, points: { show: false }, value: (_, value) => number(value) }))];
  const data = [times, ...chart.lines.map((line) => line.values), ...near.map((threshold) => times.map(() => threshold.value))];
  const clock = (value) => new Date(value * 1000).toISOString().slice(11, 16);
  const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line") } };
  // eslint-disable-next-line no-new
  new globalThis.uPlot({ width: plot.clientWidth || 400, height: 190, series, axes: [{ ...axis, values: (_, values) => values.map(clock) }, { ...axis, size: 64, values: (_, values) => values.map(number) }], scales: { y: { range: (_, __, high) => [0, high > 0 ? high * 1.1 : 1] } }, legend: { live: false } }, data, plot);
}
