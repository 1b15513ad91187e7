// The first view: the picture and what lives in it, a release as it happens, and tables for whoever prefers those.

import { $, ago, causeCard, command, element, problemCard, read, seconds, short } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";
let picture = null;
let environment = null;
let selected = null;
let drawnFor = null;

export async function startPicture() {
  if (picture) return;
  try {
    picture = await read("/api/picture");
  } catch (error) {
    $("picture").replaceChildren(problemCard(error));
    picture = null;
    return;
  }
  const svg = new DOMParser().parseFromString(picture.svg, "image/svg+xml").documentElement;
  svg.querySelector("style").remove();
  $("picture").replaceChildren(document.importNode(svg, true));
  for (const part of $("picture").querySelectorAll(".part")) {
    part.addEventListener("click", () => select(part.dataset.part));
    part.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      select(part.dataset.part);
    });
  }
  showCommands();
  if (selected) select(selected);
  if (environment) showEnvironment(environment);
}

export function showEnvironment(found) {
  environment = found;
  const release = found.release;
  // A release may have changed the templates.
  if (drawnFor !== null && release && drawnFor !== release.number) picture = null;
  drawnFor = release?.number ?? 0;
  if (!picture && !$("view-overview").hidden) startPicture();
  $("state").textContent = found.asleep ? "asleep" : found.progress ? "a release is running"
    : found.lock ? `locked by ${found.lock}`
    : release ? `release ${release.number} ${release.outcome}, ${ago(release.started_at)} ago` : "nothing is released";
  showProgress(found);
  for (const service of found.services) colour(service, found);
  colourOthers(found);
  showServices(found);
  showAlarms(found.alarms);
  $("stacks").replaceChildren(...found.stacks.map((stack) => {
    const good = stack.status.endsWith("_COMPLETE") && !stack.status.includes("ROLLBACK");
    return element("li", {}, `${stack.name} `, element("span", { class: good ? "good-text" : "bad-text" }, stack.status));
  }));
  if (selected) showDetails(selected);
}

// Released tasks are new while another digest is on its way out.
function tasksOf(service) {
  const primary = service.deployments.find((deployment) => deployment.status === "PRIMARY");
  return service.tasks.map((task) => {
    const target = service.targets.find((each) => each.address === task.address);
    let kind = primary && task.digest !== primary.digest ? "old" : "new";
    if (task.status !== "RUNNING") kind = "starting";
    else if (task.health === "UNHEALTHY" || target?.state === "unhealthy") kind = "unhealthy";
    else if (target?.state === "draining") kind = "draining";
    else if (target?.state === "initial" || task.health === "UNKNOWN") kind = "starting";
    return { ...task, kind, target };
  });
}

function stateOf(service) {
  const busy = service.deployments.some((each) => each.state === "IN_PROGRESS");
  const failing = service.deployments.some((each) => each.state === "FAILED" || (each.failed > 0 && each.state === "IN_PROGRESS"));
  if (failing || service.running < Math.min(1, service.desired)) return "bad";
  if (busy || service.running !== service.desired) return "busy";
  return service.desired === 0 ? "" : "good";
}

function part(name) {
  return $("picture").querySelector(`.part[data-part="${CSS.escape(name)}"]`);
}

function setState(name, state) {
  const group = part(name);
  if (group) for (const each of ["good", "busy", "bad"]) group.classList.toggle(each, each === state);
  return group;
}

function colour(service) {
  const group = setState(service.name, stateOf(service));
  if (!group) return;
  const tasks = tasksOf(service);
  group.querySelector(".tasks").replaceChildren(...tasks.slice(0, 10).map((task, index) => {
    const dot = document.createElementNS(SVG, "rect");
    for (const [name, value] of Object.entries({ x: index * 16, y: 0, width: 11, height: 11, rx: 3, class: `task ${task.kind}` })) dot.setAttribute(name, value);
    const title = document.createElementNS(SVG, "title");
    title.textContent = `task ${task.task.slice(0, 8)}: ${task.kind}, ${task.status}, image ${short(task.digest)}`;
    dot.append(title);
    return dot;
  }));
}

function colourOthers(found) {
  const alarmed = (words) => found.alarms.some((alarm) => words.some((word) => alarm.name.startsWith(word)));
  const balancerWorks = found.services.some((service) => service.targets.some((target) => target.state === "healthy"));
  setState("alb", alarmed(["alb-"]) || !balancerWorks ? "bad" : "good");
  setState("database", found.asleep ? "" : alarmed(["database-"]) ? "bad" : "good");
  setState("cache", alarmed(["redis-"]) ? "bad" : "good");
}

function select(name) {
  selected = name;
  for (const group of $("picture").querySelectorAll(".part")) group.classList.toggle("selected", group.dataset.part === name);
  for (const arrow of $("picture").querySelectorAll(".arrow")) arrow.classList.toggle("selected", arrow.dataset.source === name || arrow.dataset.target === name);
  showDetails(name);
}

function list(title, items) {
  return items.length ? [element("h3", {}, title), element("ul", {}, items.map((item) => element("li", {}, item)))] : [];
}

function showDetails(name) {
  const details = picture?.parts[name];
  if (!details) return;
  const service = environment?.services.find((each) => each.name === name);
  const reaches = picture.arrows.filter((arrow) => arrow.source === name).map((arrow) => `${arrow.target} on ${arrow.ports.join(", ")}`);
  const reachedBy = picture.arrows.filter((arrow) => arrow.target === name).map((arrow) => `${arrow.source} on ${arrow.ports.join(", ")}`);
  const release = environment?.release;
  const commit = service && release?.digests[name] === service.digest ? release.commit : "";
  $("details").replaceChildren(
    element("h2", {}, details.title),
    element("p", { class: "quiet" }, [details.note, details.size, details.ports.length ? `port ${details.ports.join(", ")}` : ""].filter(Boolean).join(" · ")),
    ...(service ? [
      element("p", {}, `Image ${short(service.digest) || "none"}`, commit ? `, commit ${commit.slice(0, 12)}` : ""),
      ...list("Tasks", tasksOf(service).map((task) => `${task.task.slice(0, 12)} ${task.kind}: ${task.status}, ${task.health.toLowerCase()}, ${task.address}, target ${task.target?.state ?? "none"}${task.target?.reason ? ` (${task.target.reason})` : ""}, up ${ago(task.started_at)}`)),
      ...list("Deployments", service.deployments.map((each) => `${each.status} ${each.task_definition}: ${each.running} of ${each.desired} run, ${each.failed} failed. ${each.reason}`)),
      ...list("Events of ECS", service.events.map((event) => `${ago(event.at)} ago: ${event.message}`)),
    ] : []),
    ...list("Reaches", reaches),
    ...list("Is reached by", reachedBy),
    ...details.groups.flatMap((group) => list(`Security group ${group.name}`, group.rules)),
    ...details.containers.flatMap((container) => [
      ...list(`Variables of ${container.name}`, container.environment),
      ...list(`Secrets of ${container.name} (names only)`, container.secrets),
    ]));
}

const SIGNS = { running: "…", done: "✓", failed: "✗", back: "↩" };
const WORDS = { running: "running", done: "done", failed: "failed", back: "rolling back" };

function showProgress(found) {
  const progress = found.progress;
  const box = $("progress");
  if (!progress) {
    const release = found.release;
    const failed = release && release.outcome !== "succeeded";
    box.replaceChildren(failed ? element("div", { class: "card bad" },
      element("p", {}, element("strong", {}, `Release ${release.number} ${release.outcome}`), `, commit ${release.commit.slice(0, 12)}, by ${release.by}`),
      element("p", { class: "mono" }, release.cause),
      element("p", {}, element("a", { href: `#why/${release.number}` }, "Cause, evidence and next step"))) : "");
    return;
  }
  const elapsed = (Date.now() - new Date(progress.started_at)) / 1000;
  box.replaceChildren(
    ...progress.causes.map(causeCard),
    element("div", { class: progress.is_going_back ? "card bad" : "card busy" },
      element("p", {}, element("strong", {}, progress.is_going_back ? "The release is rolling back" : "A release is running"), `: ${progress.what}, by ${progress.by}`),
      element("p", { class: "quiet" }, `${seconds(elapsed)} so far`, progress.expected_seconds ? `; the last release took ${seconds(progress.expected_seconds)}` : ""),
      element("ol", { class: "steps" }, progress.steps.map((step) => {
        const passed = step.seconds ?? (Date.now() - new Date(step.started_at)) / 1000;
        const share = step.state === "done" ? 1 : step.expected_seconds ? Math.min(0.97, passed / step.expected_seconds) : undefined;
        return element("li", {},
          element("span", { class: step.state === "failed" || step.state === "back" ? "bad-text" : step.state === "done" ? "good-text" : "busy-text", "aria-label": WORDS[step.state] }, SIGNS[step.state]),
          element("span", {}, step.title),
          element("progress", { max: 1, value: share, "aria-label": step.title }),
          element("span", { class: "quiet" }, passed >= 0.05 ? seconds(passed) : "", step.expected_seconds >= 0.05 ? ` of about ${seconds(step.expected_seconds)}` : ""),
          step.detail ? element("span", { class: "detail" }, step.detail) : null);
      }))));
}

function showServices(found) {
  $("services").tBodies[0].replaceChildren(...found.services.map((service) => {
    const state = stateOf(service);
    const class_ = state ? `${state}-text` : "";
    const counts = {};
    for (const target of service.targets) counts[target.state] = (counts[target.state] ?? 0) + 1;
    const deployments = service.deployments.filter((each) => each.state !== "COMPLETED");
    return element("tr", {},
      element("th", { scope: "row" }, service.name),
      element("td", { class: class_ }, `${service.running} of ${service.desired}`),
      element("td", {}, deployments.length ? deployments.map((each) => element("div", {}, `${each.status} ${each.state}: ${each.running} of ${each.desired}${each.failed ? `, ${each.failed} failed` : ""}${each.reason ? `. ${each.reason}` : ""}`)) : service.deployment),
      element("td", {}, Object.entries(counts).map(([name, count]) => `${count} ${name}`).join(", ") || "none"),
      element("td", { class: "mono" }, short(service.digest)),
      element("td", {}, ago(service.since)));
  }));
}

function showAlarms(alarms) {
  $("alarms").replaceChildren(...(alarms.length
    ? alarms.map((alarm) => element("li", {}, element("strong", { class: "bad-text" }, alarm.name), ` since ${ago(alarm.since)}: ${alarm.description}. `, element("span", { class: "quiet" }, alarm.reason)))
    : [element("li", { class: "good-text" }, "No alarm rings.")]));
}

function showCommands() {
  const target = picture.extra.target === "aws" ? " --target aws" : "";
  $("commands").replaceChildren(
    ...["status", "deploy", "rollback", "verify --deep", "why", "logs -f", "sleep"].map((verb) => command(`./alva ${verb}${target}`)),
    picture.extra.inbox ? element("p", {}, element("a", { href: picture.extra.inbox, rel: "noreferrer" }, "The inbox"), " holds every mail that the services sent in this local region.") : "");
}
