// Text of people and models as Markdown, safely: raw HTML stays text, nothing loads from elsewhere.
import { html, useLayoutEffect, useMemo, useRef, useState } from "./kit.js";
import { config } from "./config.js";
import { speak } from "./page.js";
import { copied } from "./parts.js";
import { t } from "./words.js";
import { Marked } from "./vendor/marked.js";
import DOMPurify from "./vendor/purify.js";

let temml = null; // 170 kB, so it is loaded once a text has a formula

/** A text: as Markdown where the service shows that, else as it is. */
export function Markdown({ text, plain = !config.markdown }) {
  const [ready, setReady] = useState(temml !== null);
  const box = useRef();
  const safe = useMemo(() => (plain ? "" : rendered(text)), [text, plain, ready]);
  useLayoutEffect(() => { // with what stands beside it, and no frame later
    if (plain) return;
    box.current.innerHTML = safe; // the only place of the project that does this; see `rendered`
    if (temml === null && safe.includes("data-tex"))
      import("./vendor/temml.js").then((module) => ((temml = module.default), setReady(true)));
  }, [safe, plain]);
  if (plain) return html`<div class="text plain" dir="auto">${text}</div>`;
  return html`<div class="text" dir="auto" ref=${box} onClick=${copyCode}></div>`;
}

function rendered(text) {
  try {
    return DOMPurify.sanitize(marked.parse(text), ALLOWED);
  } catch {
    return `<div class="text plain">${escaped(text)}</div>`; // thousands of quotes in one another
  }
}

// What a reply may be made of. No image and no style: they could ask another host for something.
const ALLOWED = {
  ALLOWED_TAGS: [
    ..."a b blockquote br button code del div em h1 h2 h3 h4 h5 h6 hr i li ol p pre s span".split(" "),
    ..."strong sub sup table tbody td th thead tr ul".split(" "),
    ..."math maction merror mfrac mi mmultiscripts mn mo mover mpadded mphantom mprescripts".split(" "),
    ..."mroot mrow ms mspace msqrt mstyle msub msubsup msup mtable mtd mtext mtr munder".split(" "),
    "munderover",
  ],
  ALLOWED_ATTR: [
    ..."href target rel title start type class data-copy data-tex scope".split(" "),
    ..."display mathvariant stretchy fence separator form minsize maxsize largeop".split(" "),
    ..."movablelimits accent accentunder linethickness displaystyle scriptlevel symmetric dir".split(" "),
  ],
  ALLOWED_URI_REGEXP: /^(?:https?:|mailto:)/i,
  // Of these any value is good. All others have to be an address, so no length moves a formula away.
  ADD_URI_SAFE_ATTR: [
    ..."target rel start type scope display mathvariant stretchy fence separator form".split(" "),
    ..."minsize maxsize largeop movablelimits accent accentunder linethickness".split(" "),
    ..."displaystyle scriptlevel symmetric dir".split(" "),
  ],
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
};

const escaped = (text) =>
  text.replace(/[&<>"]/g, (sign) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[sign]);

const renderer = {
  html: ({ text }) => escaped(text),
  image: ({ text, href }) => escaped(text || href),
  link({ href, tokens }) {
    const shown = this.parser.parseInline(tokens);
    return `<a href="${escaped(href)}" target="_blank" rel="noopener noreferrer nofollow">${shown}</a>`;
  },
  code: ({ text, lang }) =>
    `<div class="code"><div class="code-bar"><span>${escaped(lang ?? "")}</span>` +
    `<button type="button" data-copy="">${escaped(t("page.copy"))}</button></div>` +
    `<pre><code>${escaped(text)}</code></pre></div>`,
  table({ header, rows }) {
    const row = (cells, tag) =>
      `<tr>${cells.map((cell) => `<${tag}>${this.parser.parseInline(cell.tokens)}</${tag}>`).join("")}</tr>`;
    const body = rows.map((cells) => row(cells, "td")).join("");
    return `<div class="scroll"><table class="table"><thead>${row(header, "th")}</thead><tbody>${body}</tbody></table></div>`;
  },
};

// A formula: $$ and \[ alone in a paragraph, $ and \( in a line. As in Pandoc, "$5 and $6" is none.
const FORMULA = /^(?:\$\$([\s\S]+?)\$\$|\\\[([\s\S]+?)\\\]|\\\(([\s\S]+?)\\\)|\$(?!\s)((?:\\.|[^$\\\n])+?)(?<!\s)\$(?!\d))/;
const formula = {
  name: "formula",
  level: "inline",
  start: (source) => source.match(/\$|\\[[(]/)?.index,
  tokenizer(source) {
    const found = FORMULA.exec(source);
    if (!found) return undefined;
    const [raw, dollars, brackets, parens, dollar] = found;
    const block = dollars ?? brackets;
    return { type: "formula", raw, tex: block ?? parens ?? dollar, block: block !== undefined };
  },
  renderer: ({ tex, block }) => drawn(tex, block),
};

function drawn(tex, block) {
  if (temml === null) return `<code data-tex="">${escaped(tex)}</code>`;
  try {
    return temml.renderToString(tex, { displayMode: block, throwOnError: true, trust: false });
  } catch {
    return `<code>${escaped(tex)}</code>`;
  }
}

const marked = new Marked({ gfm: true, breaks: true, async: false });
marked.use({ renderer, extensions: [formula] });

async function copyCode(event) {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  await copied(button.closest(".code").querySelector("code").textContent);
  speak(t("page.copied"));
  button.textContent = t("page.copied");
  setTimeout(() => (button.textContent = t("page.copy")), 2000);
}
