// After a judgement: who wrote the replies, and the next question.
import { html } from "../kit.js";
import { Reasons, useKeys } from "../judging.js";
import { t } from "../words.js";
import { Cards, named, Question } from "./cards.js";

const NO_REASONS = { tags: [], comment: "" };

/** `undo` takes the judgement back, or lets it count again; `explain` says why one chose so. */
export function Revealed({ shown, told, run, round, next, reasons, more, own, undo, explain }) {
  const authors = Object.fromEntries(told.authors.map(({ label, version }) => [label, version]));
  const { choice, place = {} } = told.mine;
  const done = run && run.at >= run.of;
  const onward = told.asked || next;
  useKeys((key) => {
    if (key === "n" && onward) more();
    else if (key === "u" && told.vote) undo();
    else return false;
    return true;
  });
  const saved = told.earlier ? "compare.earlier" : "compare.thanks";
  const outcome = told.undone ? "page.taken_back" : saved;
  const head = (label) => html`<h2>${label.toUpperCase()}
      ${label in place && html`<span class="quiet">${t("compare.place", { place: place[label] })}</span>`}
      ${choice === label && html`<span class="pill">${t("compare.yours")}</span>`}</h2>
    ${label in authors && html`<span class="pill author">${named(authors[label])}</span>`}`;
  const label = told.asked ? "compare.next_asked" : done ? "compare.again" : run ? "compare.next" : "compare.five_more";
  return html`<${Question} prompt=${shown.prompt} />
    <${Cards} replies=${shown.replies} head=${head} marked=${(one) => one === choice} />
    ${choice && told.vote && !told.undone &&
    html`<${Reasons} given=${told.why ?? NO_REASONS} offered=${reasons[choice]} save=${explain} />`}
    <section class="bar stack" aria-label=${t("compare.thanks")}>
      <div class="row">
        <p class="thanks grow"><strong>${t(outcome)}</strong> ${together(told.authors)}</p>
        ${told.vote &&
        html`<button type="button" class="button quiet" aria-keyshortcuts="U" onClick=${undo}>
          ${t(told.undone ? "compare.count_again" : "page.undo")}
          <kbd aria-hidden="true">U</kbd></button>`}
      </div>
      ${done && html`<p role="status">${t("compare.five_done")} ${achieved(round)}</p>`}
      ${onward && !told.asked &&
      html`<p class="quiet">${t("compare.next_is")}: <q dir="auto">${next}</q></p>`}
      <div class="row choices">
        ${onward &&
        html`<button type="button" class="button primary" aria-keyshortcuts="N" onClick=${more}>
          ${t(label)} <kbd aria-hidden="true">N</kbd></button>`}
        <button type="button" class="button" onClick=${own}>${t("compare.own")}</button>
      </div>
    </section>`;
}

/** Who wrote the replies, in one sentence; of many, each card says it. */
function together(authors) {
  if (!authors.length) return "";
  const names = authors.map(({ version }) => named(version));
  if (new Set(names).size === 1) return t("compare.all_by", { name: names[0] });
  if (authors.length > 2) return "";
  return authors.map(({ label }, at) => `${label.toUpperCase()}: ${names[at]}`).join(" · ");
}

/** How far the votes have brought the next round, and what was there five votes ago. */
function achieved(round) {
  const { before, now } = round ?? {};
  if (!now) return "";
  const facts = { round: now.number, votes: now.new, needed: now.needed, before: before?.new };
  if (now.new >= now.needed) return t("compare.round_full", facts);
  const grew = before?.number === now.number && before.new < now.new;
  return t(grew ? "compare.round_grew" : "compare.round_votes", facts);
}
