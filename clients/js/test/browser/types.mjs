// Whole types, over each way, with the client in Node: what an operator's page does.
import assert from "node:assert/strict";
import { test } from "node:test";
import { connect } from "../../dist/index.js";
import { road, tell, token, until } from "./world.mjs";

const ways = ["a WebSocket", "events", "polling"];
// Node 20 has a WebSocket only when it is told to.
const first = typeof WebSocket === "undefined" ? 1 : 0;

for (const [way, name] of ways.entries()) {
  test(`all sagas of a type over ${name}`, { skip: way < first }, async (t) => {
    const kept = globalThis.WebSocket;
    if (way > 0) globalThis.WebSocket = undefined;
    globalThis.sessionStorage = { getItem: () => `${way}`, setItem() {} };
    const type = `type-${way}`;
    const client = connect({ url: road, token: () => token({ user: "ops", types: type }) });
    t.after(() => {
      client.close();
      globalThis.WebSocket = kept;
    });
    for (const id of ["a", "b"]) await tell({ type, id, state: "BEGUN" });
    const sagas = new Map();
    const note = (...told) => sagas.set(told.at(-1).saga_id, told.at(-1).state);
    let status;
    client.watch(type, null, { onSnapshot: note, onChange: note, onStatus: (it) => (status = it) });
    const states = () => Object.fromEntries(sagas);
    await until("all to be there", () => (status === "live" && sagas.get("a") === "BEGUN" && sagas.get("b") === "BEGUN") || states());
    await tell({ type, id: "b", state: "ENDED", outcome: "completed" });
    await tell({ type, id: "c", state: "BEGUN" });
    await until("what happened", () => (sagas.get("b") === "ENDED" && sagas.get("c") === "BEGUN") || states());
    const one = client.watch(type, "b");
    for await (const saga of one) {
      assert.equal(saga.outcome, "completed");
      break;
    }
    let refusal;
    client.watch("another type", null, { onStatus: (_, error) => (refusal = error?.code) });
    await until("the other type to be refused", () => refusal === "forbidden");
    await tell({ type, id: "c", state: "ON" });
    await until("the first to go on", () => sagas.get("c") === "ON" || states());
  });
}
