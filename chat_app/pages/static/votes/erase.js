// Erasing everything: a word to type first, and what was erased.
import { html, useLayoutEffect, useRef, useState } from "../kit.js";
import { call } from "../call.js";
import { place } from "../config.js";
import { Dialog } from "../parts.js";
import { comma, number, t } from "../words.js";

const VOTES = ["thumbs", "choices", "rankings", "demonstrations", "retries"];

/** Asks for the word, in the page's language, so that nothing is erased by mistake. */
export function EraseDialog({ close, done, refused }) {
  const [typed, setTyped] = useState("");
  const [problem, setProblem] = useState("");
  const [busy, setBusy] = useState(false);
  const word = t("votes.erase_word");
  const plain = typed.replace(/[\u2068\u2069]/g, "").trim(); // the marks come with a copied word
  const right = plain.toLocaleLowerCase() === word.toLocaleLowerCase();
  const erase = async (event) => {
    event.preventDefault();
    if (!right || busy) return;
    setBusy(true);
    try {
      const result = await call("votes_erase", true);
      forgetHere();
      done(result);
    } catch (error) {
      setProblem(error.message);
      setBusy(false);
      refused();
    }
  };
  return html`<${Dialog} title=${t("votes.erase_title")} close=${close}>
    <form class="stack" onSubmit=${erase}>
      <p>${t("votes.erase_warning")}</p>
      <label class="field"><span>${t("votes.erase_type")} <b class="word">${word}</b></span>
        <input value=${typed} autocomplete="off" autocapitalize="none" spellcheck=${false} dir="auto"
          onInput=${(event) => setTyped(event.target.value)} /></label>
      ${problem && html`<p class="bad" role="alert" dir="auto">${problem}</p>`}
      <div class="row end">
        <button type="button" class="button" onClick=${close}>${t("page.cancel")}</button>
        <button type="submit" class="button primary danger" disabled=${!right || busy}>
          ${t(busy ? "votes.erasing" : "votes.erase_now")}</button>
      </div>
    </form>
  <//>`;
}

/** What was erased, and what stays elsewhere. */
export function Erased({ erased: { counts, versions, copies, after } }) {
  const heading = useRef();
  useLayoutEffect(() => heading.current.focus(), []);
  if (after !== null)
    return html`<section class="card stack" aria-labelledby="erased">
      <h2 id="erased" tabindex="-1" ref=${heading}>
        ${after ? t("votes.erased_after", { round: after }) : t("votes.erased_soon")}</h2>
      <p>${t(after ? "votes.erased_after_text" : "votes.erased_soon_text")}</p>
      <p><a class="button primary" href=${place("/")}>${t("votes.anew")}</a></p>
    </section>`;
  const votes = VOTES.reduce((sum, kind) => sum + (counts[kind] ?? 0), 0);
  const named = versions.map((one) => (typeof one === "number" ? t("page.version", { number: one }) : one));
  return html`<section class="card stack" aria-labelledby="erased">
    <h2 id="erased" tabindex="-1" ref=${heading}>${t("votes.erased")}</h2>
    <p>${t("votes.erased_counts")}</p>
    <ul>
      <li>${t("votes.erased_conversations", { n: counts.conversations ?? 0 })}</li>
      <li>${t("votes.erased_messages", { n: counts.messages ?? 0 })}</li>
      <li>${t("votes.erased_votes", { n: votes })}</li>
    </ul>
    ${named.length > 0 && html`<p>${t("votes.erased_versions", { versions: named.join(comma) })}</p>`}
    ${copies > 0 && html`<p>${t("votes.erased_copies", { copies: number(copies) })}</p>`}
    <p><a class="button primary" href=${place("/")}>${t("votes.anew")}</a></p>
  </section>`;
}

/** Drafts and marks in this browser are the person's data, too. */
function forgetHere() {
  try {
    localStorage.clear();
    sessionStorage.clear();
  } catch {
    // a browser without storage has kept nothing
  }
}
