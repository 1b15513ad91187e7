// Asks web, through the load balancer, which digest it runs: its answers say so in a header.
"use strict";

const place = document.getElementById("web-digest");

fetch("/health", { cache: "no-store" }).then(
  (answer) => {
    const isWeb = answer.headers.get("X-Alva-Service") === "web";
    const digest = answer.headers.get("X-Alva-Digest");
    if (isWeb && digest && digest !== "none") {
      const code = document.createElement("code");
      code.textContent = digest;
      place.replaceChildren(code);
    } else {
      place.textContent = isWeb ? "it does not say" : "web does not answer on this host";
    }
  },
  () => {
    place.textContent = "web does not answer";
  },
);
