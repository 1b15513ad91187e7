// The first view: the state of the environment, the picture, a running release, and tables of the same values.

import { showCondition } from "./condition.js";
import { showConnections } from "./connections.js";
import { $, command, commandFor, element, problemCard, read, renderWhenChanged, short, since } from "./dom.js";
import { showProgress, stopReleaseLog } from "./release.js";

const SVG = "http://www.w3.org/2000/svg";
const STOPPING = ["DEACTIVATING", "STOPPING", "DEPROVISIONING"];
let picture = null;
let environment = null;
let selected = null;
let drawnFor = null;
let isStale = true;
let isReading = false;
let drawings = 0;

export async function start() {
  if (isIncomplete()) {
    if (!picture) $("picture").replaceChildren(element("p", { class: "quiet reading" }, "The picture appears when every stack is deployed."));
    return;
  }
  if (!isStale || isReading) return;
  isReading = true;
  try {
    picture = await read("/api/picture");
    isStale = false;
  } catch (error) {
    if (!picture && !isIncomplete()) $("picture").replaceChildren(problemCard(error));
    return;
  } finally {
    isReading = false;
  }
  renderWhenChanged("picture", picture, drawPicture);
  if (selected) select(selected);
  if (environment) colourAll(environment);
}

export const stop = stopReleaseLog;

// The picture that came with the page. `showEnvironment` reads it again after a release.
export function usePicture(found) {
  if (!found) return;
  picture = found;
  isStale = false;
  renderWhenChanged("picture", picture, drawPicture);
}

const isIncomplete = () => environment?.stacks.some((stack) => stack.status === "does not exist");

function drawPicture() {
  drawings += 1;
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
  showConnections(picture);
  $("connections-section").hidden = false;
}

export function showEnvironment(found) {
  environment = found;
  // A release can change the templates or create missing stacks.
  const made = JSON.stringify([found.release?.number, found.stacks.map((stack) => stack.name)]);
  if (drawnFor !== null && drawnFor !== made) isStale = true;
  drawnFor = made;
  if (!$("view-overview").hidden) start();
  showCondition(found);
  showProgress(found);
  renderWhenChanged("commands", found.extra, () => showCommands(found));
  colourAll(found);
  renderWhenChanged("services", [found.services, found.condition.findings], () => showServices(found));
  renderWhenChanged("alarms", found.alarms, () => showAlarms(found.alarms));
  renderWhenChanged("drifts", found.drifts, () => showDrifts(found.drifts));
  renderWhenChanged("stacks", found.stacks, () => showStacks(found.stacks));
  if (selected) showDetails(selected);
}

function showStacks(stacks) {
  $("stacks").replaceChildren(...stacks.map((stack) => {
    const good = stack.status.endsWith("_COMPLETE") && !stack.status.includes("ROLLBACK");
    const missing = stack.status === "does not exist";
    return element("li", {}, `${stack.name} `, element("span", { class: good ? "good-text" : missing ? "quiet" : "bad-text" }, stack.status));
  }));
}

function showDrifts(drifts) {
  $("drifts").replaceChildren(...(drifts.length ? [element("h2", {}, "Changed outside CloudFormation"), element("ul", { class: "plain" }, drifts.map((drift) => element("li", { class: "warning-text" }, drift)))] : []));
}

function colourAll(found) {
  renderWhenChanged("colours", [drawings, found.services, found.condition.findings, Boolean(found.asleep)], () => {
    for (const service of found.services) colour(service, found);
    colourOthers(found);
  });
}

// A new target is unhealthy until its first checks pass. This is no failure while no task of its deployment has failed.
const isNew = (service, task) => service.deployments.some((each) => each.status === "PRIMARY" && each.state === "IN_PROGRESS" && !each.failed && each.digest === task.digest);

// A task is old when its image is not that of the primary deployment.
function tasksOf(service) {
  const primary = service.deployments.find((deployment) => deployment.status === "PRIMARY");
  return service.tasks.map((task) => {
    const target = service.targets.find((each) => each.address === task.address);
    let kind = primary && task.digest !== primary.digest ? "old" : "new";
    if (STOPPING.includes(task.status)) kind = "draining";
    else if (task.status !== "RUNNING") kind = "starting";
    else if (task.health === "UNHEALTHY" || target?.state === "unhealthy") kind = isNew(service, task) ? "starting" : "unhealthy";
    else if (target?.state === "draining") kind = "draining";
    else if (target?.state === "initial" || task.health === "UNKNOWN") kind = "starting";
    return { ...task, kind, target };
  });
}

// The level of the most urgent finding about a part. Findings are sorted by urgency.
const levelOf = (name, found) => found.condition.findings.find((finding) => finding.part === name)?.level;

function stateOf(service, found) {
  const level = levelOf(service.name, found);
  const isBusy = service.deployments.some((each) => each.state === "IN_PROGRESS");
  if (isBusy && level !== "bad") return "busy";
  return level ?? (service.desired === 0 ? "" : "good");
}

function part(name) {
  return $("picture").querySelector(`.part[data-part="${CSS.escape(name)}"]`);
}

function setState(name, state) {
  const group = part(name);
  if (group) for (const each of ["good", "busy", "warning", "bad"]) group.classList.toggle(each, each === state);
  return group;
}

function colour(service, found) {
  const group = setState(service.name, stateOf(service, found));
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
  const hasHealthyTarget = found.services.some((service) => service.targets.some((target) => target.state === "healthy"));
  setState("alb", found.asleep ? "" : levelOf("alb", found) ?? (hasHealthyTarget ? "good" : "bad"));
  setState("database", found.asleep ? "" : levelOf("database", found) ?? "good");
  setState("cache", levelOf("cache", found) ?? "good");
}

function select(name) {
  selected = name;
  for (const group of $("picture").querySelectorAll(".part")) group.classList.toggle("selected", group.dataset.part === name);
  for (const arrow of $("picture").querySelectorAll(".arrow")) arrow.classList.toggle("selected", arrow.dataset.source === name || arrow.dataset.target === name);
  $("selected").textContent = `Details of ${name} are shown beside the picture.`;
  showDetails(name);
  if ($("picture").querySelector("svg.many")) $("details").scrollIntoView({ block: "nearest" }); // it is below the picture
}

function list(title, items) {
  return items.length ? [element("h3", {}, title), element("ul", {}, items.map((item) => element("li", {}, item)))] : [];
}

function showDetails(name) {
  const details = picture?.parts[name];
  if (!details) return;
  const service = environment?.services.find((each) => each.name === name);
  const release = environment?.release;
  renderWhenChanged("details", [name, details, picture.arrows, service, release?.number], () => {
    const reaches = picture.arrows.filter((arrow) => arrow.source === name).map((arrow) => `${arrow.target} on ${arrow.ports.join(", ")}`);
    const reachedBy = picture.arrows.filter((arrow) => arrow.target === name).map((arrow) => `${arrow.source} on ${arrow.ports.join(", ")}`);
    const commit = service && release?.digests[name] === service.digest ? release.commit : "";
    $("details").replaceChildren(
      element("h2", {}, details.title),
      element("p", { class: "quiet" }, [details.note, details.size, details.ports.length ? `port ${details.ports.join(", ")}` : ""].filter(Boolean).join(" · ")),
      ...(service ? [
        element("p", {}, `Image ${short(service.digest) || "none"}`, commit ? `, commit ${commit.slice(0, 12)}` : ""),
        ...list("Tasks", tasksOf(service).map((task) => [`${task.task.slice(0, 12)} ${task.kind}: ${task.status}, ${task.health.toLowerCase()}, ${task.address}, target ${task.target?.state ?? "none"}${task.target?.reason ? ` (${task.target.reason})` : ""}, up `, since(task.started_at)])),
        ...list("Deployments", service.deployments.map((each) => `${each.status} ${each.task_definition}: ${each.running} of ${each.desired} run, ${each.failed} failed. ${each.reason}`)),
        ...list("Events of ECS", service.events.map((event) => [since(event.at), ` ago: ${event.message}`])),
      ] : []),
      ...list("Reaches", reaches),
      ...list("Is reached by", reachedBy),
      ...details.groups.flatMap((group) => list(`Security group ${group.name}`, group.rules)),
      ...details.containers.flatMap((container) => [
        ...list(`Variables of ${container.name}`, container.environment),
        ...list(`Secrets of ${container.name} (names only)`, container.secrets),
      ]));
  });
}

function showServices(found) {
  $("services").tBodies[0].replaceChildren(...found.services.map((service) => {
    const state = stateOf(service, found);
    const class_ = state ? `${state}-text` : "";
    const counts = {};
    for (const target of service.targets) counts[target.state] = (counts[target.state] ?? 0) + 1;
    const deployments = service.deployments.filter((each) => each.state !== "COMPLETED");
    return element("tr", {},
      element("th", { scope: "row" }, service.name),
      element("td", { class: class_ }, `${service.running} of ${service.desired}`),
      element("td", {}, deployments.length ? deployments.map((each) => element("div", {}, `${each.status} ${each.state}: ${each.running} of ${each.desired}${each.failed ? `, ${each.failed} failed` : ""}${each.state === "FAILED" ? `. ${each.reason}` : ""}`)) : service.deployment),
      element("td", {}, Object.entries(counts).map(([name, count]) => `${count} ${name}`).join(", ") || "none"),
      element("td", { class: "mono" }, short(service.digest)),
      element("td", {}, since(service.since)));
  }));
}

function showAlarms(alarms) {
  $("alarms").replaceChildren(...(alarms.length
    ? alarms.map((alarm) => element("li", {}, element("strong", { class: "bad-text" }, alarm.name), " since ", since(alarm.since), `: ${alarm.description}. `, element("span", { class: "quiet" }, alarm.reason)))
    : [element("li", { class: "good-text" }, "No alarm is in the state ALARM.")]));
}

function showCommands(found) {
  $("commands").replaceChildren(
    ...["status", "deploy", "rollback", "verify --deep", "why", "logs -f", "sleep"].map((verb) => command(commandFor(`./alva ${verb}`, found))));
}
