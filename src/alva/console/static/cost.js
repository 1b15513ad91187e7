// The monthly cost of what is deployed, and the saving of each setting, as in `./alva cost`.

import { $, command, element, problemCard, read } from "./dom.js";

export async function start() {
  try {
    const bill = await read("/api/cost");
    const dollars = (value) => value.toFixed(2);
    $("bill").replaceChildren(
      element("p", {}, element("strong", {}, `$${dollars(bill.usd)} a month`), ` at list prices of ${bill.prices_as_of}. Traffic, requests and log lines cost extra.`),
      element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Items" }, element("table", {},
        element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "Part"), element("th", { scope: "col" }, "What"), element("th", { scope: "col", class: "number" }, "USD"))),
        element("tbody", {}, bill.items.map((item) => element("tr", {}, element("th", { scope: "row" }, item.subject), element("td", {}, item.what), element("td", { class: "number" }, dollars(item.usd))))))),
      command("./alva cost"));
  } catch (error) {
    $("bill").replaceChildren(problemCard(error));
  }
  if ($("savings").childElementCount) return;
  $("savings").replaceChildren(element("h2", {}, "What each setting would save"), element("p", { class: "quiet" }, "Synthesising this checkout with each setting. This takes some seconds."));
  try {
    const { savings } = await read("/api/savings");
    $("savings").replaceChildren(element("h2", {}, "What each setting would save"),
      element("p", { class: "quiet" }, "Computed from the templates of this checkout, in USD a month."),
      element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Savings" }, element("table", {},
        element("thead", {}, element("tr", {}, ["Setting", "Drawback", "Saves", "Cost then"].map((name, index) => element("th", { scope: "col", class: index > 1 ? "number" : "" }, name)))),
        element("tbody", {}, savings.map((saving) => element("tr", {}, element("th", { scope: "row" }, saving.name), element("td", {}, saving.price),
          element("td", { class: "number" }, saving.saves_usd.toFixed(2)), element("td", { class: "number" }, saving.usd.toFixed(2))))))));
  } catch (error) {
    $("savings").replaceChildren(problemCard(error));
  }
}
