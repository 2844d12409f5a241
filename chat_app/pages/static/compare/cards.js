// The question and the replies to it, as cards that say nothing of who wrote them.
import { html } from "../kit.js";
import { Markdown } from "../markdown.js";
import { t } from "../words.js";

/** "Version 3", or the name of an adapter that has no number. */
export const named = (version) =>
  typeof version === "number" ? t("compare.version", { number: version }) : version;

/** What the replies answer. */
export function Question({ prompt }) {
  return html`<section class="asked stack" aria-label=${t("compare.asked")}>
    ${prompt.map(
      ([role, content]) => html`<div>
        ${prompt.length > 1 && html`<h2 class="quiet">${t(`compare.speaker.${role}`)}</h2>`}
        <${Markdown} text=${content} />
      </div>`,
    )}
  </section>`;
}

/** The replies side by side; `head` says what stands above each, `tap` what a tap on one does. */
export function Cards({ replies, head, tap, marked = () => false }) {
  const click = (label) => (event) => {
    if (tap && !event.target.closest("a, button") && !getSelection().toString()) tap(label);
  };
  return html`<div class=${`replies n${replies.length}`}>
    ${replies.map(
      ({ label, content, cut }) => html`<article key=${label} onClick=${click(label)}
          class=${`card reply ${tap ? "tap" : ""} ${marked(label) ? "marked" : ""}`}
          aria-label=${t("compare.reply", { label: label.toUpperCase() })}>
        <header class="row apart">${head(label)}</header>
        <${Markdown} text=${content} />
        ${cut && html`<p class="quiet">${t("compare.cut")}</p>`}
      </article>`,
    )}
  </div>`;
}
