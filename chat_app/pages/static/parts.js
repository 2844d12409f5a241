// Small accessible parts, and a phrase, that several pages use.
import { html, useLayoutEffect, useRef } from "./kit.js";
import { t } from "./words.js";

/** A dialog over the page; closing it (Escape, the backdrop) calls `close`. */
export function Dialog({ title, close, children }) {
  const dialog = useRef();
  useLayoutEffect(() => {
    const [from, box] = [document.activeElement, dialog.current];
    box.showModal();
    return () => {
      box.close(); // while it is open, nothing else takes the focus
      if (from?.isConnected) from.focus();
    };
  }, []);
  const outside = (event) => event.target === dialog.current && close();
  return html`<dialog ref=${dialog} class="dialog" aria-labelledby="dialog-title"
      onCancel=${(event) => (event.preventDefault(), close())} onClick=${outside}>
    <div class="stack">
      <h2 id="dialog-title">${title}</h2>
      ${children}
    </div>
  </dialog>`;
}

/**
 * A question before something that cannot be taken back. With `typed` the person has to type that
 * word first.
 */
export function Confirm({ title, yes, no = t("page.cancel"), danger = true, act, close, children }) {
  return html`<${Dialog} title=${title} close=${close}>
    ${children}
    <div class="row end">
      <button type="button" class="button" onClick=${close}>${no}</button>
      <button type="button" class=${`button primary ${danger ? "danger" : ""}`} onClick=${act}>
        ${yes}
      </button>
    </div>
  <//>`;
}

/** Tabs: `tabs` is a list of `{id, name}`; arrow keys move, as people expect of tabs. */
export function Tabs({ tabs, chosen, choose, label }) {
  const list = useRef();
  const move = (event) => {
    const at = tabs.findIndex((tab) => tab.id === chosen);
    const rtl = document.dir === "rtl" ? -1 : 1;
    const step = { ArrowRight: rtl, ArrowLeft: -rtl, Home: -at, End: tabs.length - 1 - at };
    if (!(event.key in step)) return;
    event.preventDefault();
    const next = tabs[(at + step[event.key] + tabs.length) % tabs.length];
    choose(next.id);
    list.current.querySelector(`#tab-${next.id}`).focus();
  };
  return html`<div class="tabs" role="tablist" aria-label=${label} ref=${list} onKeyDown=${move}>
    ${tabs.map(
      ({ id, name }) => html`<button type="button" role="tab" class="tab" id=${`tab-${id}`}
          key=${id} aria-selected=${id === chosen} aria-controls=${`panel-${id}`}
          tabindex=${id === chosen ? 0 : -1} onClick=${() => choose(id)}>
        ${name}
      </button>`,
    )}
  </div>`;
}

/** How much of something is there, with its text. */
export function Meter({ value, most, label }) {
  const share = most > 0 ? Math.min(1, value / most) : 0;
  return html`<div class="meter" role="meter" aria-label=${label} aria-valuemin="0"
      aria-valuemax=${most} aria-valuenow=${Math.min(value, most)}>
    <i style=${{ inlineSize: `${100 * share}%` }}></i>
  </div>`;
}

/** Put a text on the clipboard; over plain HTTP only the older way is there. */
export async function copied(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const box = document.createElement("textarea");
  box.value = text;
  document.body.append(box);
  box.select();
  document.execCommand("copy");
  box.remove();
  return undefined;
}

/** The key of a shortcut: a Latin letter or a digit, also where the keyboard writes another script. */
export function shortcut({ key, code }) {
  const place = /^(?:Key|Digit)(.)$/.exec(code);
  return (place && !/^[!-~]$/.test(key) ? place[1] : key).toLowerCase();
}

/** A choice that is on or off, such as a reason for a thumb. */
export function Chip({ on, toggle, children }) {
  return html`<button type="button" class="chip" aria-pressed=${on} onClick=${toggle}>
    ${children}
  </button>`;
}

/** Who votes, in words: "8 people and 6 programs". */
export function voters(people, programs) {
  const [who, what] = [t("page.people", { n: people }), t("page.programs", { n: programs })];
  if (people > 0 && programs > 0) return t("page.people_and_programs", { people: who, programs: what });
  return programs > 0 ? what : who;
}
