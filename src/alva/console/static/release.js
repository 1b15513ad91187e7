// A running release: its steps, the causes when it rolls back, the events of ECS and the log lines.

import { $, causeCard, element, renderWhenChanged, seconds } from "./dom.js";
import { lineElement, lineOf } from "./logs.js";

const SIGNS = { running: "…", done: "✓", failed: "✗", "rolling back": "↩" };
const EVENTS = 6;

export function showProgress(found) {
  const progress = found.progress;
  const box = $("progress");
  followLog(progress);
  if (!progress) {
    renderWhenChanged("progress", null, () => box.replaceChildren());
    return;
  }
  const elapsed = (Date.now() - new Date(progress.started_at)) / 1000;
  const events = eventsSince(progress.started_at, found.services);
  renderWhenChanged("progress", [progress, events, Math.floor(elapsed)], () => box.replaceChildren(
    ...progress.causes.map(causeCard),
    element("div", { class: progress.is_rolling_back ? "card bad" : "card busy" },
      element("p", {}, element("strong", {}, progress.is_rolling_back ? "The release is rolling back" : "A release is running"), `: ${progress.what}, by ${progress.by}`),
      element("p", { class: "quiet" }, `${seconds(elapsed)} so far`, progress.expected_seconds ? `; the last release took ${seconds(progress.expected_seconds)}` : ""),
      element("ol", { class: "steps" }, progress.steps.map((step) => {
        const passed = step.seconds ?? (Date.now() - new Date(step.started_at)) / 1000;
        const share = step.state === "done" ? 1 : step.expected_seconds ? Math.min(0.97, passed / step.expected_seconds) : undefined;
        return element("li", {},
          element("span", { class: step.state === "failed" || step.state === "rolling back" ? "bad-text" : step.state === "done" ? "good-text" : "busy-text", "aria-label": step.state }, SIGNS[step.state]),
          element("span", {}, step.title),
          element("progress", { max: 1, value: share, class: step.state.replace(" ", "-"), "aria-label": step.title }),
          element("span", { class: "quiet" }, step.state === "running" && step.expected_seconds ? `${seconds(passed)} of about ${seconds(step.expected_seconds)}` : passed >= 0.05 ? seconds(passed) : ""),
          step.detail ? element("span", { class: "detail" }, step.detail) : null);
      })),
      events.length ? element("p", { class: "quiet" }, "Events of ECS, times in UTC:") : null,
      events.length ? element("ul", { class: "happened quiet", "aria-label": "Events of ECS" }, events.map((event) => element("li", {}, `${event.at.slice(11, 19)} ${event.message}`))) : null)));
}

// What ECS says about the services during the release: tasks that start, drain and fail. The newest events come first.
function eventsSince(start, services) {
  return services.flatMap((service) => service.events).filter((event) => new Date(event.at) >= new Date(start))
    .map((event) => ({ at: new Date(event.at).toISOString(), message: event.message }))
    .sort((a, b) => b.at.localeCompare(a.at)).slice(0, EVENTS);
}

const LINES = 200;
let source = null;
let followed = null;

// The lines of all services since the release began. They stay after its end, until another view is opened.
function followLog(progress) {
  if (!progress) {
    source?.close();
    source = null;
    followed = null;
    return;
  }
  if (followed === progress.started_at || $("view-overview").hidden) return;
  stopReleaseLog();
  followed = progress.started_at;
  const box = $("release-log").querySelector(".log");
  box.replaceChildren();
  $("release-log").hidden = false;
  const began = new Date(progress.started_at);
  const minutes = Math.ceil((Date.now() - began) / 60000) + 1;
  source = new EventSource(`/api/logs?minutes=${minutes}&follow=1`);
  source.addEventListener("lines", (event) => {
    const isAtEnd = box.scrollTop + box.clientHeight >= box.scrollHeight - 40;
    box.append(...JSON.parse(event.data).map(lineOf).filter((line) => new Date(line.time) >= began).map(lineElement));
    while (box.childElementCount > LINES) box.firstElementChild.remove();
    if (isAtEnd) box.scrollTop = box.scrollHeight;
  });
}

export function stopReleaseLog() {
  source?.close();
  source = null;
  followed = null;
}
