// The console page as an operator uses it: by clicks and by keys, in light and dark, on a desk and on a phone.
import assert from "node:assert/strict";
import { test } from "node:test";
import { browse, road, setRoad, tell, token, until } from "./world.mjs";

const EVERYTHING = { user: "operator", types: "*" };

/** Opens the page, and holds that it stays within its policy and its own origin. */
const openConsole = async (t, { shown = token(EVERYTHING), path = "/console", ...options } = {}) => {
  const context = await browse(t, { viewport: { width: 1280, height: 800 }, ...options });
  const page = await context.newPage();
  page.faults = [];
  page.on("console", (message) => message.type() === "error" && !/Failed to load resource|WebSocket connection/.test(message.text()) && page.faults.push(message.text()));
  page.on("pageerror", (error) => page.faults.push(error.message));
  page.on("request", (request) => new URL(request.url()).origin === road || page.faults.push(request.url()));
  page.setDefaultTimeout(60_000);
  await page.goto(road + path);
  const given = await shown;
  if (given) {
    await page.fill("#token", given);
    await page.click("#unlock button");
    await page.waitForSelector("#sagas:not([hidden])");
  }
  return page;
};

/** Waits until the page has a text somewhere. */
const reads = (page, selector, text) =>
  until(`${selector} to say ${text}`, async () => {
    const said = (await page.locator(selector).allInnerTexts()).join(" | ").replace(/\s+/g, " ");
    return said.includes(text) || said;
  });

const rightAllAlong = (page) => assert.deepEqual(page.faults, []);

/** Nothing sticks out to the side. */
const fits = async (page) => {
  const [wide, has] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert.ok(wide <= has, `${wide} of ${has}`);
};

/** Moments of a time line are written where there is room for them. */
const apart = async (page) => {
  const texts = await page.locator(".tick > span").evaluateAll((all) => all.map((it) => it.getBoundingClientRect()).map(({ left, right }) => [left, right]));
  const sorted = texts.sort(([a], [b]) => a - b);
  assert.ok(sorted.length > 3, `${sorted}`);
  for (const [index, [left]] of sorted.entries()) assert.ok(!index || left >= sorted[index - 1][1], `${sorted}`);
};

/** A saga that two services have worked on, and that one of them spoke out of turn about. */
const order = async (id, type = "create-order") => {
  await tell({ type, id, event: "OrderCreated", state: "APPROVAL_PENDING" });
  // Two services' events reach the log in any order, and the first to say a state is the saga's home.
  const bearer = { authorization: `Bearer ${await token(EVERYTHING)}` };
  await until(`${id} to be known`, async () => (await fetch(`${road}/v1/sagas/${type}/${id}`, { headers: bearer })).ok);
  await tell({ type, id, event: "TicketCreated", step: "create-ticket", status: "done", service: "kitchen" });
  await tell({ type, id, event: "OrderNoted", state: "NOTED", service: "kitchen" });
};

test("it asks for a token, says what is wrong with one, and forgets it", async (t) => {
  await order("o-1", "first");
  const page = await openConsole(t, { shown: null });
  const answer = await page.request.get(`${road}/console`);
  const policy = answer.headers()["content-security-policy"];
  for (const part of ["default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"]) assert.ok(policy.includes(part), policy);
  await page.fill("#token", "nonsense");
  await page.keyboard.press("Enter");
  await reads(page, "#token-error", "not good here");
  assert.equal(await page.isVisible("#sagas"), false);
  await page.fill("#token", await token(EVERYTHING));
  await page.keyboard.press("Enter");
  await reads(page, "#types", "first");
  const kept = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie, location.href]));
  assert.ok(!kept.includes("eyJ"), kept);
  await page.click("#lock");
  assert.equal(await page.isVisible("#sagas"), false);
  assert.equal(await page.textContent("#rows"), "");
  await page.reload();
  assert.ok(await page.isVisible("#unlock"));
  rightAllAlong(page);
});

test("an address may bring a token, which does not stay in it", async (t) => {
  await order("o-2", "second");
  const page = await openConsole(t, { shown: null, path: `/console#token=${await token(EVERYTHING)}` });
  await reads(page, "#types", "second");
  assert.equal(page.url(), `${road}/console`);
  rightAllAlong(page);
});

test("sagas by type and state, and one's time line, live", async (t) => {
  await order("o-3", "third");
  await tell({ type: "third", id: "o-4", state: "APPROVED", outcome: "completed" });
  const page = await openConsole(t);
  await reads(page, "#rows", "o-3");
  await reads(page, ".type[aria-label=third]", "APPROVAL_PENDING 1");
  await reads(page, ".type[aria-label=third]", "APPROVED 1");
  await page.click(".type[aria-label=third] .state:has-text('APPROVED')");
  await reads(page, "#list-name", "APPROVED");
  await reads(page, "#rows", "o-4");
  assert.equal(await page.locator(".row").count(), 1);
  await page.click("#picks .going");
  await reads(page, "#sources", "orders");
  await reads(page, "#sources", "kitchen");
  await reads(page, "#sources", "ago");

  await page.click(".row:has-text('o-3')");
  await reads(page, ".saga .head", "o-3");
  await reads(page, ".picture .line:has-text('State')", "APPROVAL_PENDING");
  await reads(page, ".picture .line:has-text('create-ticket')", "kitchen");
  await reads(page, ".picture .line:has-text('Anomalies')", "kitchen");
  assert.equal(await page.locator(".picture .alarm").count(), 1);
  await reads(page, ".saga .note", "foreign state");
  await reads(page, ".events tbody tr:nth-child(2)", "TicketCreated create-ticket done");
  assert.equal(await page.locator(".events tbody tr").count(), 3);

  for (let count = 0; count < 12; count++) await tell({ type: "third", id: "o-3", event: "OrderNoted" });
  await until("all notes to be shown", async () => (await page.locator(".events tbody tr").count()) === 15);
  await apart(page);

  await tell({ type: "third", id: "o-3", event: "OrderApproved", state: "APPROVED", outcome: "completed" });
  await reads(page, ".facts", "completed");
  await reads(page, ".events tbody tr:last-child", "OrderApproved");
  await reads(page, ".picture .line:has-text('State')", "APPROVED");
  await reads(page, ".type[aria-label=third]", "APPROVED 2");
  await until("the row to leave what is in progress", async () => !(await page.textContent("#rows")).includes("o-3"));
  await tell({ type: "third", id: "o-5", state: "APPROVAL_PENDING" });
  await reads(page, "#rows", "o-5");
  rightAllAlong(page);
});

test("a saga is found by its id, and keys are enough", async (t) => {
  for (const id of ["o-6", "o-7"]) await order(id, "fourth");
  const page = await openConsole(t);
  await reads(page, "#rows", "o-7");
  await page.keyboard.press("/");
  await page.keyboard.type("o-7");
  await page.keyboard.press("Enter");
  await reads(page, ".saga .head", "o-7");
  assert.equal(new URL(page.url()).hash, "#/fourth/o-7");
  await page.keyboard.press("Escape");
  await until("the saga to be closed", async () => (await page.locator(".saga .head").count()) === 0);
  await page.keyboard.press("/");
  await page.keyboard.type("nobody's");
  await page.keyboard.press("Enter");
  await reads(page, "#list-empty", "Nothing found");
  await page.keyboard.press("Escape");
  await page.click("#picks .going");
  await reads(page, "#rows", "o-6");
  await page.keyboard.press("j");
  await page.keyboard.press("j");
  await page.keyboard.press("k");
  const first = await page.evaluate(() => document.activeElement.querySelector(".id").firstChild.textContent);
  await page.keyboard.press("Enter");
  await reads(page, ".saga .head", first);
  await page.keyboard.press("?");
  assert.ok(await page.isVisible("#help"));
  await page.keyboard.press("Escape");
  assert.equal(await page.isVisible("#help"), false);
  await page.goBack();
  await until("the address to lead back", async () => (await page.locator(".saga .head").count()) === 0);
  rightAllAlong(page);
});

test("without a grant it shows the user's own saga, and nobody else's", async (t) => {
  await order("o-8", "fifth");
  await tell({ type: "fifth", id: "o-9", state: "SECRET", user: "somebody else" });
  const page = await openConsole(t, { shown: token({ user: "c-7" }) });
  await reads(page, "#list-empty", "no grant");
  const show = async (id) => {
    await page.fill(".single [name=saga_type]", "fifth");
    await page.fill(".single [name=saga_id]", id);
    await page.keyboard.press("Enter");
  };
  await show("o-8");
  await reads(page, ".facts", "APPROVAL_PENDING");
  await reads(page, ".picture", "create-ticket");
  await reads(page, ".saga .note", "need a grant");
  await show("o-9");
  await reads(page, ".saga .empty", "No such saga");
  assert.ok(!(await page.content()).includes("SECRET"));
  rightAllAlong(page);
});

test("a token that ends is asked for again", async (t) => {
  const page = await openConsole(t, { shown: token({ ...EVERYTHING, lasts: 6 }) });
  await reads(page, "#token-error", "expired");
  assert.equal(await page.isVisible("#sagas"), false);
  rightAllAlong(page);
});

test("a daemon that is away is said to be, and found again", async (t) => {
  await order("o-10", "sixth");
  const page = await openConsole(t);
  await page.click(".row:has-text('o-10')");
  await reads(page, ".facts", "APPROVAL_PENDING");
  await setRoad("cut");
  await reads(page, "body > .notice", "cannot be reached");
  await reads(page, ".facts", "connecting");
  await tell({ type: "sixth", id: "o-10", state: "APPROVED", outcome: "completed" });
  await setRoad("open");
  await reads(page, ".facts", "completed");
  await until("the notice to go", async () => !(await page.isVisible("body > .notice")));
  rightAllAlong(page);
});

for (const colorScheme of ["light", "dark"]) {
  test(`it fits a phone, and can be read in ${colorScheme}`, async (t) => {
    const id = `o-${"long-".repeat(12)}11`;
    await order(id, "seventh");
    const page = await openConsole(t, { viewport: { width: 390, height: 844 }, colorScheme, shown: null });
    const contrasts = async () => {
      const weak = await page.evaluate(weakTexts);
      assert.deepEqual(weak, []);
    };
    await fits(page);
    await contrasts();
    await page.fill("#token", await token(EVERYTHING));
    await page.click("#unlock button");
    await reads(page, "#rows", "11");
    await fits(page);
    await contrasts();
    await page.click("#list .back");
    await reads(page, "#types", "seventh");
    await fits(page);
    await contrasts();
    await page.click(".type[aria-label=seventh] .state");
    await page.click(`.row:has-text('${id}')`);
    await reads(page, ".events", "TicketCreated");
    await fits(page);
    await contrasts();
    await page.click(".saga .back");
    await reads(page, "#rows", "11");
    rightAllAlong(page);
  });
}

/** In the page: visible texts whose contrast to what is behind them is below 4.5 to 1. */
function weakTexts() {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const paint = (color, under) => {
    canvas.fillStyle = under;
    canvas.fillRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b] = canvas.getImageData(0, 0, 1, 1).data;
    return `rgb(${r} ${g} ${b})`;
  };
  const light = (color) => {
    const [r, g, b] = color.match(/\d+/g).map((part) => {
      const share = part / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    const under = element.parentElement ? behind(element.parentElement) : "rgb(255 255 255)";
    return paint(getComputedStyle(element).backgroundColor, under);
  };
  const weak = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !element.checkVisibility({ visibilityProperty: true })) continue;
    const ground = behind(element);
    const [a, b] = [light(paint(getComputedStyle(element).color, ground)), light(ground)].sort((a, b) => b - a);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) weak.push(`${element.className} ${walker.currentNode.textContent.trim().slice(0, 20)} ${ratio.toFixed(2)}`);
  }
  return weak;
}
