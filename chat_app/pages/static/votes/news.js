// What is told once: a new version answers, and how many of one's votes taught it.
import { html, useEffect, useState } from "../kit.js";
import { call } from "../call.js";
import { config } from "../config.js";
import { number, t } from "../words.js";

const SEEN = `seen-version:${config.root}`; // the browser remembers which version it has told of

/** The banner; it stays until the page is left or it is closed, and comes once for a version. */
export function News() {
  const [news, setNews] = useState(null);
  useEffect(() => {
    call("votes_news").then(told, () => {}); // without news the page is whole, too
  }, []);
  const told = (found) => {
    if (found.taught && found.version > Number(read())) setNews(found);
    write(found.version);
  };
  if (!news) return null;
  return html`<div class="card news row apart" role="status">
    <b>${t("page.news", { n: news.taught, version: number(news.version) })}</b>
    <button type="button" class="button small quiet icon" aria-label=${t("page.close")}
        onClick=${() => setNews(null)}>×</button>
  </div>`;
}

// A browser may allow no storage; then the news comes at every visit.
function read() {
  try {
    return localStorage.getItem(SEEN) ?? 0;
  } catch {
    return 0;
  }
}

function write(version) {
  try {
    localStorage.setItem(SEEN, version);
  } catch {
    // nothing is lost
  }
}
