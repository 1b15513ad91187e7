// Selects the view and follows the environment.

import { $, problemLines, tick } from "./dom.js";
import { showEnvironment, startPicture } from "./overview.js";
import { showProgress, stopReleaseLog } from "./release.js";
import { startReleases } from "./releases.js";
import { startLogs, stopLogs } from "./logs.js";
import { startCharts, stopCharts } from "./charts.js";
import { startCauses } from "./causes.js";
import { startCost } from "./cost.js";

const views = {
  overview: { start: startPicture, stop: stopReleaseLog },
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

let events = null;

function follow() {
  events?.close();
  events = new EventSource("/api/events");
  events.addEventListener("environment", (event) => {
    $("problem").hidden = true;
    $("main").classList.remove("stale", "unread");
    environment = JSON.parse(event.data);
    document.title = `${environment.environment}: Alva`;
    $("environment").textContent = environment.environment;
    showEnvironment(environment);
  });
  events.addEventListener("problem", (event) => {
    $("problem").replaceChildren(...problemLines(JSON.parse(event.data)));
    $("problem").hidden = false;
    $("main").classList.add(environment ? "stale" : "unread");
    $("state").className = "state bad";
    $("state").textContent = environment ? "✗ This page is out of date" : "✗ Cannot read the environment";
  });
  events.addEventListener("error", () => {
    $("state").className = "state bad";
    $("state").textContent = "✗ The console has ended. Run ./alva open again.";
    $("main").classList.toggle("stale", environment !== null);
    if (events.readyState === EventSource.CLOSED) setTimeout(follow, 2000);
  });
}

// A browser opens six connections to one host, and each open page holds one or two: a hidden page closes its own.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    events?.close();
    views[current].stop?.();
  } else {
    follow();
    views[current].start(location.hash.split("/")[1]);
  }
});

// Elapsed times advance between two events.
setInterval(() => {
  tick();
  if (environment && current === "overview") showProgress(environment);
}, 1000);
addEventListener("hashchange", show);
show();
follow();
