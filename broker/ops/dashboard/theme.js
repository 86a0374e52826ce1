// The colours: the system's, until somebody chooses others. A plain script that runs before the
// page is painted, so that a dark page does not flash white.

(() => {
  "use strict";

  const KEY = "switchboard-theme";
  const CHOICES = ["system", "light", "dark"];

  /** @returns {string} what was chosen before; storage may be forbidden. */
  function remembered() {
    try {
      const choice = localStorage.getItem(KEY);
      return CHOICES.includes(choice) ? choice : "system";
    } catch {
      return "system";
    }
  }

  /** @param {string} choice */
  function remember(choice) {
    try {
      localStorage.setItem(KEY, choice);
    } catch {
      // It holds until the page is closed.
    }
  }

  /** @param {string} choice */
  function apply(choice) {
    document.documentElement.dataset.theme = choice;
  }

  /**
   * @param {HTMLElement} button
   * @param {string} choice
   */
  function label(button, choice) {
    button.textContent = `Colours: ${choice}`;
  }

  let choice = remembered();
  apply(choice);

  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    label(button, choice);
    button.hidden = false;
    button.addEventListener("click", () => {
      choice = CHOICES[(CHOICES.indexOf(choice) + 1) % CHOICES.length];
      apply(choice);
      remember(choice);
      label(button, choice);
    });
  });
})();
