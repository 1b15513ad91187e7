// Keeps the page of a plan in the making up to date from the api's server-sent events.
// Without scripts the page reloads itself instead (a <noscript> refresh in the template).
"use strict";

const place = document.getElementById("plan-progress");
const bar = document.getElementById("bar");
const step = document.getElementById("step");
const finished = new Set(["ready", "failed", "cancelled"]);

function show(progress) {
  bar.value = progress.progress;
  if (progress.step && step.textContent !== progress.step) step.textContent = progress.step; // a status region: said once per step
  document.title = `${progress.progress} % · Your plan is being made · Alva`;
  if (finished.has(progress.status)) location.reload();
}

// With the sign-in's cookie where the api has a host of its own, too.
const events = new EventSource(place.dataset.events, { withCredentials: true });
events.addEventListener("progress", (event) => show(JSON.parse(event.data)));
// The browser reconnects by itself after a dropped connection. A refusal (the sign-in ran out) closes the source
// for good: loading the page again renews the sign-in on the way.
events.addEventListener("error", () => {
  if (events.readyState === EventSource.CLOSED) setTimeout(() => location.reload(), 3000);
});

// A person who goes elsewhere just when the plan is ready gets there: a reload would take that page's place.
window.addEventListener("beforeunload", () => events.close());
