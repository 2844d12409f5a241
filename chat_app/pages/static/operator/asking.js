// What the tabs share: loading a view, doing an act, tables that become stacked rows on a phone.
import { html, useEffect, useRef, useState } from "../kit.js";
import { call } from "../call.js";
import { toast } from "../page.js";
import { Confirm } from "../parts.js";
import { number, percent, said, t, when } from "../words.js";

/** A view of the server: the result, what went wrong, and how to ask again. */
export function useView(name, ...data) {
  const [state, setState] = useState({ view: null, problem: "" });
  const ask = async () => {
    try {
      setState({ view: await call(name, ...data), problem: "" });
    } catch (error) {
      setState((before) => ({ ...before, problem: error.message }));
    }
  };
  useEffect(() => {
    ask();
  }, [name, JSON.stringify(data)]);
  return [state.view, state.problem, ask];
}

/** Ask again whenever `key` changes, such as the number of the last cycle. */
export function useAgain(ask, key) {
  const seen = useRef(key);
  useEffect(() => {
    if (seen.current !== undefined && seen.current !== key) ask();
    seen.current = key;
  }, [key]);
}

/** What stands in place of a view that is not there yet, or could not be read. */
export function Waiting({ problem, again }) {
  if (!problem) return html`<p class="quiet" role="status">${t("page.loading")}</p>`;
  return html`<div class="card stack" role="alert">
    <p class="bad" dir="auto">${problem}</p>
    <div><button type="button" class="button" onClick=${again}>${t("page.try_again")}</button></div>
  </div>`;
}

/** Do an act by the server's function; its sentence becomes a notice. True if it was done. */
export async function act(name, ...data) {
  try {
    toast(said(await call(name, ...data)));
    return true;
  } catch (error) {
    toast(error.message, { bad: true });
    return false;
  }
}

/** A button that does an act at once, or after a question. Disabled while it goes on. */
export function Act({ name, data = [], done, ask, className = "", disabled, children }) {
  const [busy, setBusy] = useState(false);
  const [asked, setAsked] = useState(false);
  const go = async () => {
    setAsked(false);
    setBusy(true);
    await act(name, ...data);
    setBusy(false);
    done?.();
  };
  return html`<button type="button" class=${`button ${className}`} disabled=${disabled || busy}
      onClick=${() => (ask ? setAsked(true) : go())}>
      ${busy ? t("operator.working") : children}
    </button>
    ${asked &&
    html`<${Confirm} title=${ask.title} yes=${ask.yes} no=${ask.no ?? t("page.cancel")} danger=${!!ask.danger}
        act=${go} close=${() => setAsked(false)}>
      ${ask.text.map((line) => html`<p key=${line}>${line}</p>`)}
    <//>`}`;
}

/**
 * A table; on a phone each row becomes a stack of named values. `columns` is a list of
 * `{id, name, cell, head}`: `cell` makes a row's content, `head` marks the row's own name.
 */
export function Table({ caption, columns, rows, keyOf = (row) => row.id }) {
  return html`<table class="table stacked">
    <caption class="sr">${caption}</caption>
    <thead>
      <tr>${columns.map(({ id, name }) => html`<th scope="col" key=${id}>${name}</th>`)}</tr>
    </thead>
    <tbody>
      ${rows.map(
        (row) => html`<tr key=${keyOf(row)}>
          ${columns.map(({ id, name, cell, head }) => {
            const shown = html`<span class="cell">${cell(row)}</span>`;
            const place = { key: id, "data-name": name, class: `of-${id}` };
            return head ? html`<th scope="row" ...${place}>${shown}</th>` : html`<td ...${place}>${shown}</td>`;
          })}
        </tr>`,
      )}
    </tbody>
  </table>`;
}

/** A text as it was recorded: in English, also where the page is in another language. */
export function Recorded({ children }) {
  return html`<span class="recorded" lang="en" dir="ltr">${children}</span>`;
}

export function Empty({ children }) {
  return html`<p class="empty">${children}</p>`;
}

/** A state as a mark: its word, with a sign beside the colour. */
const MARKS = {
  good: ["promoted", "published", "passed", "served", "better"],
  bad: ["rejected", "rolled back", "failed", "worse"],
};
const SIGNS = { good: "✓", bad: "✕", wait: "•" };

export function Mark({ state, word = t(`operator.state.${state}`) }) {
  const kind = MARKS.good.includes(state) ? "good" : MARKS.bad.includes(state) ? "bad" : "wait";
  return html`<span class=${`mark ${kind}`}><span aria-hidden="true">${SIGNS[kind]}</span> ${word}</span>`;
}

/** "Version 2", or the adapter's name if it was never served; the name follows for the operator. */
export function version(number_, adapter) {
  return number_ == null ? adapter : t("operator.version", { number: number_ });
}

export const share = (value) => (value == null ? "–" : percent(value));
export const amount = (value) => (value == null ? "–" : number(value, 2));
export const time = (iso) => (iso ? when(iso) : "–");

/** A number to three digits, however small or large. */
export const short = (value) =>
  value == null || !Number.isFinite(value)
    ? "–"
    : Math.abs(value) >= 100
      ? number(value)
      : number(Number(value.toPrecision(3)), 6);

/** Seconds in plain words. */
export function lasting(seconds) {
  if (seconds == null) return "–";
  if (seconds < 90) return t("operator.seconds", { count: Math.round(seconds) });
  if (seconds < 5400) return t("operator.minutes", { count: Math.round(seconds / 60) });
  return t("operator.hours", { count: number(seconds / 3600, 1) });
}

/** Bytes in plain words. */
export function size(bytes) {
  if (bytes == null) return "–";
  const units = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"];
  let step = 0;
  let value = bytes;
  while (value >= 1000 && step < units.length - 1) [value, step] = [value / 1000, step + 1];
  return number(value, value < 10 ? 1 : 0, { style: "unit", unit: units[step] });
}
