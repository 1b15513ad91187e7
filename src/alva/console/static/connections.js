// The allowed connections as a table: the arrows of the picture as text, for any number of services.

import { $, element, renderWhenChanged } from "./dom.js";

const MOST_NAMES = 10;

export function showConnections(picture) {
  renderWhenChanged("connections", picture.arrows, () => {
    const parts = Object.values(picture.parts);
    const others = (part, fits) => parts.filter((each) => each.kind === "service" && each.name !== part.name && fits(each)).map((each) => each.name);
    const rows = parts.map((part) => ({
      part,
      from: picture.arrows.filter((arrow) => arrow.target === part.name),
      to: picture.arrows.filter((arrow) => arrow.source === part.name),
    }));
    $("connections").tBodies[0].replaceChildren(...rows.map(({ part, from, to }) => element("tr", {},
      element("th", { scope: "row" }, part.title),
      element("td", {}, part.ports.join(", ")),
      element("td", {}, inWords(picture, part, others(part, () => true), from.map((arrow) => [arrow.source, []]))),
      element("td", {}, inWords(picture, part, others(part, (each) => each.ports.length), to.map((arrow) => [arrow.target, arrow.ports]))))));
  });
}

// Names with ports, in the order of the picture. Many services are given as a number, or by those that are missing.
function inWords(picture, part, all, reached) {
  if (!reached.length) return "nothing";
  const title = ([name, ports]) => `${picture.parts[name]?.title ?? name}${ports.length ? ` :${ports.join(", :")}` : ""}`;
  const services = reached.filter(([name]) => picture.parts[name]?.kind === "service");
  const rest = reached.filter((each) => !services.includes(each)).map(title);
  const named = new Set(services.map(([name]) => name));
  const missing = all.filter((name) => !named.has(name));
  const words = services.length <= MOST_NAMES ? services.map(title)
    : missing.length === 0 ? [`all ${services.length}${part.kind === "service" ? " other" : ""} services`]
      : missing.length <= MOST_NAMES ? [`${services.length} services (all but ${missing.join(", ")})`]
        : [`${services.length} services`];
  return [...words, ...rest].join(", ");
}
