// The page: which view is shown, and the environment as it changes.

import { $, problemCard } from "./dom.js";
import { showEnvironment, startPicture } from "./overview.js";
import { startReleases } from "./releases.js";
import { startLogs, stopLogs } from "./logs.js";
import { startCharts, stopCharts } from "./charts.js";
import { startCauses } from "./causes.js";
import { startCost } from "./cost.js";

const views = {
  overview: { start: startPicture },
  releases: { start: startReleases },
  logs: { start: startLogs, stop: stopLogs },
  metrics: { start: startCharts, stop: stopCharts },
  why: { start: startCauses },
  cost: { start: startCost },
};
let current;
let environment = null;

function show() {
  const [name, rest] = location.hash.slice(1).split("/");
  const wanted = views[name] ? name : "overview";
  if (current !== wanted) views[current]?.stop?.();
  for (const view of Object.keys(views)) $(`view-${view}`).hidden = view !== wanted;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${wanted}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const isNew = current !== wanted;
  current = wanted;
  views[wanted].start(rest);
  if (isNew && name) $("main").focus({ preventScroll: true });
}

function follow() {
  const events = new EventSource("/api/events");
  events.addEventListener("environment", (event) => {
    $("problem").hidden = true;
    environment = JSON.parse(event.data);
    document.title = `${environment.environment}: Alva`;
    $("environment").textContent = environment.environment;
    showEnvironment(environment);
  });
  events.addEventListener("problem", (event) => {
    $("problem").replaceChildren(problemCard(JSON.parse(event.data)));
    $("problem").hidden = false;
    $("state").textContent = "cannot look";
  });
  events.addEventListener("error", () => {
    $("state").textContent = "The console has ended: run ./alva open again.";
    if (events.readyState === EventSource.CLOSED) setTimeout(follow, 2000);
  });
}

// Elapsed times go on between two events.
setInterval(() => { if (environment && current === "overview") showEnvironment(environment); }, 1000);
addEventListener("hashchange", show);
show();
follow();
