// What `./alva why` shows: current failures, and why a release failed.

import { $, causeCard, command, element, problemCard, read } from "./dom.js";

export async function start(release) {
  try {
    const found = await read(`/api/causes${release ? `?release=${encodeURIComponent(release)}` : ""}`);
    // As in `./alva why`, a release does not repeat the causes of current failures.
    const known = new Set(found.now.map((cause) => `${cause.subject}: ${cause.cause}`));
    const others = (found.release?.causes ?? []).filter((cause) => !known.has(`${cause.subject}: ${cause.cause}`));
    $("causes").replaceChildren(
      ...(release ? [] : [element("h2", {}, "Now"), ...(found.now.length ? found.now.map(causeCard) : [element("p", { class: "good-text" }, "Nothing has failed in the last 15 minutes")])]),
      ...(found.release ? [element("h2", {}, `Release ${found.release.release}`),
        element("p", {}, `${found.release.message} (exit code ${found.release.exit_code})`), ...(others.length ? others.map(causeCard) : [element("p", { class: "quiet" }, "Its causes are listed above.")])]
        : release ? [element("p", {}, `No causes are stored for release ${release}: it did not fail, or it failed before they were stored`)] : []),
      command(release ? `./alva why --release ${release}` : "./alva why"));
  } catch (error) {
    $("causes").replaceChildren(problemCard(error));
  }
}
