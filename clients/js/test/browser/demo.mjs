// The demo's page, by clicks: orders are placed, a card is refused, and the console opens on what became of them.
import assert from "node:assert/strict";
import { test } from "node:test";
import { browse, until } from "./world.mjs";

test("orders come to their end before one's eyes, and the console opens on them", async (t) => {
  const context = await browse(t);
  const page = await context.newPage();
  const faults = [];
  page.on("console", (message) => message.type() === "error" && faults.push(message.text()));
  page.on("pageerror", (error) => faults.push(error.message));
  await page.goto(process.env.OUTBOXD_DEMO);

  const placed = async (style) => {
    const before = await page.locator("#orders article").count();
    await page.check(`input[value=${style}]`);
    await page.click("#order button");
    await until("the order to be there", async () => (await page.locator("#orders article").count()) > before);
    return page.locator("#orders article").first();
  };
  const ends = (order, state) =>
    until(`an order to be ${state}`, async () => {
      const seen = await order.locator(".pill").textContent();
      return seen === state || seen;
    });

  for (const style of ["choreography", "orchestration"]) {
    const order = await placed(style);
    await ends(order, "APPROVED");
    assert.ok((await order.locator(".log li").count()) > 2, await order.innerText());
  }
  await page.check("input[name=card-refused]");
  const refused = await placed("orchestration");
  await ends(refused, "REJECTED");
  assert.match(await refused.locator(".steps").innerText(), /authorize-card: failed/);
  assert.match(await refused.locator(".steps").innerText(), /create-ticket: compensated/);
  await page.uncheck("input[name=card-refused]");

  const [seen] = await Promise.all([context.waitForEvent("page"), page.click("#console")]);
  await until("the console to count them", async () => {
    const types = (await seen.locator("#types").innerText()).replace(/\s+/g, " ");
    return (/orchestrated.*REJECTED/.test(types) && /choreographed.*APPROVED/.test(types)) || types;
  });
  assert.ok(!seen.url().includes("token"), seen.url());
  assert.deepEqual(faults, []);
});
