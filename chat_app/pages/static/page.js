// The frame of every page: brand, navigation, short notices, and a line for screen readers.
import { html, useEffect, useLayoutEffect, useRef, useState } from "./kit.js";
import { config, place } from "./config.js";
import { t } from "./words.js";

const shown = { toasts: [], count: 0, said: "", changed: () => {} };
const TOAST_MS = 8000;

/** Show a short notice; with `undo` it has a button for that. */
export function toast(text, { undo, bad = false } = {}) {
  const one = { id: (shown.count += 1), text, undo, bad };
  shown.toasts = [...shown.toasts.filter((other) => other.text !== text), one];
  shown.changed();
  setTimeout(() => drop(one.id), undo ? 2 * TOAST_MS : TOAST_MS);
}

/** Let screen readers say a text. */
export function speak(text) {
  shown.said = shown.said === text ? `${text}\u00a0` : text; // the same again is said again
  shown.changed();
}

/** Run something; what goes wrong becomes a notice. Returns its result, or undefined. */
export async function attempt(act) {
  try {
    return await act();
  } catch (error) {
    toast(error.message, { bad: true });
    return undefined;
  }
}

function drop(id) {
  shown.toasts = shown.toasts.filter((one) => one.id !== id);
  shown.changed();
}

const PAGES = ["chat", "compare", "votes", "progress"];
const PLACES = { chat: "/", compare: "/compare", votes: "/votes", progress: "/progress" };

/** The frame; `here` is the page's name, `bar` what stands beside the brand, if anything. */
export function Page({ here, bar, children }) {
  const links = useRef();
  useEffect(() => {
    const current = links.current.querySelector("[aria-current]"); // a phone does not show all links
    current?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }, []);
  return html`<a class="skip" href="#main">${t("page.skip")}</a>
    <header class="top">
      ${bar}
      <a class="brand" href=${place("/")}>
        <img src=${config.brand.logo} alt="" width="26" height="26" />
        <span dir="auto">${config.brand.name}</span>
      </a>
      <nav aria-label=${t("page.pages")} ref=${links}>
        ${PAGES.filter((page) => config.pages.includes(page)).map(
          (page) => html`<a href=${place(PLACES[page])} key=${page}
              aria-current=${page === here ? "page" : undefined}>${t(`page.${page}`)}</a>`,
        )}
      </nav>
      <${Language} />
    </header>
    ${children}
    <${Notices} />`;
}

/** The page's language: at first what the browser asks for; a choice is kept in a cookie. */
export function Language() {
  const change = (event) => {
    const kept = `path=${config.root || "/"}; max-age=31536000; samesite=lax`;
    document.cookie = `${config.language_cookie}=${event.target.value}; ${kept}`;
    location.reload();
  };
  if (config.languages.length < 2) return null;
  return html`<select class="language" aria-label=${t("page.language")} onChange=${change}>
    ${config.languages.map((code) => {
      const name = new Intl.DisplayNames([code], { type: "language" }).of(code);
      return html`<option value=${code} lang=${code} key=${code} selected=${code === config.lang}>
        ${name}</option>`;
    })}
  </select>`;
}

/** Notices, and the line for screen readers; a page with a frame of its own places them itself. */
export function Notices() {
  const [, redraw] = useState(0);
  const box = useRef();
  const newest = shown.toasts.at(-1)?.id;
  useEffect(() => {
    shown.changed = () => redraw((count) => count + 1);
  }, []);
  useLayoutEffect(() => { // shown anew, a popover is above whatever dialog is open
    if (box.current.matches(":popover-open")) box.current.hidePopover();
    if (newest) box.current.showPopover();
  }, [newest]);
  return html`<div class="sr" role="status" aria-live="polite">${shown.said}</div>
    <div class="toasts" popover="manual" ref=${box} role="log" aria-live="polite" aria-label=${t("page.notices")}>
      ${shown.toasts.map(
        ({ id, text, undo, bad }) => html`<div class=${`toast ${bad ? "bad" : ""}`} key=${id}>
          <span dir="auto">${text}</span>
          ${undo &&
          html`<button type="button" class="button small" onClick=${() => (drop(id), undo())}>
            ${t("page.undo")}
          </button>`}
          <button type="button" class="button small quiet icon" aria-label=${t("page.close")}
              onClick=${() => drop(id)}>×</button>
        </div>`,
      )}
    </div>`;
}
