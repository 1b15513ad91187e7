// What `./alva why` says: what is wrong now, and why a release failed.

import { $, causeCard, command, element, problemCard, read } from "./dom.js";

export async function startCauses(release) {
  try {
    const found = await read(`/api/causes${release ? `?release=${encodeURIComponent(release)}` : ""}`);
    $("causes").replaceChildren(
      ...(release ? [] : [element("h2", {}, "Now"), ...(found.now.length ? found.now.map(causeCard) : [element("p", { class: "good-text" }, "Nothing has failed in the last 15 minutes.")])]),
      ...(found.release ? [element("h2", {}, `Release ${found.release.release}`),
        element("p", {}, `It ended with exit code ${found.release.exit_code}: ${found.release.message}`), ...found.release.causes.map(causeCard)]
        : release ? [element("p", {}, `Nothing is kept about release ${release}: it did not fail, or AWS no longer has it.`)] : []),
      command(release ? `./alva why --release ${release}` : "./alva why"));
  } catch (error) {
    $("causes").replaceChildren(problemCard(error));
  }
}
