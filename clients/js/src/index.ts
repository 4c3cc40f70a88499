// The client of outboxd: shows sagas as they are and as they change, without a gap and without a duplicate.
export { connect } from "./connect.js";
export type * from "./types.js";
