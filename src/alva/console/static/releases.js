// Past releases as a time line, and a comparison of two of them.

import { $, ago, element, problemCard, read, seconds, short } from "./dom.js";

const chosen = new Set();

export async function start() {
  let releases;
  try {
    ({ releases } = await read("/api/releases"));
  } catch (error) {
    $("timeline").replaceChildren(problemCard(error));
    return;
  }
  $("timeline").replaceChildren(...releases.map((release, index) => {
    const box = element("input", { type: "checkbox", "aria-label": `Compare release ${release.number}`, value: release.number });
    box.checked = chosen.has(release.number);
    box.addEventListener("change", () => {
      if (box.checked) chosen.add(release.number);
      else chosen.delete(release.number);
      compare(releases);
    });
    const previous = releases.slice(index + 1).find((each) => each.outcome === "succeeded");
    const changed = Object.keys(release.digests).filter((name) => previous && previous.digests[name] !== release.digests[name]);
    const total = Object.values(release.step_seconds).reduce((sum, value) => sum + value, 0) || 1;
    return element("li", { class: release.outcome === "succeeded" ? "" : "bad" }, box, element("div", {},
      element("p", {}, element("strong", {}, `Release ${release.number} ${release.outcome_in_words}`),
        release.rollback_of ? `, rollback to release ${release.rollback_of}` : "", ` · commit ${release.commit.slice(0, 12)} · by ${release.by} · ${ago(release.started_at)} ago · ${seconds(release.seconds)}`,
        ...(/^https:/.test(release.run) ? [" · ", element("a", { href: release.run, rel: "noreferrer" }, "run")] : [])),
      element("p", { class: "quiet" }, changed.length ? `Changed: ${changed.map((name) => `${name} ${short(release.digests[name])}`).join(", ")}` : previous ? "No image changed" : "The first release"),
      release.cause ? element("p", { class: "bad-text" }, release.cause, " ", element("a", { href: `#why/${release.number}` }, "Why")) : null,
      element("details", {}, element("summary", {}, "Steps and images"), element("ul", {},
        Object.entries(release.step_seconds).map(([name, value]) => element("li", {}, `${name}: ${seconds(value)}`)),
        Object.entries(release.digests).map(([name, digest]) => element("li", {}, `image ${name}: `, element("code", {}, short(digest)))))),
      element("div", { class: "bars", role: "img", "aria-label": `Steps: ${Object.entries(release.step_seconds).map(([name, value]) => `${name} ${seconds(value)}`).join(", ")}` },
        Object.entries(release.step_seconds).map(([name, value]) => element("i", { title: `${name}: ${seconds(value)}`, style: `width:${(100 * value) / total}%` }, value >= total / 12 ? `${name} ${seconds(value)}` : "")))));
  }));
  compare(releases);
}

function compare(releases) {
  const [newer, older] = releases.filter((release) => chosen.has(release.number));
  if (!older || chosen.size !== 2) {
    $("comparison").replaceChildren(chosen.size > 2 ? element("p", { class: "quiet" }, "Select only two releases.") : "");
    return;
  }
  const names = [...new Set([...Object.keys(older.digests), ...Object.keys(newer.digests)])];
  const steps = [...new Set([...Object.keys(older.step_seconds), ...Object.keys(newer.step_seconds)])];
  const row = (title, before, after) => element("tr", {}, element("th", { scope: "row" }, title),
    element("td", { class: before === after ? "" : "diff-removed" }, before || "—"), element("td", { class: before === after ? "" : "diff-added" }, after || "—"));
  $("comparison").replaceChildren(element("h2", {}, `Release ${older.number} and release ${newer.number}`),
    element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Comparison" }, element("table", {},
      element("thead", {}, element("tr", {}, element("td", {}), element("th", { scope: "col" }, `${older.number}`), element("th", { scope: "col" }, `${newer.number}`))),
      element("tbody", {},
        row("outcome", older.outcome, newer.outcome), row("commit", older.commit, newer.commit), row("by", older.by, newer.by),
        row("started", older.started_at, newer.started_at), row("schema revision", older.revision ?? "", newer.revision ?? ""),
        names.map((name) => row(`image ${name}`, short(older.digests[name]), short(newer.digests[name]))),
        row("duration", seconds(older.seconds), seconds(newer.seconds)),
        steps.map((step) => row(step, seconds(older.step_seconds[step]), seconds(newer.step_seconds[step])))))));
}
