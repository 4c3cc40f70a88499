// The client for a script tag: `outboxd.connect(…)`.
import { connect } from "./connect.js";

Object.assign(globalThis, { outboxd: { connect } });
