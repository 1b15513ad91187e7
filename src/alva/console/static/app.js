// Selects the view and follows the environment.

import { $, problemLines, tick } from "./dom.js";
import * as overview from "./overview.js";
import { showProgress } from "./release.js";

// The module of each view exports `start`, and `stop` where something runs. The others are loaded when they are selected.
const files = { overview: "overview", releases: "releases", logs: "logs", metrics: "charts", why: "causes", cost: "cost" };
const modules = { overview };
let current;
let environment = null;

function show() {
  const [name, rest] = location.hash.slice(1).split("/");
  const wanted = files[name] ? name : "overview";
  if (current !== wanted) modules[current]?.stop?.();
  for (const view of Object.keys(files)) $(`view-${view}`).hidden = view !== wanted;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${wanted}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const isNew = current !== wanted;
  current = wanted;
  start(wanted, rest);
  if (isNew && name) $("main").focus({ preventScroll: true });
}

async function start(view, rest) {
  modules[view] ??= await import(`./${files[view]}.js`);
  if (current === view && !document.hidden) modules[view].start(rest);
}

function showFound(found) {
  environment = found;
  document.title = `${environment.environment}: Alva`;
  $("environment").textContent = environment.environment;
  overview.showEnvironment(environment);
}

let events = null;

function follow() {
  events?.close();
  events = new EventSource("/api/events");
  events.addEventListener("environment", (event) => {
    $("problem").hidden = true;
    $("main").classList.remove("stale", "unread");
    showFound(JSON.parse(event.data));
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
    modules[current]?.stop?.();
  } else {
    follow();
    start(current, location.hash.split("/")[1]);
  }
});

// Elapsed times advance between two events.
setInterval(() => {
  tick();
  if (environment && current === "overview") showProgress(environment);
}, 1000);
addEventListener("hashchange", show);
// What the server already knew when it sent the page.
const known = JSON.parse($("first-view").textContent);
overview.usePicture(known.picture);
show();
if (known.environment) showFound(known.environment);
// After the first frame.
requestAnimationFrame(() => setTimeout(follow));
