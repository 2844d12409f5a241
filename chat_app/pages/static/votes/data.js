// My data: whether my votes count, my id, everything as a file, and erasing everything.
import { html, useEffect, useState } from "../kit.js";
import { call } from "../call.js";
import { place } from "../config.js";
import { attempt, speak } from "../page.js";
import { copied } from "../parts.js";
import { t, when } from "../words.js";
import { EraseDialog, Erased } from "./erase.js";

export function Data() {
  const [about, setAbout] = useState(null);
  const [erased, setErased] = useState(null);
  const [asking, setAsking] = useState(false);
  const [problem, setProblem] = useState("");
  const load = () => call("votes_data").then(setAbout, (error) => setProblem(error.message));
  useEffect(() => {
    load();
  }, []);
  const consent = (given) =>
    attempt(async () => {
      setAbout(await call("votes_consent", given));
      speak(t(given ? "votes.counts" : "votes.counts_not"));
    });

  if (problem) return html`<p class="card bad" role="alert" dir="auto">${problem}</p>`;
  if (erased) return html`<${Erased} erased=${erased} />`;
  if (!about) return html`<p class="quiet">${t("page.loading")}</p>`;
  const waits = about.erasing
    ? t("votes.erase_waits")
    : about.running !== null && t("votes.erase_later", { round: about.running });
  return html`<${Consent} given=${about.consented} change=${consent} />
    <section class="card stack" aria-labelledby="my-id">
      <h2 id="my-id">${t("votes.id")}</h2>
      <p>${t("votes.id_text")}</p>
      <p class="row"><code class="id">${about.id}</code><${Copy} text=${about.id} /></p>
      <p class="quiet">${about.stored
        ? t("votes.stored", { n: about.conversations, when: when(about.since) })
        : t("votes.nothing_stored")}</p>
    </section>
    <section class="card stack" aria-labelledby="my-copy">
      <h2 id="my-copy">${t("votes.download")}</h2>
      <p>${t("votes.download_text")}</p>
      <p><a class="button" href=${place("/v1/me")} download="my-data.json">${t("votes.download_now")}</a></p>
    </section>
    <section class="card stack" aria-labelledby="erase">
      <h2 id="erase">${t("votes.erase")}</h2>
      <p>${t("votes.erase_text")}</p>
      ${waits && html`<p class="wait" role="status">${waits}</p>`}
      <p class="row"><button type="button" class="button outline-bad" onClick=${() => setAsking(true)}
          disabled=${!about.stored || about.erasing}>${t("votes.erase_now")}</button>
        ${about.erasing &&
        html`<button type="button" class="button" onClick=${load}>${t("votes.look_again")}</button>`}</p>
    </section>
    ${asking &&
    html`<${EraseDialog} close=${() => setAsking(false)} refused=${load}
      done=${(result) => (setAsking(false), setErased(result))} />`}`;
}

function Consent({ given, change }) {
  return html`<section class="card stack" aria-labelledby="consent">
    <h2 id="consent">${t("votes.consent")}</h2>
    <p class=${given ? "good" : "wait"}><b>${t(given ? "votes.counts" : "votes.counts_not")}</b></p>
    <p>${t("votes.notice")}</p>
    <p>${given
      ? html`<button type="button" class="button" onClick=${() => change(false)}>${t("votes.withdraw")}</button>`
      : html`<button type="button" class="button primary" onClick=${() => change(true)}>${t("votes.agree")}</button>`}</p>
  </section>`;
}

function Copy({ text }) {
  const copy = () =>
    attempt(async () => {
      await copied(text);
      speak(t("page.copied"));
    });
  return html`<button type="button" class="button small" onClick=${copy}>${t("page.copy")}</button>`;
}
