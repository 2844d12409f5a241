// The messages of one branch, and at its end what is being written or has to be chosen.
import { html, useEffect, useRef } from "../kit.js";
import { config } from "../config.js";
import { t } from "../words.js";
import { Markdown } from "../markdown.js";
import { Reply, Said } from "./message.js";
import { Pair } from "./pair.js";

export function Transcript({
  view, texts, sending, opening, note, receipts, actions, example, unsent,
}) {
  const all = useRef();
  const { messages } = view;
  const asked = sending !== null ? "sending" : messages.findLast(({ role }) => role === "user")?.id;
  useEffect(() => {
    // My message goes to the top, its reply below.
    all.current?.lastElementChild.scrollIntoView({ block: "start" });
  }, [asked, view.conversation_id]);

  // A turn keeps its place when the next one begins: with it a question, or a text not yet saved.
  const turns = [];
  messages.forEach((one, at) => {
    if (one.role === "user" || !turns.length) turns.push([]);
    turns.at(-1).push([one, at]);
  });
  const shown = ([one, at]) =>
    one.role === "user"
      ? html`<${Said} key=${one.id || at} message=${one} actions=${actions} busy=${view.writing}
          unsent=${unsent?.id === one.id ? unsent.text : undefined} />`
      : html`<${Reply} key=${one.id || at} message=${one} actions=${actions} opening=${opening}
          note=${note?.id === one.id ? note : null}
          receipts=${receipts.filter((vote) => isAbout(vote, one))} last=${at === messages.length - 1} />`;
  const unanswered =
    messages.at(-1)?.role === "user" && !view.writing && !view.pair && sending === null;

  if (!messages.length && sending === null && !view.writing)
    return html`<${Welcome} opening=${opening} example=${example} />`;
  const begun = sending !== null || !turns.length ? [...turns, null] : turns;
  const newest = html`
    ${(view.writing || sending !== null) && html`<${Written} texts=${texts} two=${view.two} />`}
    ${view.pair &&
    html`<${Pair} key=${view.pair.id} a=${view.pair.a.content} b=${view.pair.b.content} focus
      title=${t("chat.which")} skipped=${view.pair.skipped} actions=${actions}
      choose=${actions.choose} skip=${actions.skip} />`}
    ${unanswered &&
    html`<p class="row wait">${t("chat.not_answered")}
      <button type="button" class="button small" onClick=${() => actions.again(messages.at(-1).id)}>
        ${t("page.try_again")}</button></p>`}`;
  return html`<section class="transcript" tabindex="0" aria-label=${t("chat.conversation")} ref=${all}>
    <h1 class="sr">${view.title || t("chat.conversation")}</h1>
    ${begun.map(
      (ones, at) => html`<div class="turn" key=${ones ? ones[0][0].id || at : "sending"}>
        ${ones?.map(shown)}
        ${!ones && sending !== null &&
        html`<article class="said"><${Markdown} text=${sending} plain /></article>`}
        ${at === begun.length - 1 && newest}
      </div>`,
    )}
  </section>`;
}

const isAbout = (vote, { id, candidates_id }) =>
  vote.candidates_id ? vote.candidates_id === candidates_id : vote.message_id === id;

/** What is written at present; screen readers hear it once, when it is complete. */
function Written({ texts, two }) {
  if (!texts) return html`<p class="writing" aria-hidden="true"><i></i><i></i><i></i></p>`;
  if (two)
    return html`<div class="pair" aria-busy="true">
      ${["a", "b"].map(
        (label) => html`<div class="card" key=${label}><h2>${label.toUpperCase()}</h2>
          <${Markdown} text=${texts[label] ?? ""} /></div>`,
      )}
    </div>`;
  return html`<article class="reply" aria-busy="true"><${Markdown} text=${texts.a ?? ""} /></article>`;
}

function Welcome({ opening, example }) {
  return html`<section class="welcome stack">
    <h1 dir="auto">${config.brand.welcome ?? t("chat.welcome")}</h1>
    <p class="quiet" dir="auto">${config.brand.about ?? t("chat.about")}</p>
    <div class="row examples">
      ${(config.brand.examples ?? opening.examples).map(
        (text) => html`<button type="button" class="button" dir="auto" key=${text} onClick=${() => example(text)}>
          ${text}</button>`,
      )}
    </div>
  </section>`;
}
