// Runs what docs/from-your-language.md shows, and then falls into each of its traps.
import pg from "pg";
import { approve } from "./outbox.mjs";

const pool = new pg.Pool({ connectionString: process.env.DATABASE });

async function transaction(work) {
  const client = await pool.connect();
  try {
    await client.query("begin");
    const done = await work(client);
    await client.query("commit");
    return done;
  } catch (error) {
    await client.query("rollback");
    throw error;
  } finally {
    client.release();
  }
}

console.log("event", await transaction((client) => approve(client, "o-42", 1250)));

async function trap(name, insert, values) {
  try {
    await transaction((client) => client.query(insert, values));
    console.log("trap", name, "none");
  } catch (error) {
    console.log("trap", name, error.code, error.constraint);
  }
}

const row = "insert into outbox.event (topic, event_type, payload) values ('orders', 'Trap', $1)";
await trap("array", row, [[{ total: 1250 }]]);
await trap("undefined", row.replace("payload", "event_id"), [undefined]);
await trap("returning", `${row} returning *`, ["{}"]);
await trap("right", row, [undefined]);
try {
  await transaction(async (client) => {
    await client.query("update orders set state = 'APPROVED' where id = 'o-43'");
    await pool.query("insert into outbox.event (topic, event_type) values ('orders', 'Orphan')");
    throw new Error("rolled back");
  });
} catch {
  // The test finds the event all the same.
}
await pool.end();
