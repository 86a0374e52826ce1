// The services by group; a group can be folded open to its members.

import {
  byId,
  element,
  newRow,
  reconcile,
  setAttributes,
  setHead,
  setName,
  setText,
} from "./dom.js";
import { age, bytes, count, counted, isKnown, latency, moment, rate } from "./format.js";
import { explainSlow } from "./words.js";

const COLUMNS = [
  { label: "Group", text: true },
  { label: "Members", detail: true },
  { label: "In flight", hint: "Requests that were handed to it and are not answered yet" },
  { label: "Waiting", detail: true, hint: "Requests that wait until a member has a hand free" },
  { label: "Requests/s", hint: "Asked of it" },
  { label: "Errors/s", hint: "Requests asked of it that ended with an error" },
  { label: "p50", detail: true, hint: "Half of its answers took at most this long" },
  { label: "p99", hint: "All but one in a hundred of its answers took at most this long" },
  { label: "In/s", detail: true, hint: "Messages that its members sent to the broker" },
  { label: "Out/s", detail: true, hint: "Messages that the broker sent to its members" },
  { label: "Since", detail: true },
  { label: "State", text: true },
];

/** Groups from which on there is a field to filter them by. */
const MANY = 6;

/**
 * @typedef {object} Badge
 * @property {string} kind
 * @property {string} text
 */

/**
 * @typedef {object} Row
 * @property {string} key
 * @property {any} group
 * @property {any} [service] one of its members; none for the group's own row
 * @property {string} [note] in place of members that are not shown
 */

/**
 * @param {any} group
 * @returns {Badge[]}
 */
function groupBadges({ members, slow, draining }) {
  const badges = [];
  const of = (/** @type {number} */ some) => (members === 1 ? "" : ` ${some} of ${members}`);
  if (slow > 0) badges.push({ kind: "warn", text: `slow${of(slow)}` });
  if (draining > 0) badges.push({ kind: "note", text: `draining${of(draining)}` });
  return badges;
}

/**
 * @param {any} service
 * @returns {Badge[]}
 */
function serviceBadges({ slow, draining, outbox_bytes: unread }) {
  const badges = [];
  if (slow) badges.push({ kind: "warn", text: explainSlow(slow, unread) });
  if (draining) badges.push({ kind: "note", text: "draining" });
  return badges;
}

/**
 * A group of one shows what is wrong with its only member at once.
 *
 * @param {any} group
 * @returns {Badge[]}
 */
function badgesOf(group) {
  return group.members === 1 && group.services.length === 1
    ? serviceBadges(group.services[0])
    : groupBadges(group);
}

/**
 * @param {Element} cell
 * @param {Badge[]} badges
 */
function setBadges(cell, badges) {
  const shown = badges.length > 0 ? badges : [{ kind: "fine", text: "ok" }];
  reconcile(
    cell,
    shown,
    ({ kind }) => kind,
    ({ kind }) => element("span", { class: `badge ${kind}` }),
    (node, { text }) => setText(node, text),
  );
}

/**
 * @param {Element} cell
 * @param {number} since
 * @param {number} now by the broker's clock
 */
function setSince(cell, since, now) {
  setText(cell, age(now - since));
  setAttributes(cell, { title: isKnown(since) ? `since ${moment(since)}` : null });
}

/**
 * @param {Element} cell
 * @param {string} text
 * @param {boolean} bad
 */
function setFigure(cell, text, bad = false) {
  setText(cell, text);
  setAttributes(cell, { "data-bad": bad });
}

/** @param {any} service */
function inHand({ in_flight: inFlight, concurrency }) {
  return isKnown(concurrency) ? `${count(inFlight)} of ${count(concurrency)}` : count(inFlight);
}

export class Services {
  constructor() {
    /** Names of the groups that are folded open. */
    this.open = new Set();
    this.last = null;
    this.filter = /** @type {HTMLInputElement} */ (byId("filter"));
    this.table = byId("services-table");
    this.rows = byId("services-rows");
    this.foldAll = byId("fold-all");
    setHead(byId("services-head"), COLUMNS);
    this.filter.addEventListener("input", () => this.redraw());
    this.foldAll.addEventListener("click", () => this.toggleAll());
  }

  /** @param {any} snapshot */
  draw(snapshot) {
    this.last = snapshot;
    this.redraw();
  }

  redraw() {
    if (this.last === null) return;
    const { groups, groups_left_out: leftOut, totals, time } = this.last;
    const shown = this.chosen(groups);
    const empty = groups.length === 0 && leftOut === 0;
    byId("services-empty").hidden = !empty;
    this.table.hidden = shown.length === 0;
    byId("services-tools").hidden = groups.length === 0;
    this.filter.hidden = groups.length < MANY && this.filter.value === "";
    setText(byId("services-note"), empty ? "" : this.note(shown.length, groups.length, totals));
    this.noteLeftOut(leftOut);
    setText(this.foldAll, this.allOpen(shown) ? "Fold all" : "Unfold all");
    reconcile(
      this.rows,
      shown.flatMap((group) => this.rowsOf(group)),
      ({ key }) => key,
      (row) => this.newRow(row),
      (node, row) => this.updateRow(node, row, time),
    );
  }

  /** @param {any[]} groups */
  chosen(groups) {
    const wanted = this.filter.value.trim().toLowerCase();
    return groups.filter(({ group }) => group.toLowerCase().includes(wanted));
  }

  /**
   * @param {number} shown
   * @param {number} all
   * @param {any} totals
   */
  note(shown, all, totals) {
    const some =
      shown < all
        ? `${shown} of ${counted(all, "group")} shown, `
        : `${counted(totals.groups, "group")}, `;
    return some + counted(totals.identified, "service");
  }

  /** @param {number} leftOut */
  noteLeftOut(leftOut) {
    const node = byId("services-left-out");
    node.hidden = leftOut === 0;
    setText(node, `${counted(leftOut, "more group")} not shown here; /services has them all.`);
  }

  /** @param {any[]} groups */
  allOpen(groups) {
    return groups.length > 0 && groups.every(({ group }) => this.open.has(group));
  }

  toggleAll() {
    const groups = this.chosen(this.last?.groups ?? []);
    const close = this.allOpen(groups);
    for (const { group } of groups) {
      if (close) this.open.delete(group);
      else this.open.add(group);
    }
    this.redraw();
  }

  /** @param {string} group */
  toggle(group) {
    if (!this.open.delete(group)) this.open.add(group);
    this.redraw();
  }

  /**
   * @param {any} group
   * @returns {Row[]}
   */
  rowsOf(group) {
    /** @type {Row[]} */
    const rows = [{ key: `group ${group.group}`, group }];
    if (!this.open.has(group.group)) return rows;
    for (const service of group.services)
      rows.push({ key: `service ${service.id}`, group, service });
    const more = group.members - group.services.length;
    if (more > 0) {
      const note = `${counted(more, "more member")} ${more === 1 ? "is" : "are"} not shown`;
      rows.push({ key: `more ${group.group}`, group, note });
    }
    return rows;
  }

  /** @param {Row} row */
  newRow({ group, service, note }) {
    if (note !== undefined) {
      const cell = element("td", { role: "cell", colspan: COLUMNS.length, class: "text quiet" });
      return element("tr", { role: "row", class: "member more" }, cell);
    }
    const row = newRow(COLUMNS);
    row.className = service === undefined ? "group" : "member";
    row.cells[0].append(service === undefined ? this.newFold(group.group) : newMember(service));
    if (service !== undefined) {
      // A member has no members: its name has their place too.
      row.cells[1].remove();
      row.cells[0].colSpan = 2;
    }
    return row;
  }

  /** @param {string} group */
  newFold(group) {
    const name = element("span", { class: "name" });
    setName(name, group);
    const button = element("button", { type: "button", class: "fold" }, name);
    button.addEventListener("click", () => this.toggle(group));
    return button;
  }

  /**
   * @param {any} node
   * @param {Row} row
   * @param {number} now
   */
  updateRow(node, row, now) {
    if (row.note !== undefined) setText(node.cells[0], row.note);
    else if (row.service === undefined) this.updateGroup(node, row.group, now);
    else updateMember(node, row.service, now);
  }

  /**
   * @param {HTMLTableRowElement} row
   * @param {any} group
   * @param {number} now
   */
  updateGroup(row, group, now) {
    const [
      name,
      members,
      inFlight,
      waiting,
      requests,
      errors,
      p50,
      p99,
      read,
      written,
      since,
      state,
    ] = row.cells;
    const open = this.open.has(group.group);
    setAttributes(row, { "data-open": open });
    setAttributes(name.firstElementChild, { "aria-expanded": String(open) });
    setFigure(members, count(group.members));
    setFigure(inFlight, count(group.in_flight));
    setFigure(waiting, count(group.waiting));
    setFigure(requests, rate(group.requests));
    setFigure(errors, rate(group.errors), group.errors > 0);
    setFigure(p50, latency(group.latency.p50));
    setFigure(p99, latency(group.latency.p99));
    setFigure(read, rate(group.messages_in));
    setFigure(written, rate(group.messages_out));
    setSince(since, group.since, now);
    setBadges(state, badgesOf(group));
  }
}

/** @param {any} service */
function newMember({ id, name }) {
  const title = element("span", { class: "name" });
  setName(title, name ?? id);
  const node = element("div", { class: "who" }, title);
  if (name) node.append(element("span", { class: "id", title: id }, id.slice(0, 8)));
  return node;
}

/**
 * @param {HTMLTableRowElement} row
 * @param {any} service
 * @param {number} now
 */
function updateMember(row, service, now) {
  const [, inFlight, , , , , , read, written, since, state] = row.cells;
  setFigure(inFlight, inHand(service));
  setFigure(read, rate(service.messages_in));
  setFigure(written, rate(service.messages_out));
  setSince(since, service.since, now);
  setBadges(state, serviceBadges(service));
  setAttributes(state, { title: `${bytes(service.outbox_bytes)} unread` });
}
