// What went wrong lately: errors of requests, and connections that were ended. Newest first.

import { byId, element, reconcile, setAttributes, setName, setText } from "./dom.js";
import { age, clock, count, moment, visible } from "./format.js";
import { explainCode, explainReason } from "./words.js";

/**
 * @param {string | null} name
 * @param {string} otherwise
 * @param {string} [kind]
 */
function nameNode(name, otherwise, kind = "name") {
  const node = element("bdi", { class: name === null ? "quiet" : kind });
  if (name === null) setText(node, otherwise);
  else setName(node, name);
  return node;
}

/** An entry with a place for each part; what differs is filled in by `update…`. */
function newEntry() {
  return element(
    "li",
    {},
    element("time"),
    element(
      "div",
      { class: "what" },
      element(
        "p",
        { class: "line" },
        element("span", { class: "badge bad" }),
        element("span", { class: "times" }),
      ),
      element("p", { class: "who" }),
      element("p", { class: "message quiet" }),
    ),
  );
}

/**
 * @typedef {object} Parts
 * @property {number} time
 * @property {string} word
 * @property {string} explanation
 * @property {number} number of times
 * @property {string | null} message
 */

/**
 * @param {Element} entry
 * @param {Parts} parts
 * @param {number} now
 */
function updateEntry(entry, { time, word, explanation, number, message }, now) {
  const when = entry.querySelector("time");
  setText(when, clock(time, now));
  setAttributes(when, { datetime: new Date(time * 1000).toISOString(), title: moment(time) });
  const badge = entry.querySelector(".badge");
  setText(badge, word);
  setAttributes(badge, { title: explanation });
  setText(entry.querySelector(".times"), number > 1 ? `${count(number)} times` : "");
  const text = entry.querySelector(".message");
  setText(text, visible(message || explanation));
  setAttributes(text, { dir: "auto" });
}

/**
 * @param {Element} entry
 * @param {(Node | string)[]} parts
 */
function setWho(entry, parts) {
  const fresh = element("p", { class: "who" }, ...parts);
  const there = entry.querySelector(".who");
  if (!there.isEqualNode(fresh)) there.replaceWith(fresh);
}

/**
 * @param {any} error
 * @returns {(Node | string)[]}
 */
function whoFailed({ caller, callee, event }) {
  /** @type {(Node | string)[]} */
  const parts = [nameNode(caller, "somebody"), " → ", nameNode(callee, "nobody")];
  if (event) parts.push(" · ", nameNode(event, "", "event"));
  return parts;
}

/**
 * @param {any} ended
 * @returns {(Node | string)[]}
 */
function whoEnded({ time, group, name, since }) {
  if (group === null) return [nameNode(null, "not identified")];
  /** @type {(Node | string)[]} */
  const parts = [nameNode(group, "")];
  if (name) parts.push(" / ", nameNode(name, ""));
  if (since) parts.push(element("span", { class: "quiet" }, ` after ${age(time - since)}`));
  return parts;
}

/** One of the two lists. */
class List {
  /**
   * @param {string} id
   * @param {(item: any) => string} keyOf
   * @param {(item: any) => (Node | string)[]} whoOf
   * @param {(item: any) => {word: string, explanation: string}} wordsOf
   */
  constructor(id, keyOf, whoOf, wordsOf) {
    this.list = byId(id);
    this.empty = byId(`${id}-empty`);
    this.keyOf = keyOf;
    this.whoOf = whoOf;
    this.wordsOf = wordsOf;
  }

  /**
   * @param {any[]} items
   * @param {number} now
   */
  draw(items, now) {
    this.empty.hidden = items.length > 0;
    this.list.hidden = items.length === 0;
    reconcile(this.list, items, this.keyOf, newEntry, (node, item) => {
      setWho(node, this.whoOf(item));
      const { time, count: number, message } = item;
      updateEntry(node, { time, number, message, ...this.wordsOf(item) }, now);
    });
  }
}

export class Happenings {
  constructor() {
    this.errors = new List(
      "errors",
      ({ code, caller, callee }) => JSON.stringify([code, caller, callee]),
      whoFailed,
      ({ code }) => ({ word: code, explanation: explainCode(code) }),
    );
    this.ended = new List(
      "ended",
      ({ id, group, reason, time }) =>
        JSON.stringify(group === null ? [reason] : [id, reason, time]),
      whoEnded,
      ({ reason }) => ({ word: reason, explanation: explainReason(reason) }),
    );
  }

  /** @param {any} snapshot */
  draw({ errors, ended, time }) {
    this.errors.draw(errors, time);
    this.ended.draw(ended, time);
  }
}
