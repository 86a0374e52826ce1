// The page's entry: what the broker tells goes to the views; that it tells nothing, to the banner.

import { Calls } from "./calls.js";
import { byId, setAttributes, setText } from "./dom.js";
import { Feed } from "./feed.js";
import { age, clock } from "./format.js";
import { Happenings } from "./happenings.js";
import { Services } from "./services.js";
import { Totals } from "./totals.js";
import { explainReadiness } from "./words.js";

/** Seconds for which the page tells that all is well again. */
const GOOD_NEWS = 10;

class Dashboard {
  constructor() {
    this.totals = new Totals();
    this.views = [this.totals, new Services(), new Calls(), new Happenings()];
    this.banner = byId("banner");
    this.state = byId("state");
    /** @type {any} */
    this.snapshot = null;
    this.lost = false;
    /** Until when, in seconds since 1970, and what. */
    this.news = { until: 0, text: "" };
  }

  start() {
    document.addEventListener("visibilitychange", () => this.draw());
    new Feed("events", {
      onSnapshot: (snapshot) => this.onSnapshot(snapshot),
      onLost: (since, refused) => this.onLost(since, refused),
    }).start();
  }

  /** @param {any} snapshot */
  onSnapshot(snapshot) {
    const before = this.snapshot;
    this.snapshot = snapshot;
    if (this.lost) this.tellOfReturn(before, snapshot);
    this.lost = false;
    this.totals.record(snapshot);
    this.draw();
  }

  /**
   * @param {any} before the last snapshot before the connection was lost
   * @param {any} snapshot
   */
  tellOfReturn(before, snapshot) {
    const restarted = before !== null && before.started !== snapshot.started;
    const what = restarted ? `, which was restarted at ${clock(snapshot.started)}` : "";
    this.news = {
      until: Date.now() / 1000 + GOOD_NEWS,
      text: `Connected to the broker again${what}.`,
    };
  }

  draw() {
    if (this.snapshot === null || this.lost) return;
    // The title can be seen in the row of tabs too. The rest is drawn when somebody looks.
    this.drawState(this.snapshot);
    if (document.hidden) return;
    for (const view of this.views) view.draw(this.snapshot);
  }

  /** @param {any} snapshot */
  drawState({ version, time, started, ready, reasons, metrics }) {
    document.documentElement.toggleAttribute("data-lost", false);
    setText(byId("about"), `${version} · up ${age(time - started)}`);
    const draining = reasons.includes("draining");
    if (ready) this.setState("live", "Live");
    else this.setState("unready", draining ? "Draining" : "Not ready");
    if (!ready)
      this.setBanner(
        "warn",
        `Not ready: ${reasons.map(explainReadiness).join("; ") || "no reason given"}.`,
      );
    else if (this.news.until > Date.now() / 1000) this.setBanner("good", this.news.text);
    else if (!metrics)
      this.setBanner("note", "Rates and latencies are not measured: ops.metrics is off.");
    else this.setBanner("", "");
  }

  /**
   * @param {number} since
   * @param {boolean} refused
   */
  onLost(since, refused) {
    this.lost = true;
    const full = refused ? " It answers, but with an error: there may be too many viewers." : "";
    if (this.snapshot === null) {
      this.setState("lost", "No connection");
      this.setBanner("bad", `No connection to the broker yet.${full} Trying again by itself.`);
      return;
    }
    document.documentElement.toggleAttribute("data-lost", true);
    this.setState("lost", "Connection lost");
    this.setBanner(
      "bad",
      `No connection to the broker since ${clock(since)}.${full} ` +
        "The numbers are of then. Trying again by itself.",
    );
  }

  /**
   * @param {string} state
   * @param {string} text
   */
  setState(state, text) {
    setAttributes(this.state, { "data-state": state });
    setText(this.state, text);
    document.title = state === "live" ? "Switchboard" : `${text} – Switchboard`;
  }

  /**
   * It is announced to those who can't see it; so it changes only when there is something new.
   *
   * @param {string} kind
   * @param {string} text
   */
  setBanner(kind, text) {
    setAttributes(this.banner, { "data-kind": kind });
    setText(this.banner, text);
  }
}

/** How to connect a service, for a mesh that has none. */
function fillExamples() {
  const host = location.hostname;
  setText(
    byId("example-service"),
    [
      "from services.sdk import Service",
      "",
      'greeter = Service("greeter")',
      "",
      '@greeter.on("GREET")',
      "async def greet(name: str) -> str:",
      '    return f"Hello, {name}!"',
      "",
      `greeter.run("ws://${host}:8420", token="…")`,
    ].join("\n"),
  );
  const bare = host.replace(/^\[|\]$/g, "");
  setText(
    byId("example-plain"),
    `nc ${bare} 8420\n{"op": 1, "data": {"token": "…", "group": "greeter"}}`,
  );
}

fillExamples();
new Dashboard().start();
