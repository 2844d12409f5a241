// The question, how many replies to it, and who else may write some; or a question that is offered.
import { html, useLayoutEffect, useRef, useState } from "../kit.js";
import { config } from "../config.js";
import { t } from "../words.js";
import { named } from "./cards.js";

/** What this browser remembers of the page. */
export function kept(name, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(`compare.${name}`)) ?? otherwise;
  } catch {
    return otherwise;
  }
}
export function keep(name, value) {
  try {
    localStorage.setItem(`compare.${name}`, JSON.stringify(value));
  } catch {
    // a browser that keeps nothing forgets it
  }
}

export function Ask({ view, ideas, ask, suggest }) {
  const [text, setText] = useState(() => kept("draft", ""));
  const [n, setN] = useState(() => Math.min(kept("n", 2), view.most));
  const [opponent, setOpponent] = useState(() => kept("opponent", ""));
  const box = useRef();
  const most = config.message_chars;
  const over = [...text].length - most;

  useLayoutEffect(() => {
    if (matchMedia("(pointer: fine)").matches) box.current.focus();
  }, []);

  const write = (event) => {
    setText(event.target.value);
    keep("draft", event.target.value);
  };
  const choose = (name, set) => (value) => {
    set(value);
    keep(name, value);
  };
  const send = (event) => {
    event.preventDefault();
    if (text.trim() && over <= 0) ask(text);
  };
  const enter = (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) send(event);
  };
  const numbers = Array.from({ length: view.most - 1 }, (_, at) => at + 2);
  return html`<p class="quiet lead">${t("compare.lead")}</p>
    <form class="card stack" onSubmit=${send}>
      <label class="field">${t("compare.question")}
        <textarea rows="3" dir="auto" ref=${box} value=${text} placeholder=${t("compare.placeholder")}
          onInput=${write} onKeyDown=${enter}></textarea>
      </label>
      ${over > 0 && html`<p class="bad" role="alert">${t("compare.too_long", { over, most })}</p>`}
      <div class="row apart settings">
        <div class="row">
          <label class="field narrow">${t("compare.replies")}
            <select value=${n} onChange=${(event) => choose("n", setN)(Number(event.target.value))}>
              ${numbers.map((number) => html`<option key=${number} value=${number}>${number}</option>`)}
            </select>
          </label>
          ${view.opponents.length > 0 &&
          html`<${Opponent} opponents=${view.opponents} chosen=${opponent}
            choose=${choose("opponent", setOpponent)} />`}
        </div>
        <button class="button primary" disabled=${!text.trim() || over > 0}>${t("compare.ask")}</button>
      </div>
    </form>
    ${ideas.length > 0 &&
    html`<section class="stack" aria-labelledby="ideas">
      <div class="row apart">
        <h2 id="ideas">${t("compare.ideas")}</h2>
        <button type="button" class="button small quiet" onClick=${suggest}>
          ${t("compare.other_ideas")}</button>
      </div>
      <ul class="ideas">
        ${ideas.map(
          (idea) => html`<li key=${idea}><button type="button" class="button idea" dir="auto"
              onClick=${() => ask(idea)}>${idea}</button></li>`,
        )}
      </ul>
    </section>`}`;
}

function Opponent({ opponents, chosen, choose }) {
  const name = ({ version, base }) =>
    base ? t("compare.base", { name: named(version) }) : named(version);
  return html`<label class="field">${t("compare.against")}
    <select value=${chosen} onChange=${(event) => choose(event.target.value)}>
      <option value="">${t("compare.against.none")}</option>
      ${opponents.map(
        (one) => html`<option key=${one.adapter} value=${one.adapter}>
          ${t("compare.against.some", { name: name(one) })}</option>`,
      )}
    </select>
  </label>`;
}
