// The broker's snapshots, one a second, and the news that there are none.

/** Seconds without a snapshot after which the broker counts as lost. */
const PATIENCE = 4;

/** Seconds after which a silent or refused connection is given up, and another one made. */
const RETRY = 5;

/**
 * @typedef {object} Listener
 * @property {(snapshot: object) => void} onSnapshot
 * @property {(since: number, refused: boolean) => void} onLost called every second while it lasts;
 *   `since` in seconds since 1970 by this machine's clock
 */

export class Feed {
  /**
   * @param {string} address
   * @param {Listener} listener
   */
  constructor(address, listener) {
    this.address = address;
    this.listener = listener;
    this.heard = Date.now() / 1000;
    this.tried = this.heard;
    this.refused = false;
    /** @type {EventSource | null} */
    this.source = null;
  }

  start() {
    this.connect();
    setInterval(() => this.check(), 1000);
    // The connection would keep the page from being kept for the way back, and outlive it.
    addEventListener("pagehide", () => this.source?.close());
    addEventListener("pageshow", (event) => event.persisted && this.connect());
  }

  connect() {
    this.source?.close();
    this.tried = Date.now() / 1000;
    const source = new EventSource(this.address);
    this.source = source;
    source.addEventListener("snapshot", (event) => this.take(event.data));
    source.addEventListener("error", () => {
      // An answer other than 200 is final for an EventSource: too many viewers, or a proxy's word.
      this.refused = source.readyState === EventSource.CLOSED;
      this.check();
    });
  }

  /** @param {string} data */
  take(data) {
    this.heard = Date.now() / 1000;
    this.refused = false;
    this.listener.onSnapshot(JSON.parse(data));
  }

  check() {
    const now = Date.now() / 1000;
    const broken = this.source?.readyState !== EventSource.OPEN;
    if (now - this.heard < PATIENCE && !broken) return;
    this.listener.onLost(this.heard, this.refused);
    // A connection whose other end vanished stays open and silent for ever: so this one is
    // replaced too. One that is being made gets the time to succeed.
    if (now - Math.max(this.heard, this.tried) >= RETRY) this.connect();
  }
}
