// The state of the environment, at the top of the first view, in the words of `./alva status`.

import { $, causeCard, commandFor, element, read, renderWhenChanged, since } from "./dom.js";

const SIGNS = { good: "✓", warning: "!", bad: "✗", busy: "…", asleep: "◑", empty: "○" };
const capitalised = (text) => text.charAt(0).toUpperCase() + text.slice(1);

export function showCondition(found) {
  const { level, summary } = found.condition;
  // This is set at each reading, because the header also shows when the environment cannot be read.
  $("state").className = `state ${level}`;
  $("state").textContent = `${SIGNS[level]} ${summary}`;
  renderWhenChanged("condition", [found.condition, found.release, found.url, found.lock, found.extra, Boolean(found.progress)], () => {
    $("condition").className = `condition ${level}`;
    $("condition").replaceChildren(
      element("span", { class: "sign", "aria-hidden": "true" }, SIGNS[level]),
      element("div", {},
        element("h1", { id: "h-overview" }, capitalised(summary)),
        found.condition.next_step ? element("p", {}, "Next: ", element("code", {}, commandFor(found.condition.next_step, found))) : null,
        element("p", { class: "quiet" }, ...releaseLine(found)),
        found.lock && !found.progress ? element("p", { class: "quiet" }, `Locked by ${found.lock}`) : null,
        element("ul", { class: "plain findings" }, found.condition.findings.map((each) => findingLine(each, found)))));
  });
  showCauses(found);
}

function releaseLine(found) {
  const release = found.release;
  const links = [found.url ? element("a", { href: found.url, rel: "noreferrer" }, found.url) : "",
    found.extra.inbox ? element("a", { href: found.extra.inbox, rel: "noreferrer" }, "inbox") : ""].filter(Boolean);
  return [
    ...(release ? [`Release ${release.number} ${found.outcome_in_words}, `, since(release.started_at), ` ago, commit ${release.commit.slice(0, 12)}, by ${release.by}`] : ["No release yet"]),
    ...links.flatMap((link) => [" · ", link]),
  ];
}

function findingLine(finding, found) {
  const view = viewOf(finding);
  return element("li", { class: `finding ${finding.level}` },
    element("span", { class: "sign", "aria-hidden": "true" }, SIGNS[finding.level]),
    element("div", {}, ...(found.condition.summary === `${finding.subject}: ${finding.text}` ? [] : [element("strong", {}, finding.subject), `: ${finding.text}`]),
      finding.next_step ? element("span", { class: "next" }, "Next: ",
        ...(finding.next_step === "./alva open" ? [] : [element("code", {}, commandFor(finding.next_step, found)), view ? " or " : ""]),
        view ? element("a", { href: view }, view === "#metrics" ? "its metric" : "show it here") : null) : null));
}

function viewOf(finding) {
  if (finding.subject.startsWith("alarm ")) return "#metrics";
  const why = /^\.\/alva why(?: --release (\d+))?/.exec(finding.next_step);
  return why ? (why[1] ? `#why/${why[1]}` : "#why") : "";
}

// The causes of the last release, if it failed. They are read once for each release.
let readFor = null;
async function showCauses(found) {
  const release = found.release;
  const failed = release && release.outcome !== "succeeded" && !found.lock;
  if (!failed) {
    readFor = null;
    $("last-causes").replaceChildren();
    return;
  }
  if (readFor === release.number) return;
  readFor = release.number;
  try {
    const { release: account } = await read(`/api/causes?release=${release.number}`);
    if (readFor !== release.number) return;
    const causes = account?.causes.length ? account.causes.map((cause) => causeCard(cause)) : [element("p", { class: "mono" }, release.cause)];
    $("last-causes").replaceChildren(element("h2", {}, `Why release ${release.number} ${wordsOf(release.outcome)}`), ...causes);
  } catch {
    readFor = null; // the next reading tries again
  }
}

const wordsOf = (outcome) => (outcome === "rolled back" ? "was rolled back" : outcome === "interrupted" ? "was interrupted" : outcome);
