// Two blind replies, and the bar to choose between them: by a click, a key, or neither (Skip).
import { html, useLayoutEffect, useRef, useState } from "../kit.js";
import { Choices, chosenBy, useKeys, useVote } from "../judging.js";
import { Markdown } from "../markdown.js";
import { t } from "../words.js";

const LONG = { chars: 400, lines: 8 }; // of a reply that leaves no room for another one on a phone

/**
 * The two replies and the bar. On a phone long replies are shown one at a time, under two tabs.
 *
 * `choose(choice, seconds)` stores the choice; without consent it waits until the person agrees.
 * `skip` stores nothing. `focus` takes the keyboard there at once.
 */
export function Pair({ a, b, title, skipped, focus, actions, choose, skip }) {
  const [front, setFront] = useState("a"); // which of two long replies a phone shows
  const bar = useRef();
  const since = useRef(performance.now());
  const { vote, busy, asks } = useVote(actions.consented, async (choice, agree) => {
    if (agree) await actions.agree();
    await choose(choice, (performance.now() - since.current) / 1000);
    return true;
  });
  const ways = { choose: (choice) => busy || vote(choice), skip };
  useKeys(skipped ? null : (key) => chosenBy(key, ways), write);

  useLayoutEffect(() => {
    const at = document.activeElement;
    const writes = at.matches("input, textarea") && at.value; // who writes already goes on writing
    // The bar and not a button: an Enter pressed twice would vote.
    if (focus && !skipped && !writes) bar.current.focus({ preventScroll: true });
  }, [focus]);

  // A click on a reply picks it and does not vote yet: people click where they read.
  const pick = (label) => (event) => {
    if (event.target.closest("a, button") || getSelection().toString() || skipped) return;
    bar.current.querySelectorAll("button")["ab".indexOf(label)].focus();
  };
  const name = (label) => t("chat.reply_of", { label: label.toUpperCase() });
  const card = (label, text) => html`<div class=${`card ${front === label ? "front" : ""}`}
      key=${label} role="group" tabindex="0" aria-label=${name(label)} onClick=${pick(label)}>
    <h2>${label.toUpperCase()}</h2>
    <${Markdown} text=${text} />
  </div>`;
  return html`<section class="choosing" aria-label=${title}>
    ${(isLong(a) || isLong(b)) &&
    html`<div class="sides" role="group" aria-label=${title}>
      ${["a", "b"].map(
        (label) => html`<button type="button" key=${label} aria-pressed=${front === label}
            onClick=${() => setFront(label)}>${name(label)}</button>`,
      )}
    </div>`}
    <div class="pair">${card("a", a)}${card("b", b)}</div>
    ${!skipped &&
    html`<div class="vote-bar" ref=${bar} role="group" aria-label=${title} tabindex="-1">
      <h2>${title}</h2>
      <${Choices} ...${ways} busy=${busy} />
      ${asks}
    </div>`}
    ${skipped && html`<p class="quiet">${t("chat.skipped")}</p>`}
  </section>`;
}

const isLong = (text) => text.length > LONG.chars || text.split("\n").length > LONG.lines;

/** Which versions wrote the two replies: known once the choice is stored. */
export function madeBy({ a, b }) {
  const name = (made) => (typeof made === "number" ? t("page.version", { number: made }) : made);
  if (!a || !b) return "";
  return a === b ? t("chat.made_both", { a: name(a) }) : t("chat.made", { a: name(a), b: name(b) });
}

/** A letter that means nothing here begins a message: the box takes it, and all that follow. */
function write(key) {
  if (key.length === 1 && key !== " ") document.querySelector(".composer textarea")?.focus();
}
