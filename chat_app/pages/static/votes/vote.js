// One vote: what was said, about what, what became of it.
import { html } from "../kit.js";
import { place } from "../config.js";
import { Ordered, reason } from "../judging.js";
import { sentence, t, when } from "../words.js";

const ICONS = { taught: "✓", tested: "≈", waiting: "…", alone: "○", nothing: "–" };

/** What the person said, with the reasons. */
export function said(vote) {
  return [sentence(vote.said), ...vote.reasons.map(reason)].join(" · ");
}

export function Vote({ vote, undo }) {
  const { state, conversation_id, message_id } = vote;
  const query = new URLSearchParams({ c: conversation_id ?? "", m: message_id ?? "" });
  return html`<li class="card vote">
    <div class="row apart">
      <h2>${said(vote)}</h2>
      <span class=${`pill ${state}`}><span aria-hidden="true">${ICONS[state]}</span>
        ${t(`votes.state.${state}`)}</span>
    </div>
    ${vote.about && html`<p class="about" dir="auto">${vote.about}</p>`}
    ${vote.order.length > 0 && html`<${Ranked} order=${vote.order} />`}
    ${vote.comment && html`<p dir="auto">${t("votes.comment", { comment: vote.comment })}</p>`}
    <p>${vote.became.map(sentence).join(" ")}</p>
    <div class="row apart foot">
      <time class="quiet" datetime=${vote.at}>${when(vote.at)}</time>
      <span class="row">
        ${conversation_id &&
        html`<a class="button small quiet" href=${`${place("/")}?${query}`}>${t("votes.open")}</a>`}
        ${vote.can_undo &&
        html`<button type="button" class="button small" onClick=${undo}
            aria-label=${t("votes.undo_of", { said: said(vote) })}>${t("votes.undo")}</button>`}
      </span>
    </div>
  </li>`;
}

/** The order of a ranking, and what was ranked. */
function Ranked({ order }) {
  const labels = order.map((group) => group.map(({ label }) => label));
  return html`<p class="number"><${Ordered} groups=${labels} /></p>
    <ul class="ranked">
      ${order.flat().map(
        ({ label, content }) => html`<li key=${label}><b>${label.toUpperCase()}</b>
          <span dir="auto">${content}</span></li>`,
      )}
    </ul>`;
}
