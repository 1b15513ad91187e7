// The month's bill of what is deployed.

import { $, command, element, problemCard, read } from "./dom.js";

export async function startCost() {
  try {
    const bill = await read("/api/cost");
    const dollars = (value) => value.toFixed(2);
    $("bill").replaceChildren(
      element("p", {}, element("strong", {}, `$${dollars(bill.usd)} a month`), ` at list prices of ${bill.prices_as_of}. Traffic, requests and log lines come on top.`),
      element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Items" }, element("table", {},
        element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "Part"), element("th", { scope: "col" }, "What"), element("th", { scope: "col" }, "USD"))),
        element("tbody", {}, bill.items.map((item) => element("tr", {}, element("th", { scope: "row" }, item.subject), element("td", {}, item.what), element("td", { class: "number" }, dollars(item.usd))))))),
      element("p", { class: "quiet" }, "Settings that cost less, and what each gives up:"), command("./alva cost"));
  } catch (error) {
    $("bill").replaceChildren(problemCard(error));
  }
}
