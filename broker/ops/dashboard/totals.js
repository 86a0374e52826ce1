// The cards at the top: the mesh as a whole, now and in the last minutes.

import { byId, element, reconcile, setAttributes, setText } from "./dom.js";
import { bytes, count, counted, isKnown, latency, percent, rate } from "./format.js";
import { KEPT, Series, Sparkline } from "./history.js";

/**
 * @typedef {object} Card
 * @property {string} key
 * @property {string} label
 * @property {string} [unit]
 * @property {string} [hint]
 * @property {(snapshot: any) => number | null} value
 * @property {(snapshot: any) => number | null} [upper] a second value, drawn as a second curve
 * @property {(value: number | null) => string} format
 * @property {(snapshot: any) => string} foot
 * @property {number} [top] the upper edge of the curve, where it has a natural one
 */

/** @type {Card[]} */
const CARDS = [
  {
    key: "messages_in",
    label: "Messages in",
    unit: "/s",
    value: ({ rates }) => rates.messages_in,
    format: rate,
    foot: ({ rates, totals }) => `${bytes(rates.bytes_in)}/s · ${count(totals.messages_in)} in all`,
  },
  {
    key: "messages_out",
    label: "Messages out",
    unit: "/s",
    value: ({ rates }) => rates.messages_out,
    format: rate,
    foot: ({ rates, totals }) =>
      `${bytes(rates.bytes_out)}/s · ${count(totals.messages_out)} in all`,
  },
  {
    key: "requests",
    label: "Requests",
    unit: "/s",
    value: ({ rates }) => rates.requests,
    format: rate,
    foot: ({ totals }) =>
      `${count(totals.requests_in_flight)} in flight · ${count(totals.waiting)} waiting`,
  },
  {
    key: "errors",
    label: "Errors",
    unit: "/s",
    value: ({ rates }) => rates.errors,
    format: rate,
    foot: ({ totals }) => `${count(totals.errors)} in all`,
  },
  {
    key: "connections",
    label: "Connections",
    value: ({ totals }) => totals.connections,
    format: count,
    foot: ({ totals }) =>
      `${count(totals.identified)} identified · ${counted(totals.groups, "group")}`,
  },
  {
    key: "busy",
    label: "Busy",
    hint: "The share of time in which the broker was at work. Near 100 % it is at its limit.",
    value: ({ rates }) => rates.busy,
    format: percent,
    top: 1,
    foot: () => "of what one core can do",
  },
  {
    key: "latency_requests",
    label: "Request latency, p50",
    hint: "From a request's arrival at the broker to its answer's",
    value: (snapshot) => snapshot.latency.requests.p50,
    upper: (snapshot) => snapshot.latency.requests.p99,
    format: latency,
    foot: (snapshot) => `p99 ${latency(snapshot.latency.requests.p99)}`,
  },
  {
    key: "latency_transit",
    label: "Transit, p50",
    hint: "A message's way through the broker, from being read to being written",
    value: (snapshot) => snapshot.latency.transit.p50,
    upper: (snapshot) => snapshot.latency.transit.p99,
    format: latency,
    foot: (snapshot) => `p99 ${latency(snapshot.latency.transit.p99)}`,
  },
];

/**
 * Counts that tell of trouble. Marked are those that are not zero now, or that have grown in the
 * minutes that the page remembers: what happened yesterday needs no alarm today.
 */
const COUNTS = [
  {
    key: "ended",
    label: "Ended connections",
    format: count,
    hint: "that did not say goodbye themselves",
  },
  {
    key: "evictions",
    label: "Evictions",
    format: count,
    hint: "receivers that were cut since they did not read",
    mark: "grown",
  },
  {
    key: "stalled_now",
    label: "Stalled now",
    format: count,
    hint: "senders that wait for a slow receiver",
    mark: "now",
  },
  { key: "stalls", label: "Stalls", format: count, hint: "since the broker's start" },
  {
    key: "outboxes_bytes",
    label: "Unread",
    format: bytes,
    hint: "what the broker holds for those who have not read it yet",
  },
  {
    key: "auth_failures",
    label: "Refused credentials",
    format: count,
    mark: "grown",
    hint: "since the broker's start",
  },
  {
    key: "faults",
    label: "Faults",
    format: count,
    hint: "mistakes of the broker itself; its log has more",
    mark: "grown",
  },
];

/** A card on the page. */
class CardView {
  /** @param {Card} card */
  constructor(card) {
    this.card = card;
    this.main = new Series();
    this.upper = card.upper ? new Series() : null;
    this.value = element("span", { class: "number" });
    this.unit = element("span", { class: "unit" }, card.unit ?? "");
    this.foot = element("p", { class: "foot" });
    this.peak = element("p", { class: "foot peak" });
    this.spark = new Sparkline();
    this.node = element(
      "article",
      { class: "card", "data-card": card.key },
      element("h3", { title: card.hint ?? null }, card.label),
      element("p", { class: "value" }, this.value, this.unit),
      this.foot,
      this.spark.node,
      this.peak,
    );
  }

  /** @param {any} snapshot */
  record(snapshot) {
    this.main.add(snapshot.time, this.card.value(snapshot));
    this.upper?.add(snapshot.time, this.card.upper?.(snapshot) ?? null);
  }

  /** @param {any} snapshot */
  draw(snapshot) {
    const { card } = this;
    const value = card.value(snapshot);
    setText(this.value, card.format(value));
    setText(this.unit, isKnown(value) ? (card.unit ?? "") : "");
    setText(this.foot, card.foot(snapshot));
    this.spark.draw(snapshot.time, this.main, this.upper, card.top ?? null);
    const peak = (this.upper ?? this.main).peak;
    setText(
      this.peak,
      peak === null ? "nothing measured" : `peak ${card.format(peak)} in ${KEPT / 60} min`,
    );
    setAttributes(this.node, { "data-bad": card.key === "errors" && (value ?? 0) > 0 });
  }
}

export class Totals {
  constructor() {
    this.cards = CARDS.map((card) => new CardView(card));
    byId("cards").append(...this.cards.map(({ node }) => node));
    this.counts = byId("counts");
    /** @type {Map<string, Series>} */
    this.counted = new Map(COUNTS.map(({ key }) => [key, new Series()]));
  }

  /**
   * Remember, also while nobody looks.
   *
   * @param {any} snapshot
   */
  record(snapshot) {
    for (const card of this.cards) card.record(snapshot);
    for (const [key, series] of this.counted) series.add(snapshot.time, snapshot.totals[key]);
  }

  /** @param {any} snapshot */
  draw(snapshot) {
    for (const card of this.cards) card.draw(snapshot);
    reconcile(
      this.counts,
      COUNTS,
      ({ key }) => key,
      ({ key, label, hint }) =>
        element("div", { title: hint, "data-count": key }, element("dt", {}, label), element("dd")),
      (node, { key, format, mark }) => {
        const value = snapshot.totals[key];
        const concern = { now: value, grown: this.counted.get(key).growth }[mark] ?? 0;
        setText(node.lastElementChild, format(value));
        setAttributes(node, { "data-bad": concern > 0 });
      },
    );
  }
}
