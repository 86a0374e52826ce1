// What the protocol's words mean, for those who have not read docs/protocol.md.

import { bytes } from "./format.js";

/** Why a connection ended. */
const REASONS = new Map([
  ["LOST", "the connection ended without a goodbye"],
  ["NO_REASON", "no reason was given"],
  ["MESSAGE_TOO_BIG", "it sent a message that is too big"],
  ["SERVER_RESTART", "the broker stops or restarts"],
  ["TRY_AGAIN_LATER", "there was no room"],
  ["UNKNOWN_ERROR", "a fault of the broker"],
  ["UNKNOWN_OP", "it sent an op that does not exist"],
  ["INVALID_PAYLOAD", "it sent what is no frame"],
  ["UNAUTHORIZED", "it did not identify itself first"],
  ["IDENTIFY_FAILED", "its credentials were refused"],
  ["ALREADY_IDENTIFIED", "it identified itself twice"],
  ["PING_TIMEOUT", "it fell silent"],
  ["SLOW_CONSUMER", "it did not read what was sent to it"],
  ["IDENTIFY_TIMEOUT", "it did not identify itself in time"],
  ["REPLACED", "another connection took its place"],
]);

/** Why a request failed. */
const CODES = new Map([
  ["NO_ROUTE", "nobody there"],
  ["PEER_GONE", "the callee went away before it answered"],
  ["EXPIRED", "no answer in time"],
  ["OVERLOADED", "every member had its hands full"],
  ["FORBIDDEN", "the caller may not do this"],
  ["RATE_LIMITED", "the caller sends too fast"],
  ["INVALID_INTENT", "the intent is wrong"],
  ["INVALID_FRAME", "the frame is wrong"],
  ["DRAINING", "the callee is being drained"],
  ["BACKPLANE_DOWN", "the other nodes are out of reach"],
  ["UNKNOWN_EVENT", "the callee does not know this event"],
  ["BAD_REQUEST", "the callee does not accept this data"],
  ["HANDLER_ERROR", "the callee failed"],
]);

/** Why the broker is not ready. */
const READINESS = new Map([
  ["draining", "draining: it takes no new connections, and ends when the work in hand is done"],
  ["starting", "starting"],
]);

/** @param {string} reason */
export function explainReason(reason) {
  return REASONS.get(reason) ?? "";
}

/** @param {string} code */
export function explainCode(code) {
  return CODES.get(code) ?? "";
}

/** @param {string} reason */
export function explainReadiness(reason) {
  return READINESS.get(reason) ?? reason;
}

/**
 * @param {string} slow the broker's word
 * @param {number} unread bytes
 * @returns {string} in what way a service is slow
 */
export function explainSlow(slow, unread) {
  if (slow === "unread") return `slow: ${bytes(unread)} unread`;
  if (slow === "expiring") return "slow: lets requests expire";
  return `slow: ${slow}`;
}
